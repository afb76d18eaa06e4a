"""Sending over a real warehouse and the sandbox: attempt, request, record, and everything that may go wrong."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import pandas as pd
import pytest
from filelock import FileLock
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send
from support import MovingClock, Pipeline, settings_at
from test_outbox import POLICY_TEXT, body, empty_warehouse, freeze, reminders
from test_sensors import add_with_batch

from dunning_pipeline import sql
from dunning_pipeline.errors import InvalidRows, SendingRefused
from dunning_pipeline.outbox import Outbox
from dunning_pipeline.recheck import Recheck
from dunning_pipeline.resources.changes import note_change
from dunning_pipeline.resources.klaviyo import (
    BULK_HEAD,
    BULK_TAIL,
    MOST_ATTEMPTS,
    MOST_BYTES,
    MOST_EVENTS,
    MOST_SECONDS_WAITED,
    MOST_THROTTLED_ATTEMPTS,
    InvalidEvents,
    OutcomeUnknown,
    RequestRefused,
    Throttled,
)
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import DAILY_JOB, PARTITION_TAG
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount, create_app, serving
from dunning_pipeline.sending import MOST_UNANSWERED_IN_A_ROW, Report, chunks, may_send, send_batch
from dunning_pipeline.settings import Settings

TODAY = date(2025, 3, 12)
MORNING = datetime(2025, 3, 12, 8, 30, tzinfo=UTC)
KEY = "pk_0123456789abcdef"
WRITING = {"events:write"}
"""Scopes of a key that may not look up what Klaviyo has."""
ALWAYS = range(1, 1_000)


@dataclass
class Desk:
    """An outbox with the settings, the clock and the account that its batches are sent with."""

    settings: Settings
    clock: MovingClock
    outbox: Outbox
    account: KlaviyoAccount
    frozen: list[str] = field(default_factory=list)

    def freeze(self, ids: Sequence[str], bodies: Sequence[str] | None = None, **options: Any) -> str:
        """Freezes a batch of today and returns its id."""
        batch_id = f"batch-{len(self.frozen) + 1}"
        today = {"at": self.clock(), "as_of": self.settings.today(), "policy": self.settings.policy}
        freeze(self.outbox, batch_id, reminders(ids, bodies), **{**today, **options})
        self.frozen.append(batch_id)
        self.clock.advance(minutes=1)
        return batch_id

    def send(self, batch_id: str | None = None, *, confirmed: bool = False, **environment: str) -> Report:
        """Sends a batch, a minute after what was done before."""
        settings = replace(self.settings, environment={**self.settings.environment, **environment})
        report = send_batch(batch_id, self.outbox, settings, confirmed=confirmed)
        self.clock.advance(minutes=1)
        return report

    def with_policy(self, text: str) -> None:
        """Goes on with another policy."""
        self.settings = settings_at(self.settings.home, text, self.clock, self.settings.environment)

    def outcomes(self) -> dict[str, list[str]]:
        """The outcomes of each reminder in the order of its attempts, `attempting` and `superseded` left out."""
        rows = self.outbox.warehouse.fetch(
            "select reminder_id, list(outcome order by attempt) as outcomes from dunning.sent_history"
            " where outcome not in ('attempting', 'superseded') group by all order by all"
        )
        return {row.reminder_id: list(row.outcomes) for row in rows.itertuples()}

    def attempts(self) -> dict[str, int]:
        """How often each reminder was attempted."""
        rows = self.outbox.warehouse.fetch(
            "select reminder_id, count(*) as n from dunning.sent_history where outcome = 'attempting' group by all"
        )
        return dict(zip(rows["reminder_id"], rows["n"], strict=True))

    def contacts(self) -> dict[str, str]:
        """What the rules see of the history: the kind of contact of each reminder."""
        with self.outbox.warehouse.transaction() as connection:
            connection.execute(
                "create or replace temp table known as select distinct customer_id from dunning.reminders"
            )
            connection.execute(
                "insert into source.customer_keys by name select customer_id, row_number() over () as customer_key"
                " from known where customer_id not in (select customer_id from source.customer_keys)"
            )
        rows = self.outbox.warehouse.fetch(sql.load("contacts"), {"last": date(2100, 1, 1)})
        return dict(zip(rows["reminder_id"], rows["kind"], strict=True))

    def state(self, batch_id: str) -> str:
        batch = self.outbox.batch(batch_id)
        assert batch is not None
        return batch.state

    def sent_ids(self) -> list[str]:
        return [event.unique_id for event in self.account.events]


@pytest.fixture
def clock() -> MovingClock:
    return MovingClock(MORNING)


@pytest.fixture
def account(clock: MovingClock) -> KlaviyoAccount:
    return KlaviyoAccount({DEFAULT_KEY: WRITING}, clock=clock, rates=None)


@dataclass
class Klaviyo:
    """The server of all tests of this module; each test has an account of its own behind it.

    `on_request` is called with each request's number, from 1, before the account handles it; the answers to the
    requests numbered in `lost` are cut off after it did. Those in `refused` get that status and a header instead,
    and the account never sees them.
    """

    url: str = ""
    account: KlaviyoAccount = field(default_factory=KlaviyoAccount)
    on_request: Callable[[int], None] = lambda _: None
    lost: Sequence[int] = ()
    refused: Mapping[int, int] = field(default_factory=dict)
    retry_after: int = 7
    pointer: str | None = None
    seen: int = 0

    def become(self, account: KlaviyoAccount) -> None:
        self.account, self.on_request, self.lost, self.seen = account, lambda _: None, (), 0
        self.refused, self.retry_after, self.pointer = {}, 7, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen += 1
        self.on_request(self.seen)
        if status := self.refused.get(self.seen):
            await Request(scope, receive).body()
            code = "throttled" if status == 429 else "invalid"
            errors = [{"code": code, "detail": "no", "source": {"pointer": self.pointer}}]
            await JSONResponse({"errors": errors}, status, {"Retry-After": str(self.retry_after)})(scope, receive, send)
            return
        lost = self.seen in self.lost
        await create_app(self.account)(scope, receive, nothing if lost else send)
        if lost:
            await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"9")]})


async def nothing(message: Message) -> None:
    """Takes an answer and passes it on to nobody."""


@pytest.fixture(scope="module")
def server() -> Iterator[Klaviyo]:
    klaviyo = Klaviyo()
    with serving(klaviyo) as klaviyo.url:
        yield klaviyo


@pytest.fixture
def klaviyo(server: Klaviyo, account: KlaviyoAccount) -> Klaviyo:
    server.become(account)
    return server


@pytest.fixture
def desk(tmp_path: Path, clock: MovingClock, account: KlaviyoAccount, klaviyo: Klaviyo) -> Desk:
    settings = settings_at(tmp_path, POLICY_TEXT, clock, {"KLAVIYO_URL": klaviyo.url})
    return Desk(settings, clock, Outbox(empty_warehouse(settings.warehouse_path), "invoice"), account)


def of_bodies(bodies: Sequence[str]) -> pd.DataFrame:
    return reminders([f"r-{n}" for n in range(len(bodies))], bodies)


def test_chunks_hold_a_thousand_events_at_most_in_their_order() -> None:
    pending = of_bodies(["{}"] * (2 * MOST_EVENTS + 500))
    cut = list(chunks(pending))
    assert [len(chunk) for chunk in cut] == [MOST_EVENTS, MOST_EVENTS, 500]
    pd.testing.assert_frame_equal(pd.concat(cut), pending)


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_chunks_hold_five_megabytes_at_most(character: str) -> None:
    pending = of_bodies([character * (700_000 // len(character.encode()))] * 20)
    cut = list(chunks(pending))
    sizes = [len((BULK_HEAD + ",".join(chunk["body"]) + BULK_TAIL).encode()) for chunk in cut]
    assert max(sizes) <= MOST_BYTES
    assert [len(chunk) for chunk in cut] == [7, 7, 6]


def test_a_chunk_may_be_filled_to_the_last_byte() -> None:
    room = MOST_BYTES - len(BULK_HEAD) - len(BULK_TAIL)
    first, second = "x" * (room // 2), "x" * (room - room // 2 - 2)
    assert [len(chunk) for chunk in chunks(of_bodies([first, second]))] == [2]
    assert [len(chunk) for chunk in chunks(of_bodies([first, second + "xx"]))] == [1, 1]


def test_a_body_too_large_for_any_chunk_goes_alone() -> None:
    cut = list(chunks(of_bodies(["small", "x" * (MOST_BYTES + 1), "small"])))
    assert [len(chunk) for chunk in cut] == [1, 1, 1]


def test_nothing_pending_makes_no_chunk() -> None:
    assert list(chunks(of_bodies([]))) == []


def test_the_same_id_twice_within_a_request_is_refused_before_anything_leaves(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1", "r-2"])
    with desk.outbox.warehouse.transaction() as connection:
        connection.execute("insert into dunning.reminders from dunning.reminders where reminder_id = 'r-1'")
    report = desk.send(batch_id)
    assert isinstance(report.error, InvalidRows)
    assert "reminder_id" in str(report.error)
    assert (desk.account.requests, desk.outcomes()) == ([], {})


def test_a_batch_is_sent_and_its_outcomes_are_recorded(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1", "r-2", "r-3"])
    report = desk.send(batch_id)
    assert desk.sent_ids() == ["r-1", "r-2", "r-3"]
    assert desk.outcomes() == {"r-1": ["accepted"], "r-2": ["accepted"], "r-3": ["accepted"]}
    assert (report.accepted, report.left, report.requests, report.error) == (3, 0, 1, None)
    assert desk.state(batch_id) == "sent"
    assert set(desk.contacts().values()) == {"accepted"}


def test_without_an_id_the_newest_live_batch_is_sent(desk: Desk) -> None:
    desk.freeze(["r-1"])
    desk.freeze(["r-2"])
    desk.freeze(["r-3"], live=False)
    assert desk.send().batch.batch_id == "batch-2"
    assert desk.sent_ids() == ["r-2"]


def test_an_empty_batch_makes_no_request(desk: Desk) -> None:
    batch_id = desk.freeze([])
    assert desk.send(batch_id).requests == 0
    assert desk.account.requests == []
    assert desk.state(batch_id) == "sent"


def test_attempts_are_written_before_the_request_and_outcomes_after_it(desk: Desk, klaviyo: Klaviyo) -> None:
    seen: list[list[tuple[str, int]]] = []
    path = desk.settings.warehouse_path

    def look(number: int) -> None:
        # Without any patience: were the warehouse locked while the request is under way, this would fail.
        history = Warehouse(path, lock_timeout=0).fetch(
            "select outcome, count(*) as n from dunning.sent_history group by all order by all"
        )
        seen.append(list(history.itertuples(index=False, name=None)))

    klaviyo.on_request = look
    desk.freeze([f"r-{n:04d}" for n in range(MOST_EVENTS + 1)])
    report = desk.send()
    assert report.error is None
    assert report.accepted == MOST_EVENTS + 1
    assert [request.events for request in desk.account.requests] == [MOST_EVENTS, 1]
    assert seen == [
        [("attempting", MOST_EVENTS)],
        [("accepted", MOST_EVENTS), ("attempting", MOST_EVENTS + 1)],
    ]


def test_a_batch_sent_twice_sends_nothing_the_second_time(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1", "r-2"])
    desk.send(batch_id)
    report = desk.send(batch_id)
    assert (report.requests, report.already, report.left) == (0, 2, 0)
    assert len(desk.account.requests) == 1
    assert desk.attempts() == {"r-1": 1, "r-2": 1}


def test_what_an_earlier_batch_had_accepted_is_not_sent_again(desk: Desk) -> None:
    desk.freeze(["r-1", "r-2"])
    desk.send()
    later = desk.freeze(["r-1", "r-2", "r-3"])
    report = desk.send(later)
    assert (report.already, report.accepted) == (2, 1)
    assert desk.sent_ids() == ["r-1", "r-2", "r-3"]
    assert desk.account.discarded == []


def test_a_bad_address_is_rejected_and_the_others_go_on(desk: Desk) -> None:
    ids = ["r-1", "r-2", "r-3", "r-4"]
    bad = {"r-2": "no one@nowhere", "r-3": "nobody"}
    batch_id = desk.freeze(ids, [body(reminder_id, bad.get(reminder_id)) for reminder_id in ids])
    report = desk.send(batch_id)
    assert desk.sent_ids() == ["r-1", "r-4"]
    assert desk.outcomes() == {
        "r-1": ["not_delivered", "accepted"],
        "r-2": ["rejected"],
        "r-3": ["rejected"],
        "r-4": ["not_delivered", "accepted"],
    }
    assert (report.requests, report.left, report.error) == (2, 0, None)
    assert desk.state(batch_id) == "sent"
    assert desk.contacts() == {"r-1": "accepted", "r-4": "accepted"}


def test_a_rejection_is_recorded_with_klaviyos_words(desk: Desk) -> None:
    desk.freeze(["r-1"], [body("r-1", "nobody")])
    desk.send()
    (row,) = desk.outbox.warehouse.fetch(
        "select http_status, error_code, error_detail from dunning.sent_history where outcome = 'rejected'"
    ).itertuples()
    assert (row.http_status, row.error_code) == (400, "invalid")
    assert "e-mail" in row.error_detail or "email" in row.error_detail


def test_addresses_whose_events_klaviyo_drops_silently_are_rejected_without_a_request(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1", "r-2"], [body("r-1", "somebody@example.com"), body("r-2", "somebody@test.com")])
    report = desk.send(batch_id, KLAVIYO_URL="https://klaviyo.invalid")
    assert (report.requests, report.outcomes, report.left) == (0, {"rejected": 2}, 0)
    (row,) = desk.outbox.warehouse.fetch(
        "select distinct error_code, error_detail from dunning.sent_history where outcome = 'rejected'"
    ).itertuples()
    assert row.error_code == "undeliverable"
    assert "no mail can reach the address" in row.error_detail
    assert "somebody" not in row.error_detail
    assert desk.contacts() == {}
    assert set(desk.outbox.warehouse.fetch(sql.load("rejections"), {"stream": "invoice"})["reminder_id"]) == {
        "r-1",
        "r-2",
    }


def test_towards_a_sandbox_on_this_machine_such_addresses_are_sent(desk: Desk) -> None:
    desk.freeze(["r-1"], [body("r-1", "somebody@example.com")])
    assert desk.send().accepted == 1


def test_a_wrong_key_ends_the_run_and_contacts_nobody(desk: Desk) -> None:
    ids = ["r-1", "r-2", "r-3"]
    batch_id = desk.freeze(ids)
    refused = desk.send(batch_id, KLAVIYO_API_KEY=KEY)
    assert isinstance(refused.error, RequestRefused)
    assert (refused.requests, refused.outcomes, refused.left) == (1, {"not_delivered": 3}, len(ids))
    assert desk.contacts() == {}
    assert desk.state(batch_id) == "sending"

    report = desk.send(batch_id)
    assert (report.accepted, report.left) == (len(ids), 0)
    assert desk.sent_ids() == ids


def test_no_history_holds_the_key(desk: Desk) -> None:
    desk.freeze(["r-1"])
    desk.send(KLAVIYO_API_KEY=KEY)
    history = desk.outbox.warehouse.fetch(
        "select error_detail from dunning.sent_history where error_detail is not null"
    )
    assert "401" in history["error_detail"].iloc[0]
    assert KEY not in history.to_json()
    assert KEY not in repr(desk.settings)


def test_a_request_that_never_left_is_not_delivered(desk: Desk) -> None:
    desk.freeze(["r-1"])
    report = desk.send(KLAVIYO_URL="http://127.0.0.1:1")
    assert report.outcomes == {"not_delivered": 1}
    assert desk.contacts() == {}


def test_a_lost_answer_is_resolved_by_sending_the_same_again(desk: Desk, klaviyo: Klaviyo) -> None:
    klaviyo.lost = ALWAYS
    batch_id = desk.freeze(["r-1", "r-2"])
    report = desk.send(batch_id)
    assert (report.unresolved, report.left, report.error) == (2, 2, None)
    assert desk.contacts() == {"r-1": "unknown", "r-2": "unknown"}
    assert desk.state(batch_id) == "sending"

    klaviyo.lost = ()
    again = desk.send(batch_id)
    assert (again.accepted, again.left) == (2, 0)
    assert len(set(desk.account.bodies)) == 1
    assert desk.sent_ids() == ["r-1", "r-2"]
    assert desk.outcomes() == dict.fromkeys(["r-1", "r-2"], ["unknown"] * MOST_ATTEMPTS + ["accepted"])
    assert set(desk.contacts().values()) == {"accepted"}


def test_a_lost_answer_is_asked_for_again_in_the_same_run_after_the_other_chunks(desk: Desk, klaviyo: Klaviyo) -> None:
    klaviyo.lost = [1, 3]
    batch_id = desk.freeze(CHUNK_AND_ONE)
    report = desk.send(batch_id)
    assert (report.accepted, report.left, report.requests) == (MOST_EVENTS + 1, 0, 4)
    assert [request.events for request in desk.account.requests] == [MOST_EVENTS, 1, MOST_EVENTS, MOST_EVENTS]
    assert desk.outcomes()["r-0000"] == ["unknown", "unknown", "accepted"]
    assert len(desk.clock.slept) == 2
    assert desk.state(batch_id) == "sent"


def test_when_nothing_is_answered_any_more_the_run_ends(desk: Desk, klaviyo: Klaviyo) -> None:
    klaviyo.lost = ALWAYS
    desk.freeze([f"r-{n:05d}" for n in range((MOST_UNANSWERED_IN_A_ROW + 2) * MOST_EVENTS)])
    report = desk.send("batch-1", confirmed=True)
    assert isinstance(report.error, OutcomeUnknown)
    assert report.requests == MOST_UNANSWERED_IN_A_ROW
    assert report.left == report.batch.size


def owing(reminder_id: str, text: str, outstanding: int = 5) -> str:
    """A body with the figures of a reminder about no listed invoice."""
    entry = json.loads(body(reminder_id, text=text))
    figures = dict.fromkeys(("due", "overdue", "due_count", "overdue_count", "outstanding_count"), 0)
    carrying = dict.fromkeys(("carrying_invoice_total", "carrying_invoice_outstanding"), outstanding)
    (event,) = entry["attributes"]["events"]["data"]
    event["attributes"]["properties"] |= {"invoices": [], "totals_by_currency": [], "currency": "EUR"}
    event["attributes"]["properties"] |= {**figures, **carrying, "outstanding": outstanding}
    return json.dumps(entry)


@pytest.mark.parametrize(("outstanding", "repeated"), [(5, "morning"), (4, "noon")], ids=["the same", "less"])
def test_a_later_batch_of_the_day_repeats_the_body_of_the_first_attempt_unless_an_amount_changed(
    desk: Desk, klaviyo: Klaviyo, outstanding: int, repeated: str
) -> None:
    klaviyo.lost = ALWAYS
    desk.freeze(["r-1"], [owing("r-1", "morning")])
    desk.send()
    klaviyo.lost = ()
    noon = {"morning": owing("r-1", "morning"), "noon": owing("r-1", "noon", outstanding)}
    desk.freeze(["r-1", "r-2"], [noon["noon"], owing("r-2", "noon")])
    desk.send()
    sent = [json.loads(text)["data"]["attributes"]["events-bulk-create"]["data"] for text in desk.account.bodies]
    assert sent == [
        *[[json.loads(noon["morning"])]] * MOST_ATTEMPTS,
        [json.loads(noon[repeated]), json.loads(owing("r-2", "noon"))],
    ]
    assert desk.sent_ids() == ["r-1", "r-2"]


def test_a_crash_between_request_and_record_is_resolved_by_the_next_run(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1", "r-2"])
    pending = desk.outbox.to_send(batch_id)
    desk.outbox.begin_attempts(batch_id, pending.iloc[:1], desk.clock(), TODAY, 3)
    assert desk.contacts() == {"r-1": "unknown"}
    desk.clock.advance(minutes=1)
    desk.send(batch_id)
    assert desk.outcomes() == {"r-1": ["accepted"], "r-2": ["accepted"]}
    assert desk.attempts() == {"r-1": 2, "r-2": 1}
    assert desk.contacts() == {"r-1": "accepted", "r-2": "accepted"}


def test_after_midnight_no_further_chunk_leaves(desk: Desk, klaviyo: Klaviyo) -> None:
    klaviyo.on_request = lambda _: desk.clock.advance(days=1)
    desk.freeze([f"r-{n:04d}" for n in range(MOST_EVENTS + 1)])
    report = desk.send()
    assert isinstance(report.error, SendingRefused)
    assert "is of 2025-03-12, and today is 2025-03-13: only today's batch is ever sent" in str(report.error)
    assert (report.accepted, report.left) == (MOST_EVENTS, 1)
    assert len(desk.sent_ids()) == MOST_EVENTS
    assert f"r-{MOST_EVENTS:04d}" not in desk.attempts()


def test_an_answer_after_midnight_is_dated_when_the_request_left(desk: Desk, klaviyo: Klaviyo) -> None:
    klaviyo.on_request = lambda _: desk.clock.advance(days=1)
    desk.freeze(["r-1"])
    desk.send()
    days = desk.outbox.warehouse.fetch("select outcome, contact_on from dunning.sent_history")
    assert set(days["contact_on"].dt.date) == {TODAY}
    assert desk.contacts() == {"r-1": "accepted"}


def refusal(desk: Desk, batch_id: str | None = None, **environment: str) -> str:
    with pytest.raises(SendingRefused) as raised:
        desk.send(batch_id, **environment)
    assert desk.account.requests == []
    assert desk.outcomes() == {}
    return str(raised.value)


def test_a_batch_that_is_not_live_is_refused(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1"], live=False)
    assert refusal(desk, batch_id) == "batch batch-1 is not live: dry runs, replays and backfills are never sent"


def test_a_superseded_batch_is_refused(desk: Desk) -> None:
    older = desk.freeze(["r-1"])
    desk.freeze(["r-1", "r-2"])
    assert refusal(desk, older) == "batch batch-1 was superseded by batch-2, which is newer"


def test_yesterdays_batch_is_refused(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1"])
    desk.clock.advance(days=1)
    for wanted in (batch_id, None):
        assert refusal(desk, wanted) == (
            "batch batch-1 is of 2025-03-12, and today is 2025-03-13: only today's batch is ever sent"
        )


def test_the_day_ends_at_midnight_in_the_organisations_time_zone(desk: Desk) -> None:
    desk.freeze(["r-1"])
    desk.clock.now = datetime(2025, 3, 12, 22, 59, 58, tzinfo=UTC)
    assert desk.send().accepted == 1
    desk.freeze(["r-2"], as_of=TODAY)
    desk.clock.now = datetime(2025, 3, 12, 23, 0, tzinfo=UTC)
    with pytest.raises(SendingRefused, match="today is 2025-03-13"):
        desk.send()


def test_a_batch_beyond_the_largest_allowed_is_refused(desk: Desk) -> None:
    desk.with_policy(POLICY_TEXT.replace("{live: true}", "{live: true, max_batch: 2}"))
    desk.freeze(["r-1", "r-2", "r-3"])
    assert refusal(desk) == (
        "batch batch-1 would send 3 reminders, more than sending.max_batch (2); look at it, and if it is right, "
        "confirm it: dunning run --send --confirm-batch batch-1"
    )
    assert desk.send("batch-1", confirmed=True).accepted == 3
    desk.freeze(["r-1", "r-2", "r-3", "r-4", "r-5"])
    assert desk.send().accepted == 2


def test_nothing_is_sent_without_a_key(desk: Desk) -> None:
    desk.freeze(["r-1"])
    assert refusal(desk, KLAVIYO_API_KEY="") == "the environment variable KLAVIYO_API_KEY is not set"


def test_nothing_is_sent_by_a_policy_that_is_not_live(desk: Desk) -> None:
    desk.freeze(["r-1"])
    desk.with_policy(POLICY_TEXT.replace("live: true", "live: false"))
    assert refusal(desk) == "sending.live is false in the policy: this is a dry run, nothing is sent"


def test_nothing_is_sent_from_a_relative_home(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    desk.freeze(["r-1"])
    desk.settings = replace(desk.settings, home=Path("data"))
    assert refusal(desk) == "DUNNING_HOME must be an absolute path when live, not data"


@pytest.mark.parametrize(
    ("batch_id", "words"),
    [("batch-9", "there is no batch batch-9 of the invoice stream"), (None, "there is no live batch of the invoice")],
)
def test_a_batch_that_does_not_exist_is_refused(desk: Desk, batch_id: str | None, words: str) -> None:
    assert refusal(desk, batch_id).startswith(words)


def test_only_one_run_sends_at_a_time(desk: Desk) -> None:
    desk.freeze(["r-1"])
    with FileLock(desk.settings.home / "sending-invoice.lock"):
        assert refusal(desk) == "another run is sending at this moment; nothing was sent by this one"
    assert desk.send().accepted == 1


def test_the_lock_is_freed_when_a_run_is_refused(desk: Desk) -> None:
    batch_id = desk.freeze(["r-1"])
    desk.clock.advance(days=1)
    refusal(desk, batch_id)
    desk.freeze(["r-1"])
    assert desk.send().accepted == 1


def test_an_allow_list_drops_everybody_else(desk: Desk) -> None:
    desk.with_policy(POLICY_TEXT.replace("{live: true}", "{live: true, allow_list: [R-2@Shop.test]}"))
    batch_id = desk.freeze(["r-1", "r-2", "r-3"])
    report = desk.send(batch_id)
    assert desk.sent_ids() == ["r-2"]
    assert desk.outcomes() == {"r-1": ["dropped"], "r-2": ["accepted"], "r-3": ["dropped"]}
    assert (report.left, desk.state(batch_id)) == (0, "sent")
    assert desk.contacts() == {"r-2": "accepted"}


def test_what_an_allow_list_dropped_is_sent_by_a_later_batch_without_it(desk: Desk) -> None:
    desk.with_policy(POLICY_TEXT.replace("{live: true}", "{live: true, allow_list: [r-2@shop.test]}"))
    desk.freeze(["r-1", "r-2"])
    desk.send()
    desk.with_policy(POLICY_TEXT)
    desk.freeze(["r-1", "r-2"])
    desk.send()
    assert desk.sent_ids() == ["r-2", "r-1"]


@pytest.mark.parametrize(
    ("change", "refused"),
    [({}, False), ({"KLAVIYO_API_KEY": ""}, True)],
)
def test_whether_anything_may_be_sent_is_said_before_a_batch_is_looked_at(
    desk: Desk, change: Mapping[str, str], refused: bool
) -> None:
    settings = replace(desk.settings, environment={**desk.settings.environment, **change})
    assert (may_send(settings) is not None) is refused


def test_time_passes_between_attempts_in_the_history(desk: Desk) -> None:
    desk.freeze(["r-1"])
    desk.send(KLAVIYO_API_KEY=KEY)
    desk.send()
    at = desk.outbox.warehouse.fetch("select attempted_at from dunning.sent_history where outcome = 'attempting'")
    first, second = sorted(at["attempted_at"])
    assert second - first == timedelta(minutes=1)


def test_a_send_with_lost_answers_fails_so_that_the_sensor_asks_again(desk: Desk, klaviyo: Klaviyo) -> None:
    klaviyo.lost = ALWAYS
    with dg.DagsterInstance.ephemeral() as instance:
        pipeline = Pipeline(desk.settings, instance)
        batch_id = daily_run(desk, instance, ["r-1", "r-2"])
        with pytest.raises(dg.Failure, match="2 unknown, 0 done before, 2 left; Klaviyo may have accepted"):
            pipeline.send(batch_id)
        asked = pipeline.ask_sensor()
        assert isinstance(asked, dg.RunRequest)
        assert asked.run_key == f"{batch_id}:1"

        desk.clock.advance(minutes=1)
        klaviyo.lost = ()
        resolved = pipeline.send_if_asked()
        assert isinstance(resolved, dg.ExecuteInProcessResult)
        assert "was sent already" in str(pipeline.send_if_asked())
    assert desk.sent_ids() == ["r-1", "r-2"]


def test_a_send_with_a_wrong_key_fails_in_words_without_the_key(desk: Desk) -> None:
    desk.settings = replace(desk.settings, environment={**desk.settings.environment, "KLAVIYO_API_KEY": KEY})
    with dg.DagsterInstance.ephemeral() as instance:
        batch_id = daily_run(desk, instance, ["r-1"])
        result = Pipeline(desk.settings, instance).send(batch_id, raise_on_error=False)
        log = "\n".join(dg.serialize_value(entry) for entry in instance.all_logs(result.run_id))
    assert not result.success
    assert "1 not_delivered, 0 done before, 1 left; Klaviyo answered 401" in log
    assert KEY not in log


def daily_run(desk: Desk, instance: dg.DagsterInstance, ids: Sequence[str]) -> str:
    """A successful daily run in Dagster's records that froze a batch; returns the id of both."""
    run = dg.DagsterRun(
        job_name=DAILY_JOB,
        run_id=str(uuid.uuid4()),
        status=dg.DagsterRunStatus.SUCCESS,
        tags={PARTITION_TAG: desk.settings.today().isoformat()},
    )
    freeze(desk.outbox, run.run_id, reminders(ids), at=desk.clock())
    return add_with_batch(instance, run, live=True)


CHUNK_AND_ONE = [f"r-{n:04d}" for n in range(MOST_EVENTS + 1)]


def freeze_meanwhile(desk: Desk, klaviyo: Klaviyo, ids: Sequence[str]) -> None:
    """While the first request is under way, another run freezes a newer batch."""
    klaviyo.on_request = lambda number: desk.freeze(ids) and None if number == 1 else None


def test_a_newer_batch_frozen_meanwhile_stops_the_older_one(desk: Desk, klaviyo: Klaviyo) -> None:
    freeze_meanwhile(desk, klaviyo, CHUNK_AND_ONE)
    older = desk.freeze(CHUNK_AND_ONE)
    report = desk.send(older)
    assert isinstance(report.error, SendingRefused)
    assert str(report.error) == "batch batch-1 was superseded by batch-2, which is newer"
    assert (report.requests, report.accepted, report.left) == (1, MOST_EVENTS, 1)
    assert desk.sent_ids() == CHUNK_AND_ONE[:-1]
    assert CHUNK_AND_ONE[-1] not in desk.attempts()
    assert desk.state(older) == "superseded"
    desk.send()
    assert desk.sent_ids() == CHUNK_AND_ONE


def test_a_batch_superseded_during_its_last_chunk_stays_superseded(desk: Desk, klaviyo: Klaviyo) -> None:
    freeze_meanwhile(desk, klaviyo, ["r-1"])
    older = desk.freeze(["r-1"])
    report = desk.send(older)
    assert (report.accepted, report.left, report.error) == (1, 0, None)
    assert desk.state(older) == "superseded"


def test_a_stopped_send_fails_after_telling_what_it_had_sent(desk: Desk, klaviyo: Klaviyo) -> None:
    freeze_meanwhile(desk, klaviyo, CHUNK_AND_ONE)
    with dg.DagsterInstance.ephemeral() as instance:
        batch_id = daily_run(desk, instance, CHUNK_AND_ONE)
        result = Pipeline(desk.settings, instance).send(batch_id, raise_on_error=False)
    (event,) = result.get_asset_materialization_events()
    figures = {name: value.value for name, value in event.materialization.metadata.items()}
    assert not result.success
    assert (figures["accepted"], figures["left"]) == (MOST_EVENTS, 1)


def test_who_got_another_reminder_of_the_day_is_dropped(desk: Desk) -> None:
    for reminder_id in ("r-1", "r-2"):
        desk.frozen.append(reminder_id)
        same = reminders([reminder_id]).assign(customer_id="c-1")
        freeze(desk.outbox, reminder_id, same, at=desk.clock())
        desk.clock.advance(minutes=1)
        report = desk.send(reminder_id)
    assert desk.sent_ids() == ["r-1"]
    assert (report.outcomes, report.requests, report.left) == ({"dropped": 1}, 0, 0)
    assert desk.state("r-2") == "sent"


def never_looked_at(reminders: pd.DataFrame) -> NoReturn:
    raise AssertionError(f"{len(reminders)} reminders were looked at again")


def test_a_change_on_the_invoice_side_does_not_drop_events_about_orders(desk: Desk) -> None:
    orders = Outbox(desk.outbox.warehouse, "order")
    freeze(orders, "orders", reminders(["o-1"]), at=desk.clock())
    with desk.outbox.warehouse.transaction() as connection:
        note_change(connection, "source.payments")
    # Orders would be decided afresh for any change that concerns them; these are none.
    assert send_batch(None, orders, desk.settings, recheck=Recheck(never_looked_at)).accepted == 1
    changes = desk.outbox.warehouse.fetch("select cause from dunning.changes order by number")
    assert changes["cause"].tolist() == ["source.payments", "dunning.sent_history"]


@pytest.fixture
def waits(desk: Desk) -> list[float]:
    """How long the sender slept; the clock of the desk moved on instead."""
    return desk.clock.slept


def test_when_throttled_it_waits_as_told_and_tries_again(desk: Desk, klaviyo: Klaviyo, waits: list[float]) -> None:
    klaviyo.refused = {1: 429, 2: 429}
    batch_id = desk.freeze(["r-1"])
    report = desk.send(batch_id)
    assert max(waits) == 7
    assert desk.outcomes() == {"r-1": ["not_delivered", "not_delivered", "accepted"]}
    assert (report.requests, report.left, desk.state(batch_id)) == (3, 0, "sent")


def test_when_throttled_too_often_in_a_row_it_gives_up(desk: Desk, klaviyo: Klaviyo, waits: list[float]) -> None:
    klaviyo.refused = dict.fromkeys(range(1, 99), 429)
    desk.freeze(["r-1"])
    report = desk.send()
    assert isinstance(report.error, Throttled)
    assert report.requests == MOST_THROTTLED_ATTEMPTS
    assert max(waits) == 7
    assert (report.outcomes, desk.contacts()) == ({"not_delivered": 1}, {})


def test_when_told_to_wait_too_long_it_gives_up_at_once(desk: Desk, klaviyo: Klaviyo, waits: list[float]) -> None:
    klaviyo.refused, klaviyo.retry_after = {1: 429}, MOST_SECONDS_WAITED + 1
    desk.freeze(["r-1"])
    assert isinstance(desk.send().error, Throttled)
    assert waits == []


def test_after_a_wait_over_midnight_nothing_more_is_sent(desk: Desk, klaviyo: Klaviyo, waits: list[float]) -> None:
    desk.freeze(["r-1"])
    desk.clock.now = datetime(2025, 3, 12, 22, 59, 58, tzinfo=UTC)
    klaviyo.refused = {1: 429}
    report = desk.send()
    assert isinstance(report.error, SendingRefused)
    assert "today is 2025-03-13" in str(report.error)
    assert (max(waits), desk.sent_ids()) == (7, [])


def test_a_batch_superseded_during_a_wait_is_not_sent(desk: Desk, klaviyo: Klaviyo, waits: list[float]) -> None:
    klaviyo.refused = {1: 429}
    freeze_meanwhile(desk, klaviyo, ["r-1"])
    older = desk.freeze(["r-1"])
    report = desk.send(older)
    assert isinstance(report.error, SendingRefused)
    assert (desk.sent_ids(), desk.state(older)) == ([], "superseded")


def test_a_single_event_refused_without_a_place_rejects_nobody_while_nothing_was_accepted(
    desk: Desk, klaviyo: Klaviyo
) -> None:
    klaviyo.refused = {1: 400}
    batch_id = desk.freeze(["r-1"])
    report = desk.send(batch_id)
    assert isinstance(report.error, InvalidEvents)
    assert (report.outcomes, report.left) == ({"not_delivered": 1}, 1)
    assert desk.send(batch_id).accepted == 1


def test_a_single_event_refused_without_a_place_is_rejected_once_others_were_accepted(
    desk: Desk, klaviyo: Klaviyo
) -> None:
    klaviyo.refused = {1: 400, 3: 400}
    report = desk.send(desk.freeze(["r-1", "r-2", "r-3"]))
    assert report.error is None
    assert desk.sent_ids() == ["r-1", "r-3"]
    assert desk.outcomes()["r-2"] == ["not_delivered", "rejected"]


def test_the_first_event_refused_without_a_place_waits_for_the_others_and_is_rejected_after_them(
    desk: Desk, klaviyo: Klaviyo
) -> None:
    klaviyo.refused = {1: 400, 2: 400, 5: 400}
    report = desk.send(desk.freeze(["r-1", "r-2", "r-3"]))
    assert report.error is None
    assert desk.sent_ids() == ["r-2", "r-3"]
    assert desk.outcomes()["r-1"] == ["not_delivered", "not_delivered", "rejected"]
    assert report.left == 0


def test_after_a_few_single_events_refused_without_a_place_the_request_itself_is_blamed(
    desk: Desk, klaviyo: Klaviyo
) -> None:
    klaviyo.refused = dict.fromkeys(range(1, 20), 400)
    report = desk.send(desk.freeze(["r-1", "r-2", "r-3", "r-4", "r-5"]))
    assert isinstance(report.error, InvalidEvents)
    assert (report.requests, report.outcomes) == (4, {"not_delivered": 5})
