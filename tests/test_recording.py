"""What people record by hand, day by day: it counts from the day it was recorded on, and nothing is rewritten."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.errors import DunningError
from dunning_pipeline.partitions import Days
from dunning_pipeline.recording import Recorder, Target
from dunning_pipeline.tables import ASSIGNMENTS

POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - name: standard
    default: true
    minimum_contact_delay: 5
    actions: [{name: reminder_1, day: 1, was: [first]}, {name: reminder_2, day: 8}]
  - {name: gentle, actions: [{name: nudge, day: 1}]}
quality: {max_rejected: 0}
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: invoices, pauses: pauses, promises: promises}
"""

SCHEMA = """
create table customers (customer_id text, name text, email text);
create table invoices (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text);
create table pauses (pause_id text, scope text, customer_id text, paused_from text);
create table promises (promise_id text, customer_id text, promised_on text, pay_by text);
insert into customers values ('C1', 'Harbour Bakery', 'a@harbour.test'), ('C2', 'Kontor', 'b@kontor.test');
insert into invoices values
    ('F1', 'C1', '2026-10-01', '2026-11-01', 'EUR', '100.00'), ('F2', 'C2', '2026-10-01', '2026-11-01', 'EUR', '9.00');
"""

TODAY = date(2026, 11, 16)
YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)

C1, F1, ORGANISATION = Target("customer", "C1"), Target("invoice", "F1"), Target("organisation")


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


class Desk:
    """A person at the desk: records, moves to other days, and looks at what is decided about C1."""

    def __init__(self, pipeline: Pipeline, clock: MovingClock, database: Path) -> None:
        self.pipeline, self.clock, self.database = pipeline, clock, database
        self.numbers = count()

    @property
    def record(self) -> Recorder:
        settings = self.pipeline.settings
        return Recorder(self.pipeline.warehouse, settings.policy, settings.today(), lambda: f"{next(self.numbers):x}")

    def pull(self) -> None:
        assert self.pipeline.daily().success

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(statement)

    def on(self, day: date) -> "Desk":
        self.clock.move_to(day)
        return self

    def decided(self, day: date, columns: str = "reason") -> object:
        """The reason (or other columns) of C1's decision of a day, made anew; `remind` where there is none."""
        for derivation in DERIVATIONS:
            derive_and_replace(
                derivation, self.pipeline.warehouse, self.pipeline.settings.policy, Days(day, day), "test"
            )
        query = f"select {columns} from dunning.decisions where customer_id = 'C1' and as_of = $day"
        (row,) = self.pipeline.warehouse.fetch(query, {"day": day}).astype(object).fillna("remind").to_numpy()
        return row[0] if len(row) == 1 else tuple(row)

    def assigned_by_source(self, assignment_id: str, workflow: str, assigned_from: date) -> None:
        """Writes an assignment of C1 as if its source had been pulled."""
        key = self.pipeline.warehouse.fetch("select customer_key from source.customer_keys where customer_id = 'C1'")
        row = dict.fromkeys(ASSIGNMENTS.column_names) | {
            **{"assignment_id": assignment_id, "customer_id": "C1", "workflow": workflow, "source": "billing"},
            **{"assigned_from": assigned_from, "recorded_on": YESTERDAY, "customer_key": key["customer_key"].iloc[0]},
        }
        self.pipeline.warehouse.append(ASSIGNMENTS, pd.DataFrame([row]))

    def rows(self, table: str, columns: str = "*") -> list[tuple[object, ...]]:
        frame = self.pipeline.warehouse.fetch(f"select {columns} from source.{table} order by all")
        return [tuple(row) for row in frame.astype(object).fillna("").to_numpy()]


def desk_in(folder: Path, instance: dg.DagsterInstance) -> Desk:
    database = folder / "billing.sqlite"
    clock = MovingClock()
    environment = {"BILLING_DATABASE_URL": f"sqlite:///{database}"}
    return Desk(Pipeline(settings_at(folder, POLICY, clock, environment), instance), clock, database)


@pytest.fixture(scope="module")
def quiet_desk(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Desk:
    """A desk where what SCHEMA says was pulled and decided today, and at which nothing is ever recorded."""
    desk = desk_in(tmp_path_factory.mktemp("quiet"), instance)
    desk.change(SCHEMA)
    desk.pull()
    return desk


@pytest.fixture
def desk(tmp_path: Path, quiet_desk: Desk, instance: dg.DagsterInstance) -> Desk:
    """A desk with what was pulled at the quiet one."""
    desk = desk_in(tmp_path, instance)
    shutil.copy(quiet_desk.database, desk.database)
    shutil.copy(quiet_desk.pipeline.settings.warehouse_path, desk.pipeline.settings.warehouse_path)
    return desk


@pytest.mark.parametrize(
    ("target", "reason"),
    [(C1, "customer_paused"), (F1, "customer_paused"), (ORGANISATION, "organisation_paused")],
    ids=str,
)
def test_a_pause_holds_from_today_until_it_is_resumed_and_rewrites_no_day(
    desk: Desk, target: Target, reason: str
) -> None:
    pause_id = desk.record.pause(target, YESTERDAY)
    assert [desk.decided(YESTERDAY), desk.decided(TODAY)] == ["remind", reason]
    assert desk.on(TODAY + timedelta(days=3)).record.resume(target).ended == (pause_id,)
    resumed = [desk.decided(TODAY + timedelta(days=offset)) for offset in range(-1, 4)]
    assert resumed == ["remind", reason, reason, reason, "remind"]


def test_the_first_and_the_last_day_that_count_can_be_recorded(desk: Desk) -> None:
    desk.record.pause(C1, date(1900, 1, 1), date(2200, 12, 31))
    assert desk.decided(TODAY) == "customer_paused"


def test_a_pause_ends_by_itself_on_paused_until(desk: Desk) -> None:
    desk.record.pause(C1, TODAY, TOMORROW)
    assert desk.decided(TODAY) == "customer_paused"
    assert desk.on(TOMORROW).decided(TOMORROW) == "remind"


def test_a_pause_can_be_resumed_on_the_same_day_and_begun_again(desk: Desk) -> None:
    first = desk.record.pause(C1, TODAY)
    desk.record.resume(C1)
    assert desk.decided(TODAY) == "remind"
    second = desk.record.pause(C1, TODAY)
    assert desk.decided(TODAY) == "customer_paused"
    assert desk.record.resume(C1).ended == (second,)
    assert [row[0] for row in desk.rows("pauses", "pause_id")] == [first, first, second, second]


def test_nothing_that_was_recorded_is_rewritten(desk: Desk) -> None:
    pause_id = desk.record.pause(C1, TODAY)
    promise_id = desk.record.promise("C1", TOMORROW)
    before = desk.rows("pauses"), desk.rows("promises")
    desk.on(TOMORROW).record.resume(C1)
    desk.record.withdraw(promise_id)
    assert set(before[0]) < set(desk.rows("pauses"))
    assert set(before[1]) < set(desk.rows("promises"))
    assert {row[0] for row in desk.rows("pauses", "pause_id")} == {pause_id}


def test_resume_ends_only_pauses_of_its_target_that_have_begun_unless_asked(desk: Desk) -> None:
    desk.record.pause(F1, TODAY)
    later = desk.record.pause(C1, TOMORROW)
    with pytest.raises(DunningError, match="no pause of customer C1 is in force on 2026-11-16"):
        desk.record.resume(C1)
    assert desk.record.resume(C1, planned=True).ended == (later,)
    assert desk.record.resume(F1)
    assert desk.on(TOMORROW).decided(TOMORROW) == "remind"
    with pytest.raises(DunningError, match="no pause of customer C1"):
        desk.record.resume(C1, planned=True)


def test_a_pause_of_a_source_is_ended_there(desk: Desk) -> None:
    desk.change("insert into pauses values ('P9', 'customer', 'C1', '2026-11-10')")
    desk.pull()
    with pytest.raises(DunningError, match="customer C1 is held by the pause P9 of the source billing; end it there"):
        desk.record.resume(C1)
    pause_id = desk.record.pause(C1, TODAY)
    resumed = desk.record.resume(C1)
    assert (resumed.ended, resumed.left) == ((pause_id,), {"P9": "billing"})
    assert desk.decided(TODAY) == "customer_paused"


def test_a_pause_of_a_source_that_left_the_policy_is_ended_by_hand(desk: Desk) -> None:
    desk.record.pause(C1, TODAY)
    with desk.pipeline.warehouse.transaction() as connection:
        connection.execute("update source.pauses set source = 'gone'")
    assert len(desk.record.resume(C1).ended) == 1
    assert desk.decided(TODAY) == "remind"


def test_a_promise_holds_up_to_its_last_day_and_until_it_is_withdrawn(desk: Desk) -> None:
    promise_id = desk.record.promise("C1", TODAY + timedelta(days=9), "F1")
    assert [desk.decided(YESTERDAY), desk.decided(TODAY)] == ["remind", "promise_to_pay"]
    desk.on(TOMORROW).record.withdraw(promise_id)
    assert [desk.decided(TODAY), desk.decided(TOMORROW)] == ["promise_to_pay", "remind"]
    with pytest.raises(DunningError, match=f"promise {promise_id} was withdrawn on 2026-11-17 already"):
        desk.record.withdraw(promise_id)


def test_a_promise_that_does_not_pause_lets_reminders_go_on(desk: Desk) -> None:
    desk.record.promise("C1", TOMORROW, pauses=False)
    assert desk.decided(TODAY) == "remind"
    broken = "select broken_promise from dunning.open_invoices where invoice_id = 'F1' and as_of = $day"
    after = desk.on(TODAY + timedelta(days=2)).clock.now.date()
    assert desk.decided(after) == "remind"
    assert desk.pipeline.warehouse.fetch(broken, {"day": after})["broken_promise"].tolist() == [True]


def test_a_promise_of_a_source_is_withdrawn_there(desk: Desk) -> None:
    desk.change("insert into promises values ('S9', 'C1', '2026-11-10', '2026-11-30')")
    desk.pull()
    with pytest.raises(DunningError, match="promise S9 comes from the source billing; withdraw it there"):
        desk.record.withdraw("S9")
    with pytest.raises(DunningError, match="there is no promise 'S99'; similar: S9"):
        desk.record.withdraw("S99")


def test_an_assignment_counts_from_its_day_and_the_latest_of_a_day_wins(desk: Desk) -> None:
    for workflow in ["gentle", "unassigned"] * 6:
        desk.record.assign("C1", workflow, TODAY)
    assert desk.decided(TODAY, "reason, workflow") == ("no_workflow", "remind")
    last = desk.record.assign("C1", "gentle", TODAY, TOMORROW)
    assert desk.decided(TODAY, "workflow, assigned_by") == ("gentle", f"assignment:{last}")
    assert desk.decided(YESTERDAY, "workflow, assigned_by") == ("standard", "default")


def test_an_assignment_that_another_would_win_over_is_refused(desk: Desk) -> None:
    winner = desk.record.assign("C1", "gentle", TODAY)
    sentence = f"assignment {winner} puts customer C1 under gentle and begins on 2026-11-16.*from 2026-11-16 or later"
    with pytest.raises(DunningError, match=sentence):
        desk.record.assign("C1", "standard", YESTERDAY)


@pytest.mark.parametrize(("begins", "asked"), [(TODAY, TODAY), (TODAY, YESTERDAY), (TOMORROW, TOMORROW)])
def test_an_assignment_over_which_one_of_a_source_would_win_is_refused(desk: Desk, begins: date, asked: date) -> None:
    desk.assigned_by_source("subscription-7", "standard", begins)
    counts_from = begins + timedelta(days=1)
    sentence = f"subscription-7 of the source billing puts customer C1 under standard.*allowed: from {counts_from}"
    with pytest.raises(DunningError, match=sentence):
        desk.record.assign("C1", "gentle", asked)
    assert [row[0] for row in desk.rows("assignments")] == ["subscription-7"]
    winner = desk.record.assign("C1", "gentle", counts_from)
    assert desk.on(counts_from).decided(counts_from, "assigned_by") == f"assignment:{winner}"


@pytest.mark.parametrize(("assignment_id", "begins"), [("a-7", TODAY), ("subscription-7", YESTERDAY)])
def test_an_assignment_that_wins_over_one_of_a_source_is_taken(desk: Desk, assignment_id: str, begins: date) -> None:
    desk.assigned_by_source(assignment_id, "standard", begins)
    winner = desk.record.assign("C1", "gentle", TODAY)
    assert desk.decided(TODAY, "assigned_by") == f"assignment:{winner}"


def test_a_contact_counts_for_the_delay_from_the_day_it_was_recorded(desk: Desk) -> None:
    desk.record.contact("C1", YESTERDAY, channel="call")
    assert desk.decided(YESTERDAY) == "remind"
    assert desk.decided(TODAY, "reason, action, last_contact_on::varchar, next_due_on::varchar") == (
        "minimum_contact_delay",
        "reminder_1",
        "2026-11-15",
        "2026-11-20",
    )


@pytest.mark.parametrize("action", ["reminder_1", "first"])
def test_a_contact_that_names_an_action_moves_the_ladder_on(desk: Desk, action: str) -> None:
    desk.record.contact("C1", TODAY - timedelta(days=5), invoice_id="F1", workflow="standard", action=action)
    assert desk.decided(YESTERDAY, "reason, action") == ("remind", "reminder_1")
    assert desk.decided(TODAY, "reason, action") == ("remind", "reminder_2")


def test_a_pull_leaves_what_was_recorded_by_hand_alone(desk: Desk) -> None:
    desk.record.pause(C1, TODAY)
    pause_id = desk.record.pause(ORGANISATION, TODAY)
    desk.record.resume(ORGANISATION)
    desk.record.promise("C1", TOMORROW)
    before = desk.rows("pauses"), desk.rows("promises")
    desk.change("insert into pauses values ('P1', 'customer', 'C2', '2026-11-10')")
    desk.pull()
    pulled = [row for row in desk.rows("pauses") if "billing" in row]
    assert [row[0] for row in pulled] == ["P1"]
    assert set(desk.rows("pauses")) == {*before[0], *pulled}
    assert desk.rows("promises") == before[1]
    desk.change(f"insert into pauses values ('{pause_id}', 'customer', 'C2', '2026-11-10')")
    assert not desk.pipeline.daily(raise_on_error=False).success
    assert set(desk.rows("pauses")) == {*before[0], *pulled}


def test_keys_are_those_of_the_ids(desk: Desk) -> None:
    desk.record.pause(F1, TODAY)
    desk.record.promise("C1", TOMORROW, "F1")
    columns = "customer_id, customer_key, invoice_id, invoice_key"
    assert desk.rows("pauses", columns) == desk.rows("promises", columns)
    assert desk.rows("pauses", columns) == [row for row in desk.rows("invoices", columns) if row[2] == "F1"]


WRONG: dict[str, tuple[Callable[[Recorder], object], str]] = {
    "a customer that nobody knows": (
        lambda by: by.pause(Target("customer", "C11"), TODAY),
        "there is no customer 'C11'; similar: C1",
    ),
    "an id that is like none": (
        lambda by: by.assign("somebody", "gentle", TODAY),
        "there is no customer 'somebody'; no customer has a similar id",
    ),
    "an invoice that nobody knows": (
        lambda by: by.pause(Target("invoice", "F11"), TODAY),
        "there is no invoice 'F11'; similar: F1",
    ),
    "an invoice of somebody else": (
        lambda by: by.promise("C1", TODAY, "F2"),
        "invoice F2 is not of customer C1, but of C2",
    ),
    "a contact about an invoice of somebody else": (
        lambda by: by.contact("C2", TODAY, invoice_id="F1"),
        "invoice F1 is not of customer C2, but of C1",
    ),
    "a pause that ends before it begins": (
        lambda by: by.pause(C1, TOMORROW, TOMORROW),
        "the end 2026-11-17 is not later than the first day 2026-11-17",
    ),
    "a pause that is over": (lambda by: by.pause(C1, YESTERDAY, TODAY), "the end 2026-11-16 has come already"),
    "an assignment that is over": (lambda by: by.assign("C1", "gentle", YESTERDAY, TODAY), "has come already"),
    "a promise of the past": (
        lambda by: by.promise("C1", YESTERDAY),
        "2026-11-15, has passed; allowed: today .2026-11-16. or later",
    ),
    "a contact in the future": (lambda by: by.contact("C1", TOMORROW), "2026-11-17, is yet to come"),
    "a pause from long ago": (
        lambda by: by.pause(C1, date(1899, 12, 31)),
        "1899-12-31 is not allowed: a day of the years 1900 to 2200",
    ),
    "a pause to the end of time": (lambda by: by.pause(C1, TODAY, date(2201, 1, 1)), "2201-01-01 is not allowed"),
    "an assignment to the end of time": (
        lambda by: by.assign("C1", "gentle", TODAY, date(9999, 12, 31)),
        "9999-12-31 is not allowed",
    ),
    "an assignment from the year 20": (lambda by: by.assign("C1", "gentle", date(20, 1, 1)), "0020-01-01 is not"),
    "a promise to the end of time": (lambda by: by.promise("C1", date(2206, 11, 30)), "2206-11-30 is not allowed"),
    "a contact of the year 202": (lambda by: by.contact("C1", date(202, 11, 1)), "0202-11-01 is not allowed"),
    "a workflow that the policy lacks": (
        lambda by: by.assign("C1", "gentel", TODAY),
        "the policy has no workflow 'gentel'; allowed: standard, gentle",
    ),
    "an action that the workflow lacks": (
        lambda by: by.contact("C1", TODAY, invoice_id="F1", workflow="gentle", action="reminder_1"),
        "workflow gentle has no action 'reminder_1'; allowed: nudge",
    ),
    "an action without an invoice": (
        lambda by: by.contact("C1", TODAY, workflow="gentle", action="nudge"),
        "only if it names invoice, workflow and action",
    ),
    "a resumption of nothing": (lambda by: by.resume(ORGANISATION), "no pause of the organisation is in force"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_right_is_refused_and_nothing_is_written(quiet_desk: Desk, case: str) -> None:
    do, sentence = WRONG[case]
    with pytest.raises(DunningError, match=sentence):
        do(quiet_desk.record)
    assert [quiet_desk.rows(table) for table in ("pauses", "promises", "assignments", "contacts")] == [[]] * 4
