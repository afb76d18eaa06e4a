"""`dunning history …` and what other commands leave in the files: what is printed, exit codes, files."""

import csv
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from support import Command, dunning_command
from test_outbox import empty_warehouse, freeze, reminders

from dunning_pipeline.outbox import Outbox, Result
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount, running

POLICY = """\
organisation: {time_zone: UTC, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
"""
NOW = datetime.now(UTC)
TODAY = NOW.date()
LONG_AGO = NOW - timedelta(hours=1)


@pytest.fixture
def dunning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command over a home in `tmp_path` and returns its exit code, stdout and stderr."""
    (tmp_path / "dunning.yaml").write_text(POLICY)
    monkeypatch.setenv("DUNNING_POLICY", str(tmp_path / "dunning.yaml"))
    monkeypatch.setenv("DUNNING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KLAVIYO_API_KEY", DEFAULT_KEY)
    return dunning_command(capsys)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = empty_warehouse(tmp_path / "home" / "warehouse.duckdb")
    with made.transaction() as connection:
        connection.execute("insert into source.customer_keys values ('C1', 1)")
    return made


def accept(warehouse: Warehouse, *ids: str, detail: str | None = None) -> None:
    outbox = Outbox(warehouse, "invoice")
    freeze(outbox, f"b-{ids[0]}", reminders(ids), at=LONG_AGO, as_of=TODAY)
    leave, _ = outbox.begin_attempts(f"b-{ids[0]}", outbox.to_send(f"b-{ids[0]}"), LONG_AGO, TODAY, 3)
    outbox.record_results(leave, Result("accepted", 202, error_detail=detail), LONG_AGO, TODAY)


def test_export_writes_what_is_missing_and_a_copy(dunning: Command, warehouse: Warehouse, tmp_path: Path) -> None:
    accept(warehouse, "r-1")
    copy = tmp_path / "copy.parquet"
    code, out, _ = dunning("history", "export", str(copy))
    assert code == 0
    assert f"{tmp_path / 'home' / 'history'} holds the whole history; added: 1 rows of batches, 2 rows of" in out
    assert f"{copy} holds 2 rows of the sent history." in out
    assert len(duckdb.read_parquet(str(copy)).fetchall()) == 2
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert "added: nothing" in dunning("history", "export")[1]


def test_a_csv_copy_holds_no_formulas_and_leaves_numbers_alone(
    dunning: Command, warehouse: Warehouse, tmp_path: Path
) -> None:
    dangerous = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "fine", 'qu"ote, comma']
    for number, text in enumerate(dangerous):
        accept(warehouse, f"r-{number}", detail=text)
    accept(warehouse, "=r-9")
    copy = tmp_path / "copy.csv"
    copy.write_text("older")
    assert dunning("history", "export", str(copy))[0] == 0
    with copy.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["outcome"] == "accepted"]
    details = {row["reminder_id"]: row["error_detail"] for row in rows}
    assert [details[f"r-{number}"] for number in range(len(dangerous))] == [
        *("'" + text for text in dangerous[:6]),
        *dangerous[6:],
    ]
    assert "'=r-9" in details
    assert {row["http_status"] for row in rows} == {"202"}


def test_a_copy_of_another_format_or_in_no_folder_is_refused(
    dunning: Command, warehouse: Warehouse, tmp_path: Path
) -> None:
    code, _, err = dunning("history", "export", "history.xlsx")
    assert (code, err) == (1, "'history.xlsx' tells no format by its ending; allowed: .parquet, .csv")
    code, _, err = dunning("history", "export", str(tmp_path / "none" / "copy.csv"))
    assert code == 1
    assert "cannot be written: No such file or directory" in err


def test_restore_brings_the_history_back_and_names_what_it_skips(
    dunning: Command, warehouse: Warehouse, tmp_path: Path
) -> None:
    accept(warehouse, "r-1")
    dunning("history", "export")
    code, _, err = dunning("history", "restore")
    assert code == 1
    assert "holds history already (dunning.sent_history); --add brings back only what it lacks" in err
    warehouse.path.unlink()
    (tmp_path / "home" / "history" / "sent_history-0.partial").write_bytes(b"PAR1")
    code, out, err = dunning("history", "restore")
    assert code == 1
    assert out.startswith("Restored: 1 rows of batches, 2 rows of sent_history.")
    assert err == "sent_history-0.partial is half-written: a run was killed while it wrote this file; it was skipped"
    assert len(Warehouse(warehouse.path).fetch("select * from dunning.sent_history")) == 2


def test_nothing_is_decided_on_a_new_warehouse_beside_files(dunning: Command, warehouse: Warehouse) -> None:
    accept(warehouse, "r-1")
    dunning("history", "export")
    warehouse.path.unlink()
    code, _, err = dunning("run")
    assert code == 1
    assert "lacks rows that the files in" in err


def test_import_says_what_it_took(dunning: Command, warehouse: Warehouse, tmp_path: Path) -> None:
    file = tmp_path / "old.csv"
    file.write_text("ref,client,sent\n1,C1,03/11/2026\n2,C1,04/11/2026\n")
    arguments = ("--column", "ref=contact_id", "--column", "client=customer_id", "--column", "sent=contacted_on")
    code, out, err = dunning(
        "history", "import", str(file), *arguments, "--value", "channel=letter", "--date-format", "%d/%m/%Y"
    )
    assert (code, err) == (0, "")
    assert out.startswith("2 contacts were imported; 0 were known already; 0 stood in the file twice; 0 rows were")
    assert list((tmp_path / "home" / "history").glob("contacts-*.parquet"))
    assert dunning("history", "import", str(file), "--column", "ref")[0] == 2


def test_what_is_recorded_by_hand_is_in_a_file_at_once(dunning: Command, warehouse: Warehouse, tmp_path: Path) -> None:
    history = tmp_path / "home" / "history"
    assert dunning("pause", "C1")[0] == 0
    assert [path.name.split("-")[0] for path in history.iterdir()] == ["pauses"]
    assert dunning("resume", "C1")[0] == dunning("contact", "C1")[0] == 0
    files = [str(path) for path in history.glob("pauses-*")]
    assert len(duckdb.read_parquet(files).fetchall()) == 2
    warehouse.path.unlink()
    assert "2 rows of pauses, 1 rows of contacts" in dunning("history", "restore")[1]
    assert "no pause of customer C1 is in force" in dunning("resume", "C1")[2]


def test_a_recording_whose_file_cannot_be_written_holds_and_says_so(
    dunning: Command, warehouse: Warehouse, tmp_path: Path
) -> None:
    (tmp_path / "home" / "history").write_text("in the way")
    code, out, err = dunning("pause", "C1")
    assert code == 1
    assert "Customer C1 is paused" in out
    assert "the warehouse holds it, and the next run, or `dunning history export`, writes it" in err


def test_reconcile_lists_differences_and_fails_on_them(
    dunning: Command, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(KlaviyoAccount()) as url:
        monkeypatch.setenv("KLAVIYO_URL", url)
        code, out, _ = dunning("history", "reconcile", "--since", str(TODAY))
        assert code == 0
        assert "0 reminders were accepted here, and Klaviyo holds 0 events. Both sides know the same." in out
        accept(warehouse, "r-1", "r-2")
        code, out, _ = dunning("history", "reconcile", "--since", str(TODAY), "--limit", "1")
    assert code == 1
    assert f"Accepted here but not held there: 2 r-1 customer c-r-1, {TODAY}" in out
    assert out.endswith("Held there but not accepted here: 0 1 more are not listed; --limit lists more.")
