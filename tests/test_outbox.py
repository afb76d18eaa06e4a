"""The outbox over a real warehouse: what is frozen, what is appended, what is still to be sent."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

from dunning_pipeline import sql
from dunning_pipeline.errors import InvalidRows, SendingRefused
from dunning_pipeline.outbox import Batch, Outbox, Result
from dunning_pipeline.policy import Policy, parse_policy
from dunning_pipeline.resources.warehouse import ROWS_TOGETHER, Warehouse

TODAY = date(2025, 3, 12)
NOON = datetime(2025, 3, 12, 12, 0, tzinfo=UTC)
MOST = 3
"""Reminders about single invoices that a customer gets a day."""
POLICY_TEXT = """
organisation: {time_zone: Europe/Paris, base_currency: EUR, first_day: 2024-01-01}
workflows: [{name: standard, default: true, actions: [{name: first, day: 1}]}]
sending: {live: true}
"""


def body(reminder_id: str, email: str | None = None, text: str = "") -> str:
    """One entry of a bulk request."""
    event = {
        "properties": {"reminder_id": reminder_id, "text": text},
        "time": "2025-03-12T08:30:00+00:00",
        "value": 12.5,
        "value_currency": "EUR",
        "unique_id": reminder_id,
        "metric": {"data": {"type": "metric", "attributes": {"name": "Invoice Reminder"}}},
    }
    profile = {"data": {"type": "profile", "attributes": {"email": email or f"{reminder_id}@shop.test"}}}
    events = {"data": [{"type": "event", "attributes": event}]}
    return json.dumps({"type": "event-bulk-create", "attributes": {"profile": profile, "events": events}})


def reminders(ids: Sequence[str], bodies: Sequence[str] | None = None) -> pd.DataFrame:
    """Reminders as `freeze` takes them: the customer of `r-1` is `c-r-1`, the invoice `i-r-1`."""
    frame = pd.DataFrame({"reminder_id": ids}, dtype="str")
    return frame.assign(
        customer_id="c-" + frame["reminder_id"],
        level="customer",
        carrying_invoice_id="i-" + frame["reminder_id"],
        order_id=pd.Series(None, frame.index, dtype="str"),
        first_edit_id=pd.Series(None, frame.index, dtype="str"),
        workflow="standard",
        action="first",
        occurrence=1,
        customer_key=range(len(frame)),
        invoice_key=range(len(frame)),
        body=list(bodies) if bodies is not None else [body(reminder_id) for reminder_id in ids],
    )


def decisions(ids: Sequence[str], as_of: date = TODAY) -> pd.DataFrame:
    """The decisions that these reminders were made from, and one that nobody is reminded by."""
    day = pd.Timestamp(as_of)
    frame = pd.DataFrame({"reminder_id": [*ids, None]}, dtype="str")
    skipped = frame["reminder_id"].isna()
    return frame.assign(
        as_of=day,
        customer_id=("c-" + frame["reminder_id"]).fillna("c-skipped"),
        level="customer",
        carrying_invoice_id="i-" + frame["reminder_id"],
        workflow="standard",
        assigned_by="default",
        action="first",
        action_position=1,
        occurrence=1,
        trigger_on=day,
        last_contact_on=pd.NaT,
        next_due_on=day,
        decision=["skip" if skip else "remind" for skip in skipped],
        reason=pd.Series(["customer_paused" if skip else None for skip in skipped], dtype="str"),
        customer_key=range(len(frame)),
        invoice_key=range(len(frame)),
        run_id="any run",
    )


def freeze(
    outbox: Outbox,
    batch_id: str,
    frozen: pd.DataFrame,
    *,
    at: datetime = NOON,
    as_of: date = TODAY,
    live: bool = True,
    policy: Policy | None = None,
) -> None:
    """Freezes a batch made of `frozen`."""
    state = "planned" if live else "dry_run"
    batch = Batch(batch_id, outbox.stream, as_of, size=len(frozen), live=live, state=state)
    decided = decisions(frozen["reminder_id"].tolist(), as_of)
    outbox.freeze(batch, frozen, decided, policy or parse_policy(POLICY_TEXT), at)


@cache
def _empty_file() -> bytes:
    with TemporaryDirectory() as folder:
        warehouse = Warehouse(Path(folder) / "warehouse.duckdb")
        warehouse.fetch("select 1")
        return warehouse.path.read_bytes()


def empty_warehouse(path: Path) -> Warehouse:
    """A warehouse with all tables at `path`; copied, because making one takes half a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty_file())
    return Warehouse(path)


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(empty_warehouse(tmp_path / "warehouse.duckdb"), "invoice")


def states(outbox: Outbox) -> dict[str, str]:
    rows = outbox.warehouse.fetch("select batch_id, state from dunning.batches")
    return dict(zip(rows["batch_id"], rows["state"], strict=True))


def count(outbox: Outbox, table: str) -> int:
    return int(outbox.warehouse.fetch(f"select count(*) as n from {table}")["n"].iloc[0])


def try_to_send(
    outbox: Outbox, batch_id: str, outcome: str | None, at: datetime = NOON, only: str | None = None
) -> None:
    """Attempts what is to be sent of a batch, with the outcome, or none as after a crash."""
    pending = outbox.to_send(batch_id)
    pending = pending if only is None else pending[pending["reminder_id"] == only]
    going, _ = outbox.begin_attempts(batch_id, pending, at, at.date(), MOST)
    if outcome:
        outbox.record_results(going, Result(outcome), at, at.date())


def test_a_frozen_batch_keeps_bodies_decisions_and_the_policys_text(outbox: Outbox) -> None:
    freeze(outbox, "monday", reminders(["r-1", "r-2"]))
    policy = parse_policy(POLICY_TEXT)

    frozen = outbox.warehouse.fetch("select * from dunning.reminders order by reminder_id")
    assert frozen["body"].tolist() == [body("r-1"), body("r-2")]
    assert set(frozen["metric"]) == {"Invoice Reminder"}
    kept = outbox.warehouse.fetch("select customer_id, decision from dunning.batch_decisions order by all")
    assert kept["customer_id"].tolist() == ["c-r-1", "c-r-2", "c-skipped"]
    texts = outbox.warehouse.fetch(
        "select b.batch_id, p.text from dunning.batches b join dunning.policies p using (policy_hash)"
    )
    assert texts.to_dict("records") == [{"batch_id": "monday", "text": policy.text}]
    assert policy.text == POLICY_TEXT


def test_a_policys_text_is_kept_once_and_each_of_its_versions(outbox: Outbox) -> None:
    other = parse_policy(POLICY_TEXT + "\n# changed\n")
    freeze(outbox, "one", reminders(["r-1"]))
    freeze(outbox, "two", reminders(["r-2"]), at=NOON + timedelta(hours=1))
    freeze(outbox, "three", reminders(["r-3"]), at=NOON + timedelta(hours=2), policy=other)
    texts = outbox.warehouse.fetch("select text from dunning.policies order by first_used_at")
    assert texts["text"].tolist() == [POLICY_TEXT, other.text]


def test_freezing_is_all_or_nothing(outbox: Outbox) -> None:
    twice = pd.concat([reminders(["r-1"]), reminders(["r-1"])], ignore_index=True)
    freeze(outbox, "before", reminders(["r-0"]))
    with pytest.raises(InvalidRows, match="reminders"):
        freeze(outbox, "broken", twice, at=NOON + timedelta(hours=1))
    assert states(outbox) == {"before": "planned"}
    assert count(outbox, "dunning.reminders") == 1
    assert count(outbox, "dunning.batch_decisions") == 2


def test_a_batch_without_its_decisions_is_not_frozen(outbox: Outbox) -> None:
    batch = Batch("broken", "invoice", TODAY, size=1, live=True, state="planned")
    policy = parse_policy(POLICY_TEXT)
    with pytest.raises(InvalidRows, match="batch_decisions"):
        outbox.freeze(batch, reminders(["r-1"]), decisions(["r-1"]).drop(columns="decision"), policy, NOON)
    assert states(outbox) == {}
    assert count(outbox, "dunning.reminders") == 0


def test_deciding_again_adds_rows_and_rewrites_none(outbox: Outbox) -> None:
    freeze(outbox, "morning", reminders(["r-1"], [body("r-1", text="as of the morning")]))
    before = outbox.warehouse.fetch("select * from dunning.reminders")
    freeze(outbox, "noon", reminders(["r-1"], [body("r-1", text="as of noon")]), at=NOON + timedelta(hours=1))
    after = outbox.warehouse.fetch("select * from dunning.reminders order by planned_at")
    pd.testing.assert_frame_equal(after.iloc[:1], before)
    assert after["batch_id"].tolist() == ["morning", "noon"]


def test_a_live_batch_supersedes_older_unsent_ones_of_its_stream(outbox: Outbox) -> None:
    orders = Outbox(outbox.warehouse, "order")
    freeze(orders, "orders", reminders(["o-1"]))
    for n, name in enumerate(["planned", "sending", "sent", "newest"]):
        freeze(outbox, name, reminders([f"r-{n}"]), at=NOON + timedelta(minutes=n))
        if name in ("sending", "sent"):
            outbox.begin_attempts(name, outbox.to_send(name), NOON + timedelta(minutes=n), TODAY, MOST)
        if name == "sent":
            outbox.finish(name)
    freeze(outbox, "trial", reminders(["r-9"]), at=NOON + timedelta(hours=1), live=False)
    assert states(outbox) == {
        "orders": "planned",
        "planned": "superseded",
        "sending": "superseded",
        "sent": "sent",
        "newest": "planned",
        "trial": "dry_run",
    }
    newest, newest_order = outbox.newest_live(), orders.newest_live()
    assert newest == Batch("newest", "invoice", TODAY, size=1, live=True, state="planned")
    assert newest_order is not None
    assert newest_order.batch_id == "orders"


def test_a_dry_run_keeps_its_bodies_but_no_decisions(outbox: Outbox) -> None:
    freeze(outbox, "trial", reminders(["r-1"]), live=False)
    assert count(outbox, "dunning.reminders") == 1
    assert count(outbox, "dunning.batch_decisions") == 0
    assert outbox.newest_live() is None


def test_an_empty_batch_is_frozen_as_well(outbox: Outbox) -> None:
    freeze(outbox, "quiet day", reminders([]))
    batch = outbox.batch("quiet day")
    assert batch is not None
    assert (batch.size, len(outbox.to_send("quiet day"))) == (0, 0)


def test_a_batch_of_another_stream_is_not_found(outbox: Outbox) -> None:
    freeze(outbox, "monday", reminders(["r-1"]))
    assert Outbox(outbox.warehouse, "order").batch("monday") is None


@pytest.mark.parametrize(
    ("outcome", "still_to_send"),
    [
        ("accepted", False),
        ("rejected", False),
        ("dropped", False),
        ("unknown", True),
        ("not_delivered", True),
        (None, True),
    ],
)
def test_what_has_no_final_outcome_is_still_to_be_sent(
    outbox: Outbox, outcome: str | None, still_to_send: bool
) -> None:
    freeze(outbox, "monday", reminders(["r-1", "r-2"]))
    try_to_send(outbox, "monday", outcome, only="r-1")
    left = outbox.to_send("monday").set_index("reminder_id")["attempts"].to_dict()
    assert left == ({"r-1": 1, "r-2": 0} if still_to_send else {"r-2": 0})


@pytest.mark.parametrize(("outcome", "to_send"), [("accepted", []), ("rejected", ["r-1"]), ("dropped", ["r-1"])])
def test_only_acceptance_in_an_earlier_batch_is_final_for_a_later_one(
    outbox: Outbox, outcome: str, to_send: list[str]
) -> None:
    freeze(outbox, "monday", reminders(["r-1"]))
    try_to_send(outbox, "monday", outcome)
    freeze(outbox, "tuesday", reminders(["r-1"]), at=NOON + timedelta(days=1), as_of=TODAY + timedelta(days=1))
    assert outbox.to_send("tuesday")["reminder_id"].tolist() == to_send


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [("unknown", "first"), (None, "first"), ("not_delivered", "third"), ("rejected", "third")],
)
def test_only_what_may_have_been_accepted_on_the_same_day_keeps_its_first_body(
    outbox: Outbox, outcome: str | None, kept: str
) -> None:
    for hour, name in enumerate(["first", "second", "third"]):
        at = NOON + timedelta(hours=hour)
        freeze(outbox, name, reminders(["r-1", "r-2"], [body("r-1", text=name), body("r-2", text=name)]), at=at)
        if name != "third":
            try_to_send(outbox, name, outcome, at=at, only="r-1")
    pending = outbox.to_send("third").set_index("reminder_id")
    assert pending["body"].to_dict() == {"r-1": body("r-1", text=kept), "r-2": body("r-2", text="third")}
    attempts = {"r-1": 2 if outcome == "rejected" else 4, "r-2": 2}
    assert pending["attempts"].to_dict() == attempts


def test_the_body_kept_is_that_of_the_open_attempt_not_of_one_that_was_refused(outbox: Outbox) -> None:
    for hour, (name, outcome) in enumerate([("first", "not_delivered"), ("second", "unknown"), ("third", None)]):
        at = NOON + timedelta(hours=hour)
        freeze(outbox, name, reminders(["r-1"], [body("r-1", text=name)]), at=at)
        if outcome:
            try_to_send(outbox, name, outcome, at=at)
    assert outbox.to_send("third")["body"].tolist() == [body("r-1", text="second")]


def test_a_batch_superseded_meanwhile_may_attempt_nothing_and_stays_superseded(outbox: Outbox) -> None:
    freeze(outbox, "morning", reminders(["r-1"]))
    pending = outbox.to_send("morning")
    freeze(outbox, "noon", reminders(["r-1"]), at=NOON + timedelta(hours=1))
    with pytest.raises(SendingRefused, match="batch morning was superseded by noon, which is newer"):
        outbox.begin_attempts("morning", pending, NOON, TODAY, MOST)
    outbox.finish("morning")
    history = outbox.warehouse.fetch("select batch_id, attempt, outcome, error_detail from dunning.sent_history")
    assert history.to_numpy().tolist() == [["morning", 1, "superseded", "batch noon took the place of its batch"]]
    assert states(outbox) == {"morning": "superseded", "noon": "planned"}


@pytest.mark.parametrize(
    ("outcome", "superseded"),
    [("accepted", False), ("rejected", False), ("dropped", False), ("unknown", True), ("not_delivered", True)],
)
def test_what_a_newer_batch_keeps_from_being_sent_is_recorded_as_superseded(
    outbox: Outbox, outcome: str, superseded: bool
) -> None:
    freeze(outbox, "morning", reminders(["r-1"]))
    try_to_send(outbox, "morning", outcome)
    freeze(outbox, "noon", reminders(["r-2"]), at=NOON + timedelta(hours=1))
    freeze(outbox, "evening", reminders(["r-3"]), at=NOON + timedelta(hours=2))
    found = outbox.warehouse.fetch(
        "select batch_id, reminder_id, contact_on from dunning.sent_history where outcome = 'superseded' order by all"
    )
    found["contact_on"] = found["contact_on"].dt.date
    morning = [["morning", "r-1", TODAY]] if superseded else []
    assert found.to_numpy().tolist() == [*morning, ["noon", "r-2", TODAY]]
    assert outbox.to_send("evening")["reminder_id"].tolist() == ["r-3"]


def of_one_customer(*ids: str) -> pd.DataFrame:
    """Reminders that are all addressed to the same customer."""
    return reminders(ids).assign(customer_id="c-1")


@pytest.mark.parametrize(
    ("outcome", "held"),
    [("accepted", True), ("unknown", True), (None, True), ("not_delivered", False), ("rejected", False)],
)
def test_a_customer_who_may_have_got_another_reminder_of_the_day_is_dropped(
    outbox: Outbox, outcome: str | None, held: bool
) -> None:
    freeze(outbox, "morning", of_one_customer("r-1"))
    try_to_send(outbox, "morning", outcome)
    freeze(outbox, "noon", of_one_customer("r-2"), at=NOON + timedelta(hours=1))
    going, dropped = outbox.begin_attempts("noon", outbox.to_send("noon"), NOON + timedelta(hours=1), TODAY, MOST)
    assert going["reminder_id"].tolist() == ([] if held else ["r-2"])
    assert dropped["reminder_id"].tolist() == (["r-2"] if held else [])
    told = outbox.warehouse.fetch("select error_detail from dunning.sent_history where outcome = 'dropped'")
    assert told["error_detail"].tolist() == (
        ["another reminder of today was accepted, or may have been"] if held else []
    )


def test_the_same_reminder_and_those_of_another_day_hold_nobody(outbox: Outbox) -> None:
    freeze(outbox, "morning", of_one_customer("r-1"))
    try_to_send(outbox, "morning", "unknown")
    going, _ = outbox.begin_attempts("morning", outbox.to_send("morning"), NOON, TODAY, MOST)
    assert going["reminder_id"].tolist() == ["r-1"]
    tomorrow = NOON + timedelta(days=1)
    freeze(outbox, "tomorrow", of_one_customer("r-2"), at=tomorrow, as_of=tomorrow.date())
    going, _ = outbox.begin_attempts("tomorrow", outbox.to_send("tomorrow"), tomorrow, tomorrow.date(), MOST)
    assert going["reminder_id"].tolist() == ["r-2"]


def test_a_rejection_is_dated(outbox: Outbox) -> None:
    freeze(outbox, "monday", reminders(["r-1"]))
    try_to_send(outbox, "monday", "rejected")
    found = outbox.warehouse.fetch(sql.load("rejections"), {"stream": "invoice"})
    assert found["reminder_id"].tolist() == ["r-1"]
    assert found["rejected_on"].dt.date.tolist() == [TODAY]


def test_on_another_day_a_reminder_goes_with_that_days_body(outbox: Outbox) -> None:
    freeze(outbox, "monday", reminders(["r-1"], [body("r-1", text="monday")]))
    try_to_send(outbox, "monday", "unknown")
    next_day = NOON + timedelta(days=1)
    freeze(outbox, "tuesday", reminders(["r-1"], [body("r-1", text="tuesday")]), at=next_day, as_of=next_day.date())
    assert outbox.to_send("tuesday")["body"].tolist() == [body("r-1", text="tuesday")]


def test_attempts_and_outcomes_are_appended_and_never_changed(outbox: Outbox) -> None:
    freeze(outbox, "monday", reminders(["r-1"]))
    try_to_send(outbox, "monday", "not_delivered")
    before = outbox.warehouse.fetch("select * from dunning.sent_history order by attempt, outcome")
    try_to_send(outbox, "monday", "accepted", at=NOON + timedelta(minutes=1))
    after = outbox.warehouse.fetch("select * from dunning.sent_history order by attempt, outcome")
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before, check_dtype=False)
    assert after[["attempt", "outcome"]].to_numpy().tolist() == [
        [1, "attempting"],
        [1, "not_delivered"],
        [2, "accepted"],
        [2, "attempting"],
    ]
    assert set(after["customer_id"]) == {"c-r-1"}


def test_reminders_are_found_where_they_lie_after_a_dry_run_removed_what_lay_before_them(outbox: Outbox) -> None:
    freeze(outbox, "left behind", reminders([f"old-{number}" for number in range(ROWS_TOGETHER + 100)]), live=False)
    freeze(outbox, "monday", reminders(["r-1", "r-2", "r-3"]))
    lie = "select min(rowid) as place from dunning.reminders where batch_id = 'monday'"
    ids, place = outbox.ids_to_send("monday"), outbox.warehouse.fetch(lie)["place"].iloc[0]
    with outbox.warehouse.transaction() as connection:
        connection.execute("delete from dunning.batches where batch_id = 'left behind'")
    freeze(outbox, "dry", reminders(["d-1"]), live=False)
    assert outbox.warehouse.fetch(lie)["place"].iloc[0] < place, "the rows did not move"
    assert outbox.to_send("monday", ids.iloc[:2])["reminder_id"].tolist() == ["r-1", "r-2"]
    assert outbox.to_send("monday", ids.iloc[2:])["reminder_id"].tolist() == ["r-3"]


@pytest.mark.parametrize("live", [True, False])
def test_a_reminder_that_klaviyo_would_not_take_is_rejected_with_its_reason_and_kept(
    outbox: Outbox, live: bool
) -> None:
    refused = reminders(["r-1", "r-2"]).assign(refusal=["customer_name has 100001 bytes", None])
    freeze(outbox, "monday", refused, live=live)
    assert count(outbox, "dunning.reminders") == 2
    assert outbox.to_send("monday")["reminder_id"].tolist() == (["r-2"] if live else ["r-1", "r-2"])
    told = outbox.warehouse.fetch(
        "select reminder_id, attempt, outcome, error_code, error_detail from dunning.sent_history order by outcome"
    ).astype(object)
    assert told.where(told.notna(), None).to_numpy().tolist() == (
        [
            ["r-1", 1, "attempting", None, None],
            ["r-1", 1, "rejected", "too_large", "customer_name has 100001 bytes"],
        ]
        if live
        else []
    )
    assert outbox.warehouse.fetch(sql.load("rejections"), {"stream": "invoice"})["reminder_id"].tolist() == (
        ["r-1"] if live else []
    )


def test_a_reminder_refused_again_is_another_attempt(outbox: Outbox) -> None:
    refused = reminders(["r-1"]).assign(refusal="the event has 6000000 bytes")
    for hour, name in enumerate(["morning", "noon"]):
        freeze(outbox, name, refused, at=NOON + timedelta(hours=hour))
    rows = outbox.warehouse.fetch("select attempt, outcome from dunning.sent_history order by all")
    assert rows.to_numpy().tolist() == [[1, "attempting"], [1, "rejected"], [2, "attempting"], [2, "rejected"]]
