"""Sequences of payments, invoices, runs, sends, crashes, faults and days: nobody twice, nobody forgotten (RULES 9)."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sending_world import World
from starlette.types import ASGIApp, Receive, Scope, Send
from support import MovingClock

from dunning_pipeline.errors import SendingRefused
from dunning_pipeline.outbox import Outbox
from dunning_pipeline.recording import Target
from dunning_pipeline.sandbox.klaviyo import (
    ALL_SCOPES,
    DEFAULT_KEY,
    FAULTS,
    KlaviyoAccount,
    create_app,
    serving,
)
from dunning_pipeline.tables import INVOICES

CUSTOMER_IDS = ("c1", "c2", "c3", "c4")
PER_REQUEST = 2
QUICK_FAULTS = sorted(name for name in FAULTS if not name.startswith(("slow", "silent")))
POINTS = ("before attempts", "before request", "before record", "after record")

FEW = settings(
    max_examples=6,
    stateful_step_count=7,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MANY = settings(
    FEW, max_examples=200, stateful_step_count=15, derandomize=False, phases=[Phase.generate, Phase.shrink],
    print_blob=True,
)  # fmt: skip


class Crash(BaseException):
    """Stands for a process that is killed."""


@dataclass(frozen=True)
class Watched(Outbox):
    """An outbox that calls `reached` with each of the POINTS that a send passes."""

    reached: Callable[[str], None] = lambda _: None

    def begin_attempts(self, *arguments: Any, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        self.reached("before attempts")
        begun = super().begin_attempts(*arguments, **options)
        self.reached("before request")
        return begun

    def record_results(self, *arguments: Any, **options: Any) -> None:
        self.reached("before record")
        super().record_results(*arguments, **options)
        self.reached("after record")


class Door:
    """One address for the accounts of all examples, one after the other."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@cache
def _first_morning() -> tuple[TemporaryDirectory[str], World]:
    """A business of four customers with two invoices each, and its first batch, made once and copied."""
    folder = TemporaryDirectory()
    world = World(Path(folder.name) / "home", "http://127.0.0.1:1", MovingClock())
    for customer_id in CUSTOMER_IDS:
        world.customer(customer_id)
        world.invoice(f"{customer_id}-1", customer_id, "100.00", days_overdue=2)
        world.invoice(f"{customer_id}-2", customer_id, "50.00", days_overdue=1)
    world.decide()
    return folder, world


class SendingMachine(RuleBasedStateMachine):
    """A business over some days. What Klaviyo recorded is compared with the history and the books at the end."""

    door: ClassVar[Door] = Door()
    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        _, morning = _first_morning()
        home = Path(self.stack.enter_context(TemporaryDirectory())) / "home"
        shutil.copytree(morning.home, home)
        clock = MovingClock(morning.clock.now)
        books = {table: {key: dict(row) for key, row in rows.items()} for table, rows in morning.books.items()}
        self.world = World(home, self.url, clock, books=books, runs=morning.runs)
        self.paid_at: dict[str, datetime] = {}
        self.unpaid = list(books[INVOICES])

    @initialize(reading=st.booleans())
    def open_account(self, reading: bool) -> None:
        scopes = ALL_SCOPES if reading else {"events:write"}
        self.account = KlaviyoAccount({DEFAULT_KEY: scopes}, clock=self.world.clock, rates=None)
        self.reading = reading
        self.door.app = create_app(self.account)

    @precondition(lambda self: self.unpaid)
    @rule(data=st.data())
    def pay(self, data: st.DataObject) -> None:
        self._pay(data.draw(st.sampled_from(self.unpaid)))

    @rule(customer_id=st.sampled_from(CUSTOMER_IDS), days_overdue=st.sampled_from([0, 1, 5]))
    def bill(self, customer_id: str, days_overdue: int) -> None:
        invoice_id = f"{customer_id}-{len(self.world.books[INVOICES])}n"
        self.world.invoice(invoice_id, customer_id, "30.00", days_overdue)
        self.unpaid.append(invoice_id)
        self._pull()

    @rule(customer_id=st.sampled_from(CUSTOMER_IDS), call=st.booleans())
    def hold(self, customer_id: str, call: bool) -> None:
        if call:
            self.world.record.contact(customer_id, self.world.today)
        else:
            self.world.record.pause(Target("customer", customer_id), self.world.today)

    @rule()
    def run(self) -> None:
        self.world.decide()

    @rule()
    def next_day(self) -> None:
        self.world.clock.advance(days=1)
        self.world.decide()

    @rule(minutes=st.sampled_from([1, 20]))
    def wait(self, minutes: int) -> None:
        self.world.clock.advance(minutes=minutes)

    @rule(
        faults=st.lists(st.sampled_from([None, *QUICK_FAULTS]), max_size=6),
        point=st.sampled_from(POINTS),
        passed=st.integers(0, 2),
        event=st.sampled_from(["nothing", "nothing", "crash", "pay", "pay"]),
        data=st.data(),
    )
    def send(self, faults: list[str | None], point: str, passed: int, event: str, data: st.DataObject) -> None:
        """Sends; at a point that was passed so often already the process is killed, or somebody's payment is pulled."""
        self.account.faults.plan([FAULTS[name] if name else None for name in faults])
        invoice_id = data.draw(st.sampled_from(self.unpaid)) if event == "pay" and self.unpaid else None
        left = [passed]

        def reached(now: str) -> None:
            if now != point:
                return
            left[0] -= 1
            if left[0] == -1 and event == "crash":
                raise Crash
            # A payment that comes between the attempt's record and the request is too late for it.
            if left[0] == -1 and invoice_id and now in ("before attempts", "after record"):
                self._pay(invoice_id)

        self._send(reached)
        self.account.faults.clear()

    def _send(self, reached: Callable[[str], None]) -> None:
        outbox = Watched(self.world.warehouse, "invoice", reached)
        try:
            self.world.send(outbox, replace(self.world.settings, events_per_request=PER_REQUEST))
        except (Crash, SendingRefused):
            self.world.clock.advance(seconds=1)

    def _pay(self, invoice_id: str) -> None:
        self.unpaid.remove(invoice_id)
        invoice = self.world.books[INVOICES][invoice_id]
        self.world.payment(invoice["customer_id"], invoice_id, invoice["total"])
        self._pull()
        self.paid_at[invoice_id] = self.world.clock()
        self.world.clock.advance(seconds=1)

    def _pull(self) -> None:
        self.world.pull()
        self.world.clock.advance(seconds=1)

    def teardown(self) -> None:
        if hasattr(self, "account"):
            self._send(lambda _: None)
            self._check_history()
            self._check_decided()
            self._check_recorded()
        self.stack.close()

    def _check_history(self) -> None:
        """What Klaviyo recorded is in the history: accepted, or as something that it may have accepted."""
        history = self.world.warehouse.fetch("select reminder_id, attempt, outcome from dunning.sent_history")
        accepted = set(history.loc[history["outcome"] == "accepted", "reminder_id"])
        recorded = {event.unique_id for event in self.account.events}
        assert accepted <= recorded
        assert recorded - accepted <= self._uncertain(of_today=True) | self._uncertain(of_today=False)
        if self.reading:
            assert recorded - accepted <= self._uncertain(of_today=False)

    def _check_decided(self) -> None:
        """Each reminder of each batch was recorded, has a final outcome, or is unknown since a day that is over."""
        decided = self.world.warehouse.fetch("select reminder_id, batch_id from dunning.reminders")
        settled = self.world.warehouse.fetch(
            "select distinct reminder_id, batch_id from dunning.sent_history"
            " where outcome in ('accepted', 'rejected', 'dropped', 'superseded')"
        )
        known = {event.unique_id for event in self.account.events} | self._uncertain(of_today=False)
        open_ones = decided[~decided["reminder_id"].isin(known)].merge(
            settled, on=["reminder_id", "batch_id"], how="left", indicator=True
        )
        assert open_ones[open_ones["_merge"] == "left_only"].empty

    def _check_recorded(self) -> None:
        """Nobody got anything twice, or two reminders on a day, or one about what was known to be paid."""
        events = self.account.events
        ids = [event.unique_id for event in events]
        assert len(ids) == len(set(ids))
        days = [(event.properties["customer_id"], event.received_at.date()) for event in events]
        assert len(days) == len(set(days))
        for event in events:
            for listed in event.properties["invoices"]:
                paid_at = self.paid_at.get(listed["number"])
                assert paid_at is None or event.received_at <= paid_at

    def _uncertain(self, *, of_today: bool) -> set[str]:
        """Reminders with an attempt of which nobody knows what came."""
        rows = self.world.warehouse.fetch(
            "select reminder_id from dunning.sent_history group by reminder_id, attempt"
            " having bool_and(outcome in ('attempting', 'unknown')) and bool_or(contact_on = $today) = $of_today",
            {"today": self.world.today, "of_today": of_today},
        )
        return set(rows["reminder_id"])


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with serving(SendingMachine.door) as SendingMachine.url:
        yield
    _first_morning.cache_clear()


def test_nobody_is_reminded_twice_or_forgotten_whatever_happens() -> None:
    run_state_machine_as_test(SendingMachine, settings=FEW)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_nobody_is_reminded_twice_or_forgotten_in_many_sequences() -> None:
    run_state_machine_as_test(SendingMachine, settings=MANY)
