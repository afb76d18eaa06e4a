"""What is pulled or recorded between the decision and the moment a chunk leaves (RULES 9.4)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sending_world import POLICY, World
from support import MovingClock

from dunning_pipeline.outbox import Outbox
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.recheck import recheck_of
from dunning_pipeline.recording import Target
from dunning_pipeline.resources.changes import latest_change_since
from dunning_pipeline.sandbox.klaviyo import Fault, KlaviyoAccount, running
from dunning_pipeline.sending import MOST_LOOKS
from dunning_pipeline.tables import CUSTOMERS, INVOICES, PAYMENTS

CUSTOMER_IDS = [
    "paying", "paying-a-part", "crediting", "billed-older", "billed-anew", "voided", "disputing", "written-off",
    "paused", "promising", "called", "unassigned", "without-address", "renamed", "unchanged",
]  # fmt: skip


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock()


@pytest.fixture
def account(clock: MovingClock) -> KlaviyoAccount:
    return KlaviyoAccount(clock=clock, rates=None)


@pytest.fixture
def world(tmp_path: Path, account: KlaviyoAccount, clock: MovingClock) -> Iterator[World]:
    with running(account) as url:
        yield World(tmp_path, url, clock)


def reminded(account: KlaviyoAccount) -> list[str]:
    return [event.properties["customer_id"] for event in account.events]


@dataclass(frozen=True)
class Interrupted(Outbox):
    """An outbox beside which something happens: before the attempts of each chunk, and after its outcome."""

    before_attempts: Callable[[], None] = lambda: None
    after_outcome: Callable[[], None] = lambda: None

    def begin_attempts(self, *arguments: Any, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
        self.before_attempts()
        return super().begin_attempts(*arguments, **options)

    def record_results(self, *arguments: Any, **options: Any) -> None:
        super().record_results(*arguments, **options)
        self.after_outcome()


def change_everything(world: World) -> None:
    """Something happens to each customer, as its id says."""
    world.payment("paying", "paying-1", "100.00")
    world.payment("paying-a-part", "paying-a-part-2", "20.00")
    world.payment("crediting", "", "150.00")
    world.invoice("billed-older-0", "billed-older", "10.00", days_overdue=5)
    world.invoice("billed-anew-3", "billed-anew", "10.00", days_overdue=0)
    day = world.today.isoformat()
    world.enter(INVOICES, invoice_id="voided-2", voided_on=day)
    world.enter(INVOICES, invoice_id="disputing-1", disputed_on=day)
    world.enter(INVOICES, invoice_id="written-off-2", written_off_on=day)
    world.enter(CUSTOMERS, customer_id="without-address", email="")
    world.enter(CUSTOMERS, customer_id="renamed", name="Another name")
    world.pull()
    world.record.pause(Target("customer", "paused"), world.today)
    world.record.promise("promising", world.today, "promising-2")
    world.record.contact("called", world.today)
    world.record.assign("unassigned", "unassigned", world.today)


def test_reminders_are_dropped_for_what_was_pulled_or_recorded_since_their_decision(
    world: World, account: KlaviyoAccount
) -> None:
    for customer_id in CUSTOMER_IDS:
        world.customer(customer_id)
        world.invoice(f"{customer_id}-1", customer_id, "100.00", days_overdue=2)
        world.invoice(f"{customer_id}-2", customer_id, "50.00", days_overdue=1)
    world.decide()
    change_everything(world)
    report = world.send()
    since = "changed since it was decided: "
    assert {customer_id: detail for customer_id, outcome, detail in world.outcomes() if outcome == "dropped"} == {
        "paying": since + "another invoice carries",
        "paying-a-part": since + "invoice paying-a-part-2 is 30.00 of 50.00 EUR, not 50.00 of 50.00 EUR",
        "crediting": since + "it is not due now: net_balance_not_positive",
        "billed-older": since + "another invoice carries",
        "billed-anew": since + "invoice billed-anew-3 is listed now, with 10.00 of 10.00 EUR",
        "voided": since + "invoice voided-2 is no longer listed with 50.00 of 50.00 EUR",
        "disputing": since + "another invoice carries",
        "written-off": since + "invoice written-off-2 is no longer listed with 50.00 of 50.00 EUR",
        "paused": since + "it is not due now: customer_paused",
        "promising": since + "invoice promising-2 is no longer listed with 50.00 of 50.00 EUR",
        "called": since + "it is not due now: minimum_contact_delay",
        "unassigned": since + "it is not due now: no_workflow",
        "without-address": since + "it is not due now: no_contact_address",
    }
    assert reminded(account) == ["renamed", "unchanged"]
    assert (report.left, report.requests) == (0, 1)

    world.clock.advance(hours=1)
    world.decide()
    world.send()
    assert reminded(account)[2:] == [
        "billed-anew", "billed-older", "disputing", "paying", "paying-a-part", "promising", "voided", "written-off",
    ]  # fmt: skip


def one_by_one(*steps: Callable[[], object]) -> Callable[[], None]:
    """Does the first step when it is called, then the second one, and after the last one nothing."""
    left = list(steps)

    def go_on() -> None:
        if left:
            left.pop(0)()

    return go_on


def owing(world: World, *customer_ids: str) -> None:
    """A batch of a reminder for each of them, decided after a pull of the books."""
    for customer_id in customer_ids:
        world.customer(customer_id)
        world.invoice(f"{customer_id}-1", customer_id, "100.00")
    world.decide()


def test_without_a_change_nothing_is_decided_again(world: World, account: KlaviyoAccount) -> None:
    owing(world, "c1", "c2")
    batch = world.outbox.newest_live()
    assert batch is not None
    assert recheck_of(batch, world.outbox, world.settings).covers(world.outbox.to_send(batch.batch_id))
    # The source tables are gone: had they been asked, the reminders would have been dropped.
    with world.warehouse.transaction() as connection:
        connection.execute("delete from source.invoices")
    assert world.send().accepted == 2
    assert reminded(account) == ["c1", "c2"]


def test_a_pull_that_finds_nothing_new_drops_nobody(world: World, account: KlaviyoAccount) -> None:
    owing(world, "c1")
    world.pull()
    assert world.send().outcomes == {"accepted": 1}


def test_a_payment_pulled_between_two_chunks_keeps_the_second_one_back(world: World, account: KlaviyoAccount) -> None:
    owing(world, "c1", "c2", "c3")

    def pay() -> None:
        world.payment("c2", "c2-1", "100.00")
        world.pull(PAYMENTS)

    outbox = Interrupted(world.warehouse, "invoice", after_outcome=one_by_one(pay))
    report = world.send(outbox, replace(world.settings, events_per_request=1))
    assert report.outcomes == {"accepted": 2, "dropped": 1}
    assert reminded(account) == ["c1", "c3"]
    assert world.outcomes()[1][1:] == ("dropped", "changed since it was decided: nothing is owed any more")


def test_a_payment_recorded_while_customers_are_looked_at_again_is_not_missed(
    world: World, account: KlaviyoAccount
) -> None:
    owing(world, "c1", "c2")
    steps = one_by_one(lambda: world.pull(CUSTOMERS), lambda: world.record.pause(Target("customer", "c2"), world.today))
    outbox = Interrupted(world.warehouse, "invoice", before_attempts=steps)
    assert world.send(outbox).outcomes == {"accepted": 1, "dropped": 1}
    assert reminded(account) == ["c1"]


def test_when_changes_never_end_the_run_stops_and_the_next_one_goes_on(world: World, account: KlaviyoAccount) -> None:
    owing(world, "c1")
    outbox = Interrupted(world.warehouse, "invoice", before_attempts=lambda: world.pull(CUSTOMERS))
    report = world.send(outbox)
    assert f"each of the {MOST_LOOKS} times that its reminders were looked at again" in str(report.error)
    assert (report.left, account.events) == (1, [])
    assert world.send().accepted == 1


def test_a_chunk_without_an_answer_is_dropped_where_it_was_paid_before_the_next_try(
    world: World, account: KlaviyoAccount
) -> None:
    owing(world, "c1")

    def pay() -> None:
        world.payment("c1", "c1-1", "100.00")
        world.pull(PAYMENTS)

    account.faults.plan([Fault.status(503)])
    outbox = Interrupted(world.warehouse, "invoice", after_outcome=pay)
    assert world.send(outbox).outcomes == {"dropped": 1}
    assert account.events == []


def test_another_policy_counts_as_a_change(world: World, account: KlaviyoAccount) -> None:
    owing(world, "c1")
    paused = parse_policy(POLICY.replace("first_day: 2024-01-01", "first_day: 2024-01-01, paused: true"))
    assert world.send(settings=replace(world.settings, loaded=paused)).outcomes == {"dropped": 1}
    assert account.events == []


def test_a_change_of_another_run_counts_from_the_batchs_own_first_pull(world: World) -> None:
    """What comes between its pull and its decision may have been missed."""

    def latest(batch_id: str) -> int:
        with world.warehouse.transaction() as connection:
            return latest_change_since(connection, batch_id, "invoice")

    world.pull(run_id="earlier")
    world.pull(CUSTOMERS, run_id="batch")
    assert latest("batch") == 0
    world.pull(INVOICES, run_id="another")
    world.pull(PAYMENTS, run_id="batch")
    assert latest("batch") == 5
    assert latest("a run that pulled nothing") == 6


def test_everything_that_people_record_is_a_change(world: World) -> None:
    owing(world, "c1")

    def changes() -> int:
        return int(world.warehouse.fetch("select count(*) as n from dunning.changes")["n"].iloc[0])

    for act in (
        lambda: world.record.pause(Target("organisation"), world.today),
        lambda: world.record.resume(Target("organisation")),
        lambda: world.record.promise("c1", world.today),
        lambda: world.record.withdraw(world.warehouse.fetch("select promise_id from source.promises").iloc[0, 0]),
        lambda: world.record.assign("c1", "unassigned", world.today),
        lambda: world.record.contact("c1", world.today),
    ):
        before = changes()
        act()
        assert changes() == before + 1
