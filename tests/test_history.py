"""The history in files beside the warehouse: written before a run ends, whole after any crash, read back as it was."""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow.parquet as pq
import pytest
from support import MovingClock, Pipeline, settings_at
from test_outbox import empty_warehouse, freeze, reminders

from dunning_pipeline import history, history_files
from dunning_pipeline.errors import HistoryError
from dunning_pipeline.history import history_folder, keep_history, require_whole_history, restore_history
from dunning_pipeline.outbox import Outbox, Result
from dunning_pipeline.recording import Recorder, Target
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.klaviyo import KlaviyoAccount, running

TODAY = date(2025, 3, 12)
NOON = datetime(2025, 3, 12, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
SENT = """
    select * exclude (customer_key, invoice_key) from dunning.sent_history order by reminder_id, attempt, outcome
"""
"""Without the integers that another warehouse gives the same ids."""


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(empty_warehouse(tmp_path / "home" / "warehouse.duckdb"), "invoice")


def sent(outbox: Outbox, batch_id: str, ids: list[str], result: Result | None = None, at: datetime = NOON) -> None:
    """Freezes a batch and sends it, with the same outcome for every reminder."""
    freeze(outbox, batch_id, reminders(ids), at=at)
    leave, _ = outbox.begin_attempts(batch_id, outbox.to_send(batch_id), at, TODAY, 3)
    outbox.record_results(leave, result or Result("accepted", 202), at, TODAY)
    outbox.finish(batch_id)


def files(warehouse: Warehouse, table: str = "sent_history") -> list[Path]:
    return sorted(history_folder(warehouse).glob(f"{table}-*.parquet"))


def rows_in_files(warehouse: Warehouse, table: str = "sent_history") -> int:
    return sum(pq.read_metadata(path).num_rows for path in files(warehouse, table))


def replaced(warehouse: Warehouse, content: bytes | None = None) -> Warehouse:
    """The warehouse gone, or replaced by an older copy of its file."""
    warehouse.path.unlink()
    if content is not None:
        warehouse.path.write_bytes(content)
        return Warehouse(warehouse.path)
    return empty_warehouse(warehouse.path)


def test_what_was_sent_is_in_a_file_for_its_owner_alone(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1", "r-2"])
    written = keep_history(outbox.warehouse, NOON)
    (file,) = files(outbox.warehouse)
    assert file.name.startswith("sent_history-20250312T120000Z-")
    assert file.name in written.files
    assert written.rows == {"sent_history": 4, "batches": 1}
    assert pq.read_table(file)["outcome"].to_pylist().count("accepted") == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_what_is_in_a_file_is_not_written_again(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    keep_history(outbox.warehouse, NOON)
    assert keep_history(outbox.warehouse, LATER).files == ()
    sent(outbox, "b-2", ["r-2"])
    assert keep_history(outbox.warehouse, LATER).rows == {"sent_history": 2, "batches": 1}
    assert rows_in_files(outbox.warehouse) == 4


def test_nothing_to_keep_makes_no_file_and_no_folder(outbox: Outbox) -> None:
    assert keep_history(outbox.warehouse, NOON).files == ()
    assert not history_folder(outbox.warehouse).exists()


def test_a_warehouse_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb")
    assert keep_history(warehouse, NOON).files == ()
    require_whole_history(warehouse)
    assert not warehouse.path.exists()


def test_a_long_history_is_written_in_several_files(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_ROWS", 3)
    sent(outbox, "b-1", ["r-1", "r-2", "r-3", "r-4"])
    assert keep_history(outbox.warehouse, NOON).rows["sent_history"] == 8
    assert [pq.read_metadata(path).num_rows for path in files(outbox.warehouse)].count(3) == 2
    assert rows_in_files(outbox.warehouse) == 8


def test_a_crash_before_the_file_leaves_it_to_the_next_run(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    keep_history(outbox.warehouse, NOON)
    sent(outbox, "b-2", ["r-2"])
    killed = history_folder(outbox.warehouse) / "sent_history-0123456789abcdef.partial"
    killed.write_bytes(b"PAR1 half of it")
    assert keep_history(outbox.warehouse, LATER).rows["sent_history"] == 2
    assert rows_in_files(outbox.warehouse) == 4


def test_a_crash_between_file_and_mark_writes_nothing_twice(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    before = outbox.warehouse.path.read_bytes()
    keep_history(outbox.warehouse, NOON)
    warehouse = replaced(outbox.warehouse, before)
    assert keep_history(warehouse, LATER).files == ()
    assert rows_in_files(warehouse) == 2
    require_whole_history(warehouse)
    sent(Outbox(warehouse, "invoice"), "b-2", ["r-2"])
    assert keep_history(warehouse, LATER).rows["sent_history"] == 2


def test_a_file_that_has_gone_is_written_again(outbox: Outbox) -> None:
    for number in (1, 2):
        sent(outbox, f"b-{number}", [f"r-{number}"])
        keep_history(outbox.warehouse, NOON + timedelta(hours=number))
    files(outbox.warehouse)[0].unlink()
    assert keep_history(outbox.warehouse, LATER + timedelta(days=1)).rows == {"sent_history": 2}
    assert rows_in_files(outbox.warehouse) == 4


def test_a_full_disk_is_told_and_undoes_nothing(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    sent(outbox, "b-1", ["r-1"])
    with monkeypatch.context() as patched:
        patched.setattr(history_files, "sync_file", full)
        with pytest.raises(HistoryError, match=r"cannot be written to .*No space left on device; the warehouse holds"):
            keep_history(outbox.warehouse, NOON)
    assert not list(history_folder(outbox.warehouse).iterdir())
    assert keep_history(outbox.warehouse, LATER).rows["sent_history"] == 2


def test_a_folder_that_cannot_be_written_to_is_told(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    history_folder(outbox.warehouse).write_text("in the way")
    with pytest.raises(HistoryError, match="cannot be written to"):
        keep_history(outbox.warehouse, NOON)


def test_bodies_are_kept_only_of_reminders_that_were_not_accepted(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    sent(outbox, "b-2", ["r-2"], Result("rejected", 400, "invalid", "bad address"))
    keep_history(outbox.warehouse, NOON)
    (file,) = files(outbox.warehouse, "reminders")
    assert pq.read_table(file)["reminder_id"].to_pylist() == ["r-2"]


def test_the_history_comes_back_into_an_empty_warehouse(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1", "r-2"])
    keep_history(outbox.warehouse, NOON)
    sent(outbox, "b-2", ["r-3"], Result("rejected", 400, "invalid", "bad address"))
    keep_history(outbox.warehouse, LATER)
    before = outbox.warehouse.fetch(SENT)
    warehouse = replaced(outbox.warehouse)
    restored = restore_history(warehouse, LATER)
    assert restored.rows == {"sent_history": 6, "batches": 2, "reminders": 1}
    assert not restored.damaged
    pd.testing.assert_frame_equal(warehouse.fetch(SENT), before)
    assert keep_history(warehouse, LATER).files == ()


@pytest.mark.parametrize("table", ["sent_history", "reminders"])
def test_what_comes_back_has_the_keys_of_its_new_warehouse(outbox: Outbox, table: str) -> None:
    """They are in no file, and what is pulled afterwards gets the same ones."""
    sent(outbox, "b-1", ["r-1", "r-2"], Result("rejected", 400, "invalid", "bad address"))
    keep_history(outbox.warehouse, NOON)
    assert not {"customer_key", "invoice_key"} & {*pq.read_schema(files(outbox.warehouse, table)[0]).names}
    warehouse = replaced(outbox.warehouse)
    restore_history(warehouse, LATER)
    keyed = f"""
        select count(*) as n from dunning.{table} as r
        join source.customer_keys as c using (customer_id, customer_key)
        join source.invoice_keys as i on i.invoice_key = r.invoice_key and i.invoice_id = r.carrying_invoice_id
    """
    assert warehouse.fetch(keyed)["n"].tolist() == [rows_in_files(warehouse, table)]


def test_rows_that_two_files_hold_are_taken_once(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    before = outbox.warehouse.path.read_bytes()
    keep_history(outbox.warehouse, NOON)
    (first,) = files(outbox.warehouse)
    held = first.rename(first.with_suffix(".aside"))
    warehouse = replaced(outbox.warehouse, before)
    keep_history(warehouse, LATER)
    held.rename(first)
    assert rows_in_files(warehouse) == 4
    assert restore_history(replaced(warehouse), LATER).rows["sent_history"] == 2


def test_a_corrupt_and_a_half_written_file_are_named_and_skipped(outbox: Outbox) -> None:
    for number in (1, 2):
        sent(outbox, f"b-{number}", [f"r-{number}"])
        keep_history(outbox.warehouse, NOON + timedelta(hours=number))
    corrupt = files(outbox.warehouse)[0]
    content = bytearray(corrupt.read_bytes())
    content[len(content) // 2] ^= 1
    corrupt.write_bytes(content)
    partial = corrupt.with_name("sent_history-0123456789abcdef.partial")
    partial.write_bytes(b"PAR1")
    strange = corrupt.with_name("mine.parquet")
    strange.write_bytes(b"PAR1")
    restored = restore_history(replaced(outbox.warehouse), LATER)
    assert restored.rows["sent_history"] == 2
    assert restored.damaged == {
        corrupt.name: "corrupt: its content is not what was written",
        partial.name: "half-written: a run was killed while it wrote this file",
        strange.name: "not named as files of the history are",
    }


def test_a_thorough_look_finds_a_corrupt_file_and_writes_its_rows_anew(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    keep_history(outbox.warehouse, NOON)
    (corrupt,) = files(outbox.warehouse)
    corrupt.write_bytes(corrupt.read_bytes()[:-1])
    written = keep_history(outbox.warehouse, LATER, thorough=True)
    assert list(written.damaged) == [corrupt.name]
    assert written.rows == {"sent_history": 2}


def test_a_warehouse_with_history_is_not_restored_over(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    keep_history(outbox.warehouse, NOON)
    with pytest.raises(HistoryError, match=r"holds history already \(dunning.sent_history\); --add brings back only"):
        restore_history(outbox.warehouse, LATER)


def test_without_files_there_is_nothing_to_restore(outbox: Outbox) -> None:
    with pytest.raises(HistoryError, match=r"there is nothing to restore: .*history holds no files"):
        restore_history(outbox.warehouse, NOON)


def test_an_older_copy_of_the_warehouse_is_noticed_until_the_rest_is_brought_back(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    keep_history(outbox.warehouse, NOON)
    older = outbox.warehouse.path.read_bytes()
    sent(outbox, "b-2", ["r-2"])
    keep_history(outbox.warehouse, LATER)
    whole = outbox.warehouse.fetch(SENT)

    warehouse = replaced(outbox.warehouse, older)
    keep_history(warehouse, LATER)
    with pytest.raises(HistoryError, match=r"lacks rows .* hold \(2 of sent_history\), as a new one or an older copy"):
        require_whole_history(warehouse)
    assert restore_history(warehouse, LATER, add=True).rows == {"sent_history": 2, "batches": 1}
    require_whole_history(warehouse)
    pd.testing.assert_frame_equal(warehouse.fetch(SENT), whole)


def test_a_new_warehouse_beside_files_is_noticed(outbox: Outbox) -> None:
    sent(outbox, "b-1", ["r-1"])
    keep_history(outbox.warehouse, NOON)
    with pytest.raises(HistoryError, match="nothing is sent before `dunning history restore --add`"):
        require_whole_history(replaced(outbox.warehouse))


def test_a_run_that_fails_has_written_what_it_did_before_it_ends(
    tmp_path: Path, billing: str, instance: dg.DagsterInstance
) -> None:
    """And it names the files, also when Klaviyo cannot be reached."""
    environment = {"BILLING_DATABASE_URL": billing, "KLAVIYO_URL": "http://127.0.0.1:1"}
    pipeline = Pipeline(settings_at(tmp_path / "home", POLICY, MovingClock(), environment), instance)
    made = pipeline.daily()
    result = pipeline.send(made.run_id, raise_on_error=False)
    assert not result.success
    (told,) = result.asset_materializations_for_node("send")
    (file,) = files(pipeline.warehouse)
    assert file.name in str(told.metadata["history_files"].value)
    assert rows_in_files(pipeline.warehouse) == len(pipeline.warehouse.fetch(SENT)) > 0


def test_a_run_whose_history_cannot_be_written_tells_what_it_sent_and_fails(
    tmp_path: Path, billing: str, instance: dg.DagsterInstance
) -> None:
    clock = MovingClock()
    account = KlaviyoAccount(clock=clock)
    with running(account) as url:
        environment = {"BILLING_DATABASE_URL": billing, "KLAVIYO_URL": url}
        pipeline = Pipeline(settings_at(tmp_path / "home", POLICY, clock, environment), instance)
        made = pipeline.daily()
        folder = history_folder(pipeline.warehouse)
        folder.write_text("in the way")
        result = pipeline.send(made.run_id, raise_on_error=False)
        assert not result.success
        (told,) = result.asset_materializations_for_node("send")
        assert told.metadata["accepted"].value == len(account.events) == CUSTOMERS

        folder.unlink()
        assert pipeline.send(made.run_id).success
        assert rows_in_files(pipeline.warehouse) == len(pipeline.warehouse.fetch(SENT))
        assert len(account.events) == CUSTOMERS


def test_a_batch_that_was_not_sent_to_the_end_can_not_be_sent_after_a_restoration(outbox: Outbox) -> None:
    freeze(outbox, "b-1", reminders(["r-1", "r-2"]))
    outbox.begin_attempts("b-1", outbox.to_send("b-1").iloc[:1], NOON, TODAY, 3)
    keep_history(outbox.warehouse, NOON)
    restored = Outbox(replaced(outbox.warehouse), "invoice")
    restore_history(restored.warehouse, LATER)
    assert restored.newest_live() is None
    batch = restored.batch("b-1")
    assert batch is not None
    assert batch.state == "superseded"


def test_an_attempt_without_an_outcome_keeps_its_body_for_the_same_day(outbox: Outbox) -> None:
    freeze(outbox, "b-1", reminders(["r-1"], ['{"frozen": "first"}']))
    outbox.begin_attempts("b-1", outbox.to_send("b-1"), NOON, TODAY, 3)
    keep_history(outbox.warehouse, NOON)
    restored = Outbox(replaced(outbox.warehouse), "invoice")
    restore_history(restored.warehouse, LATER)
    freeze(restored, "b-2", reminders(["r-1"], ['{"frozen": "second"}']), at=LATER)
    assert restored.to_send("b-2")["body"].tolist() == ['{"frozen": "first"}']


POLICY = """\
organisation: {time_zone: Europe/Paris, base_currency: EUR}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - name: standard
    default: true
    minimum_contact_delay: 20
    actions: [{name: reminder_1, day: 1}, {name: reminder_2, day: 8}, {name: reminder_3, day: 15}]
  - {name: gentle, actions: [{name: nudge, day: 1}]}
sending: {live: true}
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: invoices}
"""
CUSTOMERS = 8
FRIDAY = date(2026, 11, 13)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def billing(tmp_path: Path) -> str:
    database = tmp_path / "billing.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("""
            create table customers (customer_id text, name text, email text);
            create table invoices
                (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text);
        """)
        for number in range(CUSTOMERS):
            customer = [f"C{number}", f"Shop {number}", f"c{number}@shop.test"]
            connection.execute("insert into customers values (?, ?, ?)", customer)
            invoice = [f"F{number}", f"C{number}", "2026-10-01", f"2026-11-{number + 1:02}", "EUR", "100.00"]
            connection.execute("insert into invoices values (?, ?, ?, ?, ?, ?)", invoice)
        connection.commit()
    return f"sqlite:///{database}"


DECISIONS = """
    select as_of, customer_id, level, carrying_invoice_id, workflow, assigned_by, action, action_position, occurrence,
        trigger_on, last_contact_on, next_due_on, decision, reason, reminder_id
    from dunning.decisions where as_of >= $first order by all
"""


def test_decisions_after_a_restoration_are_those_before_it_and_nobody_is_reminded_twice(
    tmp_path: Path, billing: str, instance: dg.DagsterInstance
) -> None:
    clock = MovingClock()
    account = KlaviyoAccount(clock=clock)
    with running(account) as url:
        environment = {"BILLING_DATABASE_URL": billing, "KLAVIYO_URL": url}
        pipeline = Pipeline(settings_at(tmp_path / "home", POLICY, clock, environment), instance)
        warehouse, settings = pipeline.warehouse, pipeline.settings

        for day in (date(2026, 11, 6), FRIDAY):
            clock.move_to(day)
            made = pipeline.daily()
            if day == FRIDAY:
                reject(Outbox(warehouse, "invoice"), made.run_id, "C7", clock())
            pipeline.send_if_asked()
            if day != FRIDAY:
                record_by_hand(Recorder(warehouse, settings.policy, day, lambda: "x"), day)
        reminded = len(account.events)
        assert reminded == CUSTOMERS

        assert pipeline.daily().success
        before = warehouse.fetch(DECISIONS, {"first": FRIDAY})
        reasons = {"customer_paused", "promise_to_pay", "minimum_contact_delay", "rejected"}
        assert set(before["reason"].dropna()) == reasons

        warehouse.path.unlink()
        assert "lacks rows" in refusal(pipeline, made.run_id)
        restore_history(Warehouse(warehouse.path), clock())
        assert pipeline.daily().success
        pd.testing.assert_frame_equal(pipeline.warehouse.fetch(DECISIONS, {"first": FRIDAY}), before)
        pipeline.send_if_asked()
        assert len(account.events) == reminded


def record_by_hand(recorder: Recorder, day: date) -> None:
    recorder.pause(Target("customer", "C0"), day)
    recorder.pause(Target("customer", "C1"), day)
    recorder.resume(Target("customer", "C1"))
    recorder.promise("C2", date(2026, 11, 20))
    recorder.assign("C3", "gentle", day)
    recorder.contact("C4", day, channel="call")


def reject(outbox: Outbox, batch_id: str, customer_id: str, at: datetime) -> None:
    """Klaviyo rejects the reminder of a customer."""
    pending = outbox.to_send(batch_id)
    leave, _ = outbox.begin_attempts(batch_id, pending[pending["customer_id"] == customer_id], at, at.date(), 3)
    outbox.record_results(leave, Result("rejected", 400, "invalid", "bad address"), at, at.date())


def refusal(pipeline: Pipeline, batch_id: str) -> str:
    """Why a batch is not sent."""
    with pytest.raises(dg.Failure) as failure:
        pipeline.send(batch_id)
    return str(failure.value.description)
