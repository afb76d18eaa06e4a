"""The `dunning` command: exit codes, sentences on stderr, and that wrong input leaves nothing half written."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from support import Command, dunning_command

from dunning_pipeline import preflight
from dunning_pipeline.assets import decisions
from dunning_pipeline.checks import COMPLETE
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, Fault, KlaviyoAccount, running

POLICY = """\
organisation: {time_zone: UTC, base_currency: EUR}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - name: standard
    default: true
    actions: [{name: reminder_1, day: 1}]
sending: {live: false}
quality: {max_rejected: 0}
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: invoices, payments: payments}
"""

SCHEMA = """
create table customers (customer_id text, name text, email text);
create table invoices (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text);
create table payments (payment_id text, customer_id text, invoice_id text, currency text, amount text, paid_on text);
insert into customers values ('C1', 'Harbour Bakery', 'accounts@harbour-bakery.test');
insert into invoices values ('0001', 'C1', '2024-01-01', '2024-01-31', 'EUR', '100.00');
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "billing.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA)
    return path


@pytest.fixture
def dunning(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command over a home in `tmp_path` and returns its exit code, stdout and stderr."""
    (tmp_path / "dunning.yaml").write_text(POLICY)
    monkeypatch.setenv("DUNNING_POLICY", str(tmp_path / "dunning.yaml"))
    monkeypatch.setenv("DUNNING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BILLING_DATABASE_URL", f"sqlite:///{database}")
    monkeypatch.delenv("KLAVIYO_API_KEY", raising=False)
    monkeypatch.setenv("KLAVIYO_URL", "http://127.0.0.1:9")
    return dunning_command(capsys)


def change_policy(tmp_path: Path, old: str, new: str) -> None:
    file = tmp_path / "dunning.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def change_database(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.executescript(statement)


def rows(tmp_path: Path, query: str) -> list[tuple[object, ...]]:
    frame = Warehouse(tmp_path / "home" / "warehouse.duckdb").fetch(query)
    return [tuple(row) for row in frame.astype(object).to_numpy()]


def test_run_decides_today_and_makes_a_batch_that_cannot_be_sent(dunning: Command, tmp_path: Path) -> None:
    code, out, _ = dunning("run")
    assert code == 0
    assert "1 customers owe something, 1 are to be reminded" in out
    assert rows(tmp_path, "select live, state, size from dunning.batches") == [(False, "dry_run", 1)]


def test_run_decides_a_past_day_without_a_batch(dunning: Command, tmp_path: Path) -> None:
    code, out, _ = dunning("run", "--as-of", "2024-02-01")
    assert code == 0
    assert "2024-02-01: 1 customers owe something" in out
    assert rows(tmp_path, "select * from dunning.batches") == []


def test_run_sends_with_send_and_live(dunning: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_policy(tmp_path, "live: false", "live: true")
    account = KlaviyoAccount(clock=lambda: datetime.now(UTC))
    with running(account) as url:
        monkeypatch.setenv("KLAVIYO_URL", url)
        monkeypatch.setenv("KLAVIYO_API_KEY", DEFAULT_KEY)
        code, out, _ = dunning("run")
        assert code == 0
        assert account.events == []
        code, out, _ = dunning("run", "--send")
        assert code == 0
        assert "accepted" in out
        assert [event.email for event in account.events] == ["accounts@harbour-bakery.test"]
        code, out, _ = dunning("run", "--send")
        assert (code, len(account.events)) == (0, 1)


def test_a_batch_of_unusual_size_is_held_until_it_is_confirmed(
    dunning: Command, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_policy(tmp_path, "live: false", "live: true, max_batch: 1")
    change_database(database, "insert into customers values ('C2', 'Mill', 'mill@mill.test');")
    change_database(database, "insert into invoices values ('0002', 'C2', '2024-01-01', '2024-01-31', 'EUR', '10.00');")
    account = KlaviyoAccount()
    with running(account) as url:
        monkeypatch.setenv("KLAVIYO_URL", url)
        monkeypatch.setenv("KLAVIYO_API_KEY", DEFAULT_KEY)
        code, _, err = dunning("run", "--send")
        ((batch_id,),) = rows(tmp_path, "select batch_id from dunning.batches")
        held = f"batch {batch_id} would send 2 reminders, more than sending.max_batch (1)"
        confirm = f"dunning run --send --confirm-batch {batch_id}"
        assert (code, account.events) == (1, [])
        assert held in err
        assert confirm in err

        _, out, _ = dunning("check")
        assert f"batch {batch_id} of today has 2 reminders left to send" in out
        assert f"batch {batch_id} is only sent if it is confirmed" in out
        assert dunning("run", "--confirm-batch", "other")[0] == 2
        code, _, err = dunning("run", "--send", "--confirm-batch", "other")
        assert (code, account.events) == (1, [])
        assert "there is no batch other of the invoice stream" in err

        code, out, _ = dunning(*confirm.split()[1:])
        assert (code, len(account.events)) == (0, 2)
        assert "accepted" in out
        assert len(rows(tmp_path, "select * from dunning.batches")) == 1


def test_check_tells_whom_the_allow_list_leaves(
    dunning: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_policy(tmp_path, "live: false", "live: true, allow_list: [somebody@else.test]")
    monkeypatch.setenv("KLAVIYO_API_KEY", DEFAULT_KEY)
    monkeypatch.setenv("KLAVIYO_URL", "http://127.0.0.1:1")
    _, out, _ = dunning("check")
    assert "sending.allow_list restricts sending to 1 addresses" in out
    dunning("run")
    assert "there is no live batch of today" in dunning("check")[1]
    dunning("run", "--send")
    _, out, _ = dunning("check")
    assert "has 0 reminders left to send" in out


def test_send_is_refused_while_the_policy_is_not_live(dunning: Command) -> None:
    code, _, err = dunning("run", "--send")
    assert code == 1
    assert "sending.live is false" in err


def test_send_is_refused_for_another_day(dunning: Command) -> None:
    code, _, err = dunning("run", "--send", "--as-of", "2024-02-01")
    assert code == 2
    assert "not 2024-02-01" in err


def test_a_day_that_cannot_be_derived_is_refused(dunning: Command) -> None:
    code, _, err = dunning("run", "--as-of", "2019-12-31")
    assert code == 1
    assert "2019-12-31 cannot be derived; allowed: from 2020-01-01" in err


def test_a_word_that_is_no_date_is_wrong_usage(dunning: Command) -> None:
    code, _, err = dunning("run", "--as-of", "tomorrow")
    assert code == 2
    assert "'tomorrow' is no date of the form 2026-11-22" in err


def test_an_unknown_policy_key_is_named_with_file_and_line(dunning: Command, tmp_path: Path) -> None:
    change_policy(tmp_path, "calendar:", "calender:")
    code, _, err = dunning("run")
    assert code == 2
    assert "dunning.yaml:2:" in err
    assert "calendar" in err
    assert not (tmp_path / "home" / "warehouse.duckdb").exists()


def test_a_workflow_without_actions_is_refused(dunning: Command, tmp_path: Path) -> None:
    change_policy(tmp_path, "    actions: [{name: reminder_1, day: 1}]\n", "")
    code, _, err = dunning("run")
    assert code == 2
    assert "actions" in err


def test_a_source_table_without_a_needed_column_is_named(dunning: Command, database: Path, tmp_path: Path) -> None:
    change_database(database, "alter table invoices rename column total to gross")
    code, _, err = dunning("run")
    assert code == 1
    assert "billing.invoices: column 'total' is needed, but the source yields" in err
    assert "gross" in err
    assert rows(tmp_path, "select * from source.invoices") == []
    assert rows(tmp_path, "select * from dunning.decisions") == []


def test_a_row_without_an_id_is_stored_with_its_reason_and_stops_the_run(
    dunning: Command, database: Path, tmp_path: Path
) -> None:
    change_database(database, "insert into invoices values (null, 'C1', '2024-01-01', null, 'EUR', '5.00')")
    code, _, err = dunning("run")
    assert code == 1
    assert "invoice_id is empty" in err
    assert rows(tmp_path, "select reason from source.rejected_rows") == [("invoice_id is empty",)]
    assert rows(tmp_path, "select * from source.invoices") == []


def test_rejected_rows_within_the_limit_stop_nobody_else_and_are_shown(
    dunning: Command, database: Path, tmp_path: Path
) -> None:
    change_policy(tmp_path, "max_rejected: 0", "max_rejected: 0.5")
    change_database(database, "insert into invoices values ('0002', 'C1', '2024-01-01', null, 'EUR', '12.345')")
    code, out, _ = dunning("run")
    assert code == 0
    assert "1 are to be reminded" in out
    assert "1 source rows were rejected" in out
    assert rows(tmp_path, "select reason from source.rejected_rows") == [
        ("total '12.345' has more than the 2 decimals of EUR",)
    ]


def test_an_unreachable_database_is_a_sentence(
    dunning: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BILLING_DATABASE_URL", f"sqlite:///{tmp_path}/nowhere/billing.sqlite")
    code, _, err = dunning("run")
    assert code == 1
    assert "source billing: unable to open database file" in err


def test_a_variable_that_is_not_set_is_named(dunning: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILLING_DATABASE_URL")
    code, _, err = dunning("run")
    assert code == 2
    assert "BILLING_DATABASE_URL" in err


def test_a_wrong_klaviyo_key_sends_nothing_and_loses_nothing(
    dunning: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_policy(tmp_path, "live: false", "live: true")
    account = KlaviyoAccount(clock=lambda: datetime.now(UTC))
    with running(account) as url:
        monkeypatch.setenv("KLAVIYO_URL", url)
        monkeypatch.setenv("KLAVIYO_API_KEY", "pk_wrong")
        code, _, err = dunning("run", "--send")
        assert code == 1
        assert "401" in err
        assert "pk_wrong" not in err
        assert account.events == []
        monkeypatch.setenv("KLAVIYO_API_KEY", DEFAULT_KEY)
        assert dunning("run", "--send")[0] == 0
        assert len(account.events) == 1


def test_check_says_everything_that_is_wrong_at_once(dunning: Command, database: Path, tmp_path: Path) -> None:
    change_database(database, "alter table invoices rename column total to gross; drop table payments")
    code, out, err = dunning("check")
    assert code == 1
    assert "column 'total' is needed" in err
    assert "no such table: payments" in err
    assert "billing.customers: reachable" in out
    assert not (tmp_path / "home").exists()


def test_check_lists_every_problem_of_the_policy(dunning: Command, tmp_path: Path) -> None:
    change_policy(tmp_path, "base_currency: EUR", "base_currency: EURO")
    change_policy(tmp_path, "day: 1", "day: soon")
    code, _, err = dunning("check")
    assert code == 1
    assert "EURO" in err
    assert "soon" in err


def test_check_proves_the_key(dunning: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    account = KlaviyoAccount({"pk_good": ("accounts:read",), "pk_narrow": ("events:write",)}, rates=None)
    with running(account) as url:
        monkeypatch.setenv("KLAVIYO_URL", url)
        monkeypatch.setenv("KLAVIYO_API_KEY", "pk_good")
        assert dunning("check")[0] == 0
        monkeypatch.setenv("KLAVIYO_API_KEY", "pk_narrow")
        code, out, _ = dunning("check")
        assert code == 0
        assert "no scope accounts:read" in out
        monkeypatch.setenv("KLAVIYO_API_KEY", "pk_wrong")
        code, _, err = dunning("check")
        assert code == 1
        assert "does not work" in err
        account.faults.plan([Fault.status(403, html=True)], "GET")
        code, _, err = dunning("check")
        assert code == 1
        assert "the Klaviyo key could not be proved: Klaviyo answered 403 (no reason given)" in err


def test_every_command_has_help(dunning: Command) -> None:
    for command in ("demo", "check", "run", "sandbox"):
        code, out, _ = dunning(command, "--help")
        assert code == 0
        assert f"Usage: dunning {command}" in out


def test_an_unknown_command_is_wrong_usage(dunning: Command) -> None:
    code, _, err = dunning("nosuch")
    assert code == 2
    assert "nosuch" in err


def test_the_sandbox_serves_until_it_is_stopped() -> None:
    command = [sys.executable, "-m", "dunning_pipeline.cli", "sandbox", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert "Klaviyo sandbox at http://127.0.0.1:" in process.stdout.readline()
            assert "export KLAVIYO_URL=http://127.0.0.1:" in process.stdout.readline()
            assert "Shopify sandbox at http://127.0.0.1:" in process.stdout.readline()
        finally:
            process.terminate()


def test_invoices_of_a_source_that_left_the_policy_are_no_longer_chased(dunning: Command, tmp_path: Path) -> None:
    assert "1 are to be reminded" in dunning("run")[1]
    change_policy(tmp_path, "  billing:", "  successor:")
    change_policy(tmp_path, "{customers: customers, invoices: invoices, payments: payments}", "{customers: customers}")
    assert "1 invoices of the source billing, which the policy no longer names" in dunning("check")[1]
    assert rows(tmp_path, "select count(*) from source.invoices") == [(1,)]
    change_policy(tmp_path, "quality: {max_rejected: 0}", "quality: {max_rejected: 1}")
    assert "0 customers owe something, 0 are to be reminded" in dunning("run")[1]


def test_check_says_that_the_warehouse_is_no_database(dunning: Command, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "warehouse.duckdb").write_text("no database " * 1000)
    code, _, err = dunning("check")
    assert code == 1
    assert "warehouse.duckdb cannot be opened: " in err


def test_check_waits_for_the_warehouse_no_longer_than_it_must(
    dunning: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LOCK_TIMEOUT_SECONDS", 0.2)
    warehouse = Warehouse(tmp_path / "home" / "warehouse.duckdb")
    with warehouse.transaction():
        code, _, err = dunning("check")
    assert code == 1
    assert "has been in use by another process for 0.2 s" in err
    assert dunning("check")[0] == 0


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_home_that_is_a_file_is_a_sentence(dunning: Command, tmp_path: Path, command: str) -> None:
    (tmp_path / "home").write_text("a file")
    code, _, err = dunning(command)
    assert code == 1
    assert str(tmp_path / "home") in err
    assert "Traceback" not in err


def test_check_says_that_the_home_cannot_be_written(dunning: Command, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    _, _, err = dunning("check")
    assert f"{tmp_path / 'home'} cannot be written: {tmp_path / 'home'} is not a writable folder" in err


def test_broken_settings_of_dagster_are_one_line(dunning: Command, tmp_path: Path) -> None:
    (tmp_path / "home" / "dagster").mkdir(parents=True)
    (tmp_path / "home" / "dagster" / "dagster.yaml").write_text("nosuch: [1, 2")
    code, _, err = dunning("run")
    assert code == 1
    assert "(DUNNING_TRACEBACK=1 shows where)" in err
    assert "Traceback" not in err


def test_a_failing_check_is_a_sentence(dunning: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = dg.AssetCheckResult(
        check_name=COMPLETE, asset_key=dg.AssetKey(["dunning", "decisions"]), passed=False, metadata={}
    )
    monkeypatch.setattr(decisions, "check_completeness", lambda *_: failed)
    code, _, err = dunning("run")
    assert code == 1
    assert err.startswith("daily_dunning failed: ")
    assert COMPLETE in err
    assert "Traceback" not in err
