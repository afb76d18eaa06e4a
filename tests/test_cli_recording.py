"""The commands that record by hand, and `preview`: what they print, their exit codes, what is decided afterwards."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import Command, dunning_command

from dunning_pipeline.resources.warehouse import Warehouse

POLICY = """\
organisation: {time_zone: UTC, base_currency: EUR}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - name: standard
    default: true
    actions: [{name: reminder_1, day: 1}, {name: reminder_2, day: 8}]
  - {name: gentle, actions: [{name: nudge, day: 1}]}
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: invoices}
"""

SCHEMA = """
create table customers (customer_id text, name text, email text);
create table invoices (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text);
insert into customers values ('C1', 'Harbour [Bakery]', 'a@harbour.test'), ('C2', 'Kontor', 'b@kontor.test');
insert into invoices values
    ('F1', 'C1', '2024-01-01', '2024-01-31', 'EUR', '100.00'), ('F2', 'C2', '2024-01-01', '2024-01-31', 'EUR', '9.00');
"""

TODAY = datetime.now(UTC).date()
YESTERDAY, TOMORROW = str(TODAY - timedelta(days=1)), str(TODAY + timedelta(days=1))
RECORDED = ("pauses", "promises", "assignments", "contacts")


@pytest.fixture
def dunning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command over a home in `tmp_path` and returns its exit code, stdout and stderr."""
    (tmp_path / "dunning.yaml").write_text(POLICY)
    with sqlite3.connect(tmp_path / "billing.sqlite") as connection:
        connection.executescript(SCHEMA)
    monkeypatch.setenv("DUNNING_POLICY", str(tmp_path / "dunning.yaml"))
    monkeypatch.setenv("DUNNING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BILLING_DATABASE_URL", f"sqlite:///{tmp_path / 'billing.sqlite'}")
    return dunning_command(capsys)


def rows(tmp_path: Path, query: str) -> list[tuple[object, ...]]:
    frame = Warehouse(tmp_path / "home" / "warehouse.duckdb").fetch(query)
    return [tuple(row) for row in frame.astype(object).to_numpy()]


def outcomes(dunning: Command) -> dict[str, int]:
    """What `dunning preview` counts by outcome."""
    code, out, _ = dunning("preview")
    assert code == 0
    cells = [cell.split() for cell in out.split("Customers by outcome")[1].split("│")]
    return {name[0]: int(number[0]) for name, number in zip(cells[1::3], cells[2::3], strict=False)}


def test_a_pause_and_its_end_change_the_decision(dunning: Command, tmp_path: Path) -> None:
    assert dunning("run")[0] == 0
    code, out, _ = dunning("pause", "C1")
    assert code == 0
    assert f"Customer C1 is paused from {TODAY} on. It takes effect in the next decision. (manual-000001-" in out
    assert dunning("run")[0] == 0
    query = f"select coalesce(reason, 'remind') from dunning.decisions where customer_id = 'C1' and as_of = '{TODAY}'"
    assert rows(tmp_path, query) == [("customer_paused",)]
    assert "Customer C1 is paused no more" in dunning("resume", "C1")[1]
    assert dunning("run")[0] == 0
    assert rows(tmp_path, query) == [("remind",)]


@pytest.mark.long
def test_invoices_and_the_organisation_can_be_paused(dunning: Command) -> None:
    dunning("run")
    _, out, _ = dunning("pause", "--invoice", "F1", "--until", TOMORROW)
    assert f"Invoice F1 is paused from {TODAY} on; work resumes on {TOMORROW}" in out
    assert outcomes(dunning) == {"customer_paused": 1, "remind": 1}
    assert "The organisation is paused" in dunning("pause", "--organisation")[1]
    assert outcomes(dunning) == {"organisation_paused": 2}
    assert dunning("resume", "--organisation")[0] == dunning("resume", "--invoice", "F1")[0] == 0
    assert outcomes(dunning) == {"remind": 2}


@pytest.mark.long
def test_a_planned_pause_says_when_it_begins(dunning: Command) -> None:
    dunning("run")
    assert f"It takes effect on {TOMORROW}" in dunning("pause", "C1", "--from", TOMORROW)[1]
    assert outcomes(dunning) == {"remind": 2}
    assert dunning("resume", "C1")[0] == 1
    assert dunning("resume", "C1", "--planned")[0] == 0


@pytest.mark.long
def test_a_promise_holds_until_it_is_withdrawn(dunning: Command, tmp_path: Path) -> None:
    dunning("run")
    code, out, _ = dunning("promise", "C1", "--pay-by", TOMORROW)
    assert (code, f"Customer C1 pays what is open by {TOMORROW}" in out) == (0, True)
    assert outcomes(dunning) == {"promise_to_pay": 1, "remind": 1}
    ((promise_id,),) = rows(tmp_path, "select promise_id from source.promises")
    assert "The promise of customer C1 is withdrawn" in dunning("promise", "--withdraw", str(promise_id))[1]
    assert outcomes(dunning) == {"remind": 2}
    assert "reminders go on meanwhile" in dunning("promise", "C1", "--pay-by", TOMORROW, "--no-pause")[1]
    assert outcomes(dunning) == {"remind": 2}


@pytest.mark.long
def test_assigning_and_unassigning_change_the_workflow(dunning: Command) -> None:
    dunning("run")
    assert f"Customer C1 is under gentle from {TODAY} on" in dunning("assign", "C1", "gentle")[1]
    assert "C1 Harbour [Bakery] │ nudge" in dunning("preview")[1].replace("│ Harbour", "Harbour")
    assert "Customer C1 is under no workflow" in dunning("unassign", "C1")[1]
    assert outcomes(dunning) == {"no_workflow": 1, "remind": 1}


def test_assigning_says_where_smart_rules_go_first(dunning: Command, tmp_path: Path) -> None:
    rule = "smart_rules: [{name: large, when: {open_balance: {more_than: 50}}, workflow: standard}]\n"
    (tmp_path / "dunning.yaml").write_text(f"{POLICY}smart_rules_override_manual: true\n{rule}")
    dunning("run")
    said = ", unless a smart rule applies: they go first (smart_rules_override_manual). It takes effect"
    assert f"Customer C1 is under gentle from {TODAY} on{said}" in dunning("assign", "C1", "gentle")[1]
    assert f"Customer C1 is under no workflow from {TODAY} on{said}" in dunning("unassign", "C1")[1]
    # No rule is for invoices.
    assert "they go first" not in dunning("unassign", "C1", "--invoice", "F1")[1]


@pytest.mark.long
def test_a_contact_counts_for_the_delay_and_executes_the_action_it_names(dunning: Command) -> None:
    dunning("run")
    assert f"Customer C1 was contacted on {TODAY} (call)" in dunning("contact", "C1")[1]
    assert outcomes(dunning) == {"minimum_contact_delay": 1, "remind": 1}
    action = ("--invoice", "F2", "--workflow", "standard", "--action", "reminder_1", "--channel", "letter")
    code, out, _ = dunning("contact", "C2", "--on", str(TODAY - timedelta(days=9)), *action)
    assert (code, "(letter), which executes reminder_1 of standard for invoice F2" in out) == (0, True)
    assert "Kontor │ reminder_2" in dunning("preview")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("pause", "C11"), 1, "there is no customer 'C11'; similar: C1"),
        (("pause", "--invoice", "F22"), 1, "there is no invoice 'F22'; similar: F2"),
        (("pause", "C1", "--until", YESTERDAY), 1, f"the end {YESTERDAY} is not later than the first day {TODAY}"),
        (("pause", "C1", "--from", "soon"), 2, "'soon' is no date of the form 2026-11-22"),
        (("pause",), 2, "name one of CUSTOMER, --invoice ID and --organisation"),
        (("pause", "C1", "--organisation"), 2, "name one of CUSTOMER, --invoice ID and --organisation"),
        (("resume", "C1"), 1, "no pause of customer C1 is in force"),
        (("assign", "C1", "harsh"), 1, "the policy has no workflow 'harsh'; allowed: standard, gentle"),
        (("unassign", "C3"), 1, "there is no customer 'C3'"),
        (("promise", "C1"), 2, "CUSTOMER and --pay-by DATE are needed"),
        (("promise", "C1", "--pay-by", YESTERDAY), 1, f"{YESTERDAY}, has passed"),
        (("promise", "C1", "--pay-by", TOMORROW, "--invoice", "F2"), 1, "invoice F2 is not of customer C1"),
        (("promise", "C1", "--withdraw", "S1"), 2, "--withdraw stands alone"),
        (("promise", "--withdraw", "S1"), 1, "there is no promise 'S1': none is known yet"),
        (("contact", "C1", "--on", TOMORROW), 1, f"{TOMORROW}, is yet to come"),
        (("contact", "C1", "--workflow", "gentle"), 2, "only with --invoice, --workflow and --action"),
        (
            ("contact", "C1", "--invoice", "F1", "--workflow", "gentle", "--action", "shout"),
            1,
            "workflow gentle has no action 'shout'; allowed: nudge",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_refused_in_a_sentence_and_nothing_is_written(
    dunning: Command, tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    know_customers(tmp_path)
    refused = dunning(*arguments)
    assert (refused[0], sentence in refused[2]) == (code, True), refused
    assert [rows(tmp_path, f"select * from source.{table}") for table in RECORDED] == [[]] * len(RECORDED)


def know_customers(tmp_path: Path) -> None:
    """A warehouse with the ids of C1, C2, F1 and F2, without the seconds that a run takes."""
    with Warehouse(tmp_path / "home" / "warehouse.duckdb").transaction() as connection:
        connection.execute("insert into source.customer_keys values ('C1', 1), ('C2', 2)")
        connection.execute(
            "insert into source.invoices (invoice_id, customer_id, invoice_key, customer_key)"
            " values ('F1', 'C1', 1, 1), ('F2', 'C2', 2, 2)"
        )


def test_preview_lists_reminders_and_counts_without_writing_anything(dunning: Command, tmp_path: Path) -> None:
    dunning("run")
    home = tmp_path / "home"
    before = [rows(tmp_path, f"select * from dunning.{table} order by all") for table in ("decisions", "batches")]
    dunning("pause", "C2")
    code, out, _ = dunning("preview")
    assert code == 0
    assert "│ C1 │ Harbour [Bakery] │ reminder_1 │ F1 │ €100.00 │" in out
    assert f"{TODAY}: 2 customers owe something, 1 are to be reminded." in out
    after = [rows(tmp_path, f"select * from dunning.{table} order by all") for table in ("decisions", "batches")]
    assert after == before
    assert list((home / "staging").iterdir()) == []


@pytest.mark.long
def test_preview_of_a_past_day_knows_only_what_was_recorded_then(dunning: Command) -> None:
    dunning("run")
    dunning("pause", "C1", "--from", YESTERDAY)
    assert "2 are to be reminded" in dunning("preview", "--as-of", YESTERDAY)[1]
    assert "1 are to be reminded" in dunning("preview")[1]


@pytest.mark.long
def test_preview_lists_no_more_than_asked_for(dunning: Command) -> None:
    dunning("run")
    out = dunning("preview", "--limit", "1")[1]
    assert "1 more are not listed" in out
    assert "Kontor" not in out


def test_preview_says_when_there_is_nothing_to_decide_from(dunning: Command, tmp_path: Path) -> None:
    code, _, err = dunning("preview")
    assert code == 1
    assert f"run `dunning run --as-of {TODAY}`" in err
    assert not (tmp_path / "home").exists()
    code, _, err = dunning("preview", "--as-of", TOMORROW)
    assert (code, f"{TOMORROW} cannot be derived" in err) == (1, True)


def test_every_command_that_records_has_help(dunning: Command) -> None:
    for command in ("pause", "resume", "assign", "unassign", "promise", "contact", "preview"):
        code, out, _ = dunning(command, "--help")
        assert (code, f"Usage: dunning {command}" in out) == (0, True)
