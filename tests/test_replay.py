"""Replays from the warehouse's file to what is written and printed: the command, the job, and a real ledger."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import reference
from ledger_policy import LEDGER_POLICY
from support import Command, MovingClock, Pipeline, dunning_command, settings_at
from test_ledger_days import LEDGER, RULES, read_ledger

from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.definitions import build_defs
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.replay import Stored, delete_replays, judge, stored_replays
from dunning_pipeline.resources.warehouse import MIGRATIONS, Warehouse
from dunning_pipeline.runs import DAILY_JOB, REPLAY_JOB
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import SENT_HISTORY, SOURCE_TABLES

POLICY = """\
organisation: {time_zone: UTC, base_currency: EUR, first_day: "2024-01-01"}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - name: standard
    default: true
    minimum_contact_delay: 5
    actions: [{name: reminder_1, day: 1}, {name: reminder_2, day: 8}, {name: final_notice, day: 15}]
sources:
  billing:
    kind: sql
    url: "${BILLING_DATABASE_URL}"
    tables: {customers: customers, invoices: invoices, payments: payments}
"""

TRIED_OUT = """\
organisation: {time_zone: UTC, base_currency: EUR}
calendar: {working_days: [mon, tue, wed, thu, fri, sat, sun]}
workflows:
  - {name: standard, default: true, actions: [{name: reminder_1, day: 2}, {name: final_notice, day: 15}]}
"""
"""A policy that does not say where the data comes from."""

SCHEMA = """
create table customers (customer_id text, name text, email text);
create table invoices (invoice_id text, customer_id text, issued_on text, due_on text, currency text, total text);
create table payments (payment_id text, customer_id text, invoice_id text, currency text, amount text, paid_on text);
insert into customers values
    ('C1', 'Harbour Bakery', 'a@harbour.test'), ('C2', 'Kontor', 'b@kontor.test'), ('C3', 'Quay', 'nobody');
insert into invoices values
    ('F1', 'C1', '2024-01-01', '2024-01-31', 'EUR', '100.00'), ('F2', 'C2', '2024-01-01', '2024-01-31', 'EUR', '9.00'),
    ('F3', 'C3', '2024-01-01', '2024-01-31', 'EUR', '9.00');
insert into payments values ('P2', 'C2', 'F2', 'EUR', '9.00', '2024-02-05');
"""

FEBRUARY = Days(date(2024, 2, 1), date(2024, 2, 29))
NOW = datetime(2024, 6, 3, 8, 30, tzinfo=UTC)

Row = tuple[date, str, str, str]


def pull(settings: Settings, day: date, instance: dg.DagsterInstance) -> None:
    """What the daily job pulls, without deciding anything."""
    definitions = build_defs(settings)
    sources = {asset_key(table) for table in SOURCE_TABLES} & set(
        definitions.resolve_asset_graph().materializable_asset_keys
    )
    definitions.resolve_job_def(DAILY_JOB).execute_in_process(
        instance=instance, partition_key=day.isoformat(), asset_selection=[*sources]
    )


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with what SCHEMA says."""
    home = tmp_path_factory.mktemp("pulled")
    with closing(sqlite3.connect(home / "billing.sqlite")) as connection:
        connection.executescript(SCHEMA)
    environment = {"BILLING_DATABASE_URL": f"sqlite:///{home / 'billing.sqlite'}"}
    settings = settings_at(home, POLICY, MovingClock(NOW), environment)
    with dg.DagsterInstance.ephemeral() as instance:
        pull(settings, NOW.date(), instance)
    return settings.warehouse_path


@pytest.fixture
def settings(tmp_path: Path, pulled: Path) -> Settings:
    made = settings_at(tmp_path / "home", POLICY, MovingClock(NOW))
    shutil.copy(pulled, made.warehouse_path)
    return made


@pytest.fixture
def warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings.warehouse_path)


@pytest.fixture
def dunning(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command and returns its exit code, stdout and stderr. The day is today."""
    monkeypatch.setenv("DUNNING_POLICY", str(settings.policy_file))
    monkeypatch.setenv("DUNNING_HOME", str(settings.home))
    monkeypatch.setenv("COLUMNS", "200")
    return dunning_command(capsys)


def stored(warehouse: Warehouse, replay_id: str) -> list[Row]:
    """Day, customer, invoice and action of the reminders of a replay."""
    frame = warehouse.fetch(
        "select remind_on, customer_id, carrying_invoice_id, action from dunning.replay_reminders"
        " where replay_id = $id order by all",
        {"id": replay_id},
    )
    return [(day.date(), *names) for day, *names in frame.itertuples(index=False)]


def replayed(settings: Settings, warehouse: Warehouse, days: Days = FEBRUARY, policy: str = POLICY) -> list[Row]:
    settings = replace(settings, loaded=parse_policy(policy))
    return stored(warehouse, judge(settings, warehouse, days).summary.replay_id)


def count(warehouse: Warehouse, table: str) -> int:
    return int(warehouse.fetch(f"select count(*) as n from {table}")["n"].iloc[0])


def feb(day: int) -> date:
    return date(2024, 2, day)


AS_EXPECTED = [
    (feb(1), "C1", "F1", "reminder_1"),
    (feb(1), "C2", "F2", "reminder_1"),
    (feb(8), "C1", "F1", "reminder_2"),
    (feb(15), "C1", "F1", "final_notice"),
]


def test_a_replay_is_stored_with_its_figures_and_its_policy(settings: Settings, warehouse: Warehouse) -> None:
    summary = judge(settings, warehouse, FEBRUARY).summary
    assert stored(warehouse, summary.replay_id) == AS_EXPECTED
    assert (summary.first, summary.last) == (FEBRUARY.first, FEBRUARY.last)
    assert (summary.reminders, summary.reached, summary.chaseable_customers, summary.never_reached) == (4, 2, 3, 1)
    assert summary.by_day == {feb(1): 2, feb(8): 1, feb(15): 1}
    assert list(summary.by_action.items()) == [
        (("standard", "reminder_1"), 2),
        (("standard", "reminder_2"), 1),
        (("standard", "final_notice"), 1),
    ]
    assert summary.by_customer == {1: 1, 3: 1}
    (kept,) = warehouse.fetch("select text from dunning.policies")["text"]
    assert kept == POLICY
    (row,) = warehouse.fetch("select * from dunning.replays").itertuples(index=False)
    assert (row.replay_id, row.reminders, row.never_reached) == (summary.replay_id, 4, 1)
    assert (row.created_at.to_pydatetime(), row.policy_hash) == (NOW, settings.policy.hash)


def test_a_replay_makes_no_batch_and_no_history(settings: Settings, warehouse: Warehouse) -> None:
    live = parse_policy(POLICY + "sending: {live: true}\n")
    judge(replace(settings, loaded=live), warehouse, FEBRUARY)
    for table in ("reminders", "batches", "batch_decisions", "sent_history", "decisions"):
        assert count(warehouse, f"dunning.{table}") == 0


def test_replaying_again_gives_the_same_under_another_id(settings: Settings, warehouse: Warehouse) -> None:
    one, other = (judge(settings, warehouse, FEBRUARY).summary for _ in range(2))
    assert one.replay_id != other.replay_id
    assert stored(warehouse, one.replay_id) == stored(warehouse, other.replay_id)
    assert count(warehouse, "dunning.policies") == 1


def test_reminders_really_sent_count_before_the_first_day_only(settings: Settings, warehouse: Warehouse) -> None:
    history = pd.DataFrame(
        {
            "reminder_id": ["r1", "r2"],
            "stream": "invoice",
            "batch_id": "b",
            "customer_id": ["C1", "C1"],
            "level": "customer",
            "carrying_invoice_id": "F1",
            "order_id": None,
            "first_edit_id": None,
            "workflow": "standard",
            "action": ["reminder_1", "reminder_2"],
            "occurrence": 1,
            "attempt": 1,
            "outcome": "accepted",
            "http_status": 202,
            "error_code": None,
            "error_detail": None,
            "attempted_at": NOW,
            "contact_on": [pd.Timestamp(feb(3)), pd.Timestamp(feb(9))],
        }
    )
    keys = dict.fromkeys(("customer_key", "invoice_key"))
    warehouse.append(SENT_HISTORY, history.assign(**keys))
    with warehouse.transaction() as connection:
        connection.execute(MIGRATIONS[4])
    days = Days(feb(4), feb(29))
    assert [row for row in replayed(settings, warehouse, days) if row[1] == "C1"] == [
        (feb(8), "C1", "F1", "reminder_2"),
        (feb(15), "C1", "F1", "final_notice"),
    ]


def test_what_was_recorded_by_hand_counts_from_the_day_it_was_known(settings: Settings, warehouse: Warehouse) -> None:
    with warehouse.transaction() as connection:
        connection.execute(
            "insert into source.contacts by name select 'k' as contact_id, 'C1' as customer_id, customer_key,"
            " date '2024-02-06' as contacted_on, date '2024-02-07' as recorded_on, 'manual' as source"
            " from source.customer_keys where customer_id = 'C1'"
        )
    assert [day for day, customer, *_ in replayed(settings, warehouse) if customer == "C1"] == [
        feb(1),
        feb(11),
        feb(16),
    ]


def test_a_payment_for_an_unknown_invoice_is_a_credit(settings: Settings, warehouse: Warehouse) -> None:
    with warehouse.transaction() as connection:
        connection.execute(
            "update source.payments set invoice_id = 'F9', invoice_key = 999, customer_id = 'C1', amount_minor = 20000,"
            " customer_key = (select customer_key from source.customer_keys where customer_id = 'C1')"
        )
    assert [row for row in replayed(settings, warehouse) if row[1] == "C1"] == [(feb(1), "C1", "F1", "reminder_1")]


def test_invoices_of_sources_that_the_policy_does_not_name_are_not_chased(
    settings: Settings, warehouse: Warehouse
) -> None:
    assert replayed(settings, warehouse, policy=POLICY.replace("billing:", "another:")) == []


def test_a_policy_that_names_no_sources_is_tried_on_those_in_force(settings: Settings, warehouse: Warehouse) -> None:
    file = settings.home / "tried.yaml"
    file.write_text(TRIED_OUT)
    summary = judge(settings, warehouse, FEBRUARY, file).summary
    assert stored(warehouse, summary.replay_id) == [
        (feb(2), "C1", "F1", "reminder_1"),
        (feb(2), "C2", "F2", "reminder_1"),
        (feb(15), "C1", "F1", "final_notice"),
    ]


def test_two_policies_are_compared_reminder_by_reminder(settings: Settings, warehouse: Warehouse) -> None:
    file = settings.home / "tried.yaml"
    file.write_text(TRIED_OUT)
    judged = judge(settings, warehouse, FEBRUARY, against=str(file))
    assert judged.other is not None
    assert judged.differences is not None
    assert judged.other.reminders == 3
    found = judged.differences
    assert (found.same_day, found.moved, found.only_one, found.only_other) == (1, 2, 1, 0)
    assert (found.customers_only_one, found.customers_only_other) == (0, 0)
    again = judge(settings, warehouse, FEBRUARY, file, judged.summary.replay_id)
    assert again.other == judged.summary
    assert count(warehouse, "dunning.replays") == 3


def test_the_command_prints_the_figures(dunning: Command) -> None:
    code, out, _ = dunning("replay", "--from", "2024-02-01", "--to", "2024-02-29")
    assert code == 0
    assert (
        "2024-02-01 to 2024-02-29: 4 reminders to 2 customers. 3 had something chaseable; 1 of them were never" in out
    )
    assert "│ standard │ reminder_1 │ 2 │" in out
    assert "│ 2024-02-08 │ 1 │" in out
    assert "│ none │ 1 │ │ 1 │ 1 │ │ 2 │ 0 │ │ 3 │ 1 │" in out


def test_the_command_prints_months_of_long_replays(dunning: Command) -> None:
    code, out, _ = dunning("replay", "--from", "2024-01-15", "--to", "2024-03-15")
    assert code == 0
    assert "│ 2024-02 │ 4 │" in out


def test_the_command_prints_two_replays_side_by_side(dunning: Command, settings: Settings) -> None:
    file = settings.home / "tried.yaml"
    file.write_text(TRIED_OUT)
    days = ("replay", "--from", "2024-02-01", "--to", "2024-02-29")
    code, out, _ = dunning(*days, "--policy", str(file), "--against", str(settings.policy_file))
    assert code == 0
    assert "│ standard │ reminder_1 │ 2 │ 2 │" in out
    assert "│ standard │ reminder_2 │ 0 │ 1 │" in out
    assert "same day: 1; on another day: 2; of this policy alone: 0; of the other alone: 1." in out
    assert "Customers that only this policy reaches: 0; that only the other reaches: 0." in out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--from", "2024-02-02", "--to", "2024-02-01"), 2, "the first day (2024-02-02) is after the last one"),
        (("--from", "soon", "--to", "2024-02-01"), 2, "'soon' is no date of the form 2026-11-22"),
        (("--from", "2024-02-01"), 2, "--to"),
        (("--from", "2023-12-31", "--to", "2024-02-01"), 1, "2023-12-31 cannot be derived; allowed: from 2024-01-01"),
        (("--from", "2024-02-01", "--to", "2999-01-01"), 1, "2999-01-01 cannot be derived"),
        (("--from", "2024-02-01", "--to", "2024-02-02", "--policy", "no.yaml"), 2, "no.yaml: does not exist"),
        (("--from", "2024-02-01", "--to", "2024-02-02", "--against", "x1"), 1, "'x1' is neither the id of a replay"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence_and_nothing_is_stored(
    dunning: Command, warehouse: Warehouse, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    found, _, err = dunning("replay", *arguments)
    assert found == code
    assert sentence in err.replace(" │ │ ", " ").replace("│ ", "")
    assert count(warehouse, "dunning.replays") == 0


def test_a_wrong_policy_is_refused_before_anything_is_replayed(
    dunning: Command, settings: Settings, warehouse: Warehouse
) -> None:
    file = settings.home / "wrong.yaml"
    file.write_text(TRIED_OUT.replace("day: 2", "day: soon"))
    code, _, err = dunning("replay", "--from", "2024-02-01", "--to", "2024-02-29", "--against", str(file))
    assert code == 2
    assert "wrong.yaml:4: workflows[0].actions[0].day" in err
    assert count(warehouse, "dunning.replays") == 0


def test_a_replay_of_other_days_is_no_comparison(dunning: Command, settings: Settings, warehouse: Warehouse) -> None:
    earlier = judge(settings, warehouse, FEBRUARY).summary.replay_id
    code, _, err = dunning("replay", "--from", "2024-02-01", "--to", "2024-02-28", "--against", earlier)
    assert code == 1
    assert f"replay {earlier} is of 2024-02-01 to 2024-02-29, not of 2024-02-01 to 2024-02-28" in err


def test_there_is_nothing_to_replay_before_the_first_pull(dunning: Command, settings: Settings) -> None:
    settings.warehouse_path.unlink()
    code, _, err = dunning("replay", "--from", "2024-02-01", "--to", "2024-02-29")
    assert code == 1
    assert "there is nothing to replay yet" in err
    assert not settings.warehouse_path.exists()


def test_a_rule_over_a_column_that_nobody_has_is_refused(settings: Settings, warehouse: Warehouse) -> None:
    rule = "smart_rules: [{name: vip, when: {segment: {is: vip}}, workflow: standard}]\n"
    file = settings.home / "tried.yaml"
    file.write_text(TRIED_OUT + rule)
    with pytest.raises(Exception, match="smart rule 'vip' asks for the column 'segment'"):
        judge(settings, warehouse, FEBRUARY, file)


@pytest.fixture
def three(settings: Settings, warehouse: Warehouse) -> list[str]:
    """Ids of three replays, the newest first."""
    days = [replace(settings, clock=MovingClock(NOW - timedelta(hours=hours))) for hours in range(3)]
    return [judge(each, warehouse, FEBRUARY).summary.replay_id for each in days]


def test_stored_replays_are_listed_the_newest_first(
    dunning: Command, settings: Settings, warehouse: Warehouse, three: list[str]
) -> None:
    listed = stored_replays(warehouse)
    assert [one.replay_id for one in listed] == three
    assert listed[0] == Stored(three[0], FEBRUARY.first, FEBRUARY.last, 4, settings.policy.hash, NOW)
    code, out, _ = dunning("replays")
    assert code == 0
    # The last column, when it was made, takes two lines on a narrow terminal.
    assert f"│ {three[0]} │ 2024-02-01 │ 2024-02-29 │ 4 │ {settings.policy.hash[:12]} │ 2024-06-03" in out
    assert out.index(three[0]) < out.index(three[1]) < out.index(three[2])


def test_replays_are_deleted_by_id_with_their_reminders(
    dunning: Command, warehouse: Warehouse, three: list[str]
) -> None:
    code, out, _ = dunning("replays", "--delete", three[0], "--delete", three[2])
    assert code == 0
    assert out.startswith("Deleted replays")
    assert three[1] not in out
    assert [one.replay_id for one in stored_replays(warehouse)] == [three[1]]
    assert stored(warehouse, three[0]) == []
    assert stored(warehouse, three[1]) == AS_EXPECTED
    assert count(warehouse, "dunning.policies") == 1


@pytest.mark.parametrize(("keep", "left"), [(0, 0), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_the_newest_replays_are_kept(warehouse: Warehouse, three: list[str], keep: int, left: int) -> None:
    assert [one.replay_id for one in delete_replays(warehouse, keep=keep)] == three[left:]
    assert [one.replay_id for one in stored_replays(warehouse)] == three[:left]
    assert count(warehouse, "dunning.replay_reminders") == 4 * left


def test_those_that_are_named_do_not_count_among_the_newest(warehouse: Warehouse, three: list[str]) -> None:
    delete_replays(warehouse, [three[0]], keep=1)
    assert [one.replay_id for one in stored_replays(warehouse)] == [three[1]]


def test_an_unknown_replay_is_refused_and_nothing_is_deleted(
    dunning: Command, warehouse: Warehouse, three: list[str]
) -> None:
    code, _, err = dunning("replays", "--delete", three[0], "--delete", "x1")
    assert code == 1
    assert "'x1' is no replay; allowed: the ids that `dunning replays` lists" in err
    assert count(warehouse, "dunning.replays") == 3


def test_where_no_replay_is_stored_the_command_says_so(dunning: Command, settings: Settings) -> None:
    for _ in ("an empty warehouse", "none"):
        assert dunning("replays")[:2] == (0, "There are no replays; `dunning replay` makes one.")
        assert dunning("replays", "--keep", "1")[:2] == (0, "There was nothing to delete.")
        assert dunning("replays", "--delete", "x1")[0] == 1
        settings.warehouse_path.unlink(missing_ok=True)
    assert not settings.warehouse_path.exists()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run_job(settings: Settings, instance: dg.DagsterInstance, **config: str) -> dg.ExecuteInProcessResult:
    job = build_defs(settings).resolve_job_def(REPLAY_JOB)
    return job.execute_in_process(
        instance=instance, run_config={"ops": {"replay_policy": {"config": config}}}, raise_on_error=False
    )


def test_the_job_replays_tells_the_figures_and_publishes(
    settings: Settings, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    file = settings.home / "tried.yaml"
    file.write_text(TRIED_OUT)
    result = run_job(settings, instance, start="2024-02-01", end="2024-02-29", against=str(file))
    assert result.success
    (output,) = [event for event in result.all_events if event.is_successful_output]
    told = {name: value.value for name, value in output.event_specific_data.metadata.items()}
    assert (told["reminders"], told["other_reminders"], told["never_reached"], told["moved"]) == (4, 3, 1, 2)
    assert "| standard: reminder_1 | 2 |" in told["by_action"]
    assert "| 2024-02-15 | 1 |" in told["by_day"]
    assert stored(warehouse, told["replay_id"]) == AS_EXPECTED
    runs = warehouse.fetch("select distinct run_id from dunning.replays")["run_id"]
    assert runs.tolist() == [result.run_id]
    published = Warehouse(settings.home / "published" / "warehouse.duckdb")
    assert count(published, "dunning.replay_reminders") == 7
    assert instance.get_latest_materialization_event(asset_key(SENT_HISTORY)) is None


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"start": "soon", "end": "2024-02-29"}, "'soon' is no date of the form 2026-11-22"),
        ({"start": "2024-02-02", "end": "2024-02-01"}, "the first day (2024-02-02) is after the last one (2024-02-01)"),
        ({"start": "2024-02-02", "end": "2024-06-04"}, "2024-06-04 cannot be derived"),
        ({"start": "2024-02-01", "end": "2024-02-02", "policy": "no.yaml"}, "no.yaml: does not exist"),
        ({"start": "2024-02-01", "end": "2024-02-02", "against": "x1"}, "'x1' is neither the id of a replay"),
    ],
)
def test_the_job_fails_with_a_sentence(
    settings: Settings, instance: dg.DagsterInstance, config: dict[str, str], sentence: str
) -> None:
    result = run_job(settings, instance, **config)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    data = failure.event_specific_data
    assert sentence in data.user_failure_data.description
    assert data.user_failure_data.metadata == {}


@pytest.fixture(scope="module")
def ledger_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The real ledger, pulled after its last day."""
    home = tmp_path_factory.mktemp("ledger")
    clock = MovingClock()
    clock.move_to(date(2014, 1, 31), zone="America/New_York")
    with dg.DagsterInstance.ephemeral() as instance:
        pipeline = Pipeline(settings_at(home, LEDGER_POLICY, clock, {"LEDGER_CSV": str(LEDGER)}), instance)
        pull(pipeline.settings, date(2014, 1, 31), instance)
        yield pipeline


@pytest.mark.skipif(not LEDGER.exists(), reason=f"the real ledger is not at {LEDGER}")
@pytest.mark.parametrize("logic", ["standard", "contextual"])
def test_two_years_of_the_real_ledger_are_replayed_as_the_reference_decides_them(
    ledger_pipeline: Pipeline, logic: str
) -> None:
    settings, warehouse = ledger_pipeline.settings, ledger_pipeline.warehouse
    days = Days(date(2012, 2, 1), date(2014, 1, 31))
    policy = LEDGER_POLICY.replace("    default: true\n", f"    default: true\n    logic: {logic}\n")
    found = replayed(settings, warehouse, days, policy)
    rules = replace(RULES, workflows=(replace(RULES.workflows[0], logic=logic),))
    expected = reference.simulate(read_ledger(), rules, days.first, days.last)
    assert found == sorted((row.as_of, row.customer_id, row.carrying_invoice_id, row.action) for row in expected)
    assert len(found) > 1_000
    seconds = ledger_pipeline.warehouse.longest_hold()
    assert seconds < timedelta(seconds=5).total_seconds()
