"""What Dagster loads: names that users rely on, the whole graph, and what a wrong policy leaves of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from support import MovingClock, settings_at

from dunning_pipeline.definitions import build_defs
from dunning_pipeline.policy import PolicyError, parse_policy
from dunning_pipeline.sandbox.sample_data import SAMPLE_POLICY
from dunning_pipeline.settings import Settings

EDGES = """
dunning/carrying_invoices -> dunning/decisions
dunning/decisions -> dunning/reminders
dunning/open_invoices -> dunning/carrying_invoices
dunning/open_invoices -> dunning/decisions
dunning/open_invoices -> dunning/reminders
dunning/order_series -> dunning/sent_history
dunning/reminders -> dunning/sent_history
source/assignments -> dunning/decisions
source/assignments -> dunning/open_invoices
source/contacts -> dunning/decisions
source/customer_links -> dunning/decisions
source/customers -> dunning/decisions
source/customers -> dunning/open_invoices
source/customers -> dunning/reminders
source/invoices -> dunning/open_invoices
source/invoices -> dunning/reminders
source/invoices -> source/payments
source/invoices -> source/promises
source/order_edits -> dunning/order_series
source/orders -> dunning/order_series
source/pauses -> dunning/open_invoices
source/payments -> dunning/open_invoices
source/promises -> dunning/open_invoices
"""
SENSORS = ["order_edits_sensor", "send_reminders_sensor"]
FED = ("customers", "invoices", "pauses", "payments", "promises")
DERIVED = ("carrying_invoices", "decisions", "open_invoices", "reminders")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    clock = MovingClock(datetime(2025, 3, 12, 8, 30, tzinfo=UTC))
    database = {"BILLING_DATABASE_URL": "sqlite:////nowhere/billing.sqlite"}
    return settings_at(tmp_path_factory.mktemp("home"), SAMPLE_POLICY, clock, database)


@pytest.fixture(scope="module")
def defs(settings: Settings) -> dg.Definitions:
    return build_defs(settings)


@pytest.fixture(scope="module")
def wrong(settings: Settings) -> Settings:
    with pytest.raises(PolicyError) as raised:
        parse_policy(
            SAMPLE_POLICY.replace("live: true", "live: perhaps").replace("day: 8", "day: soon"), "dunning.yaml"
        )
    return replace(settings, loaded=raised.value)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def names(keys: object) -> set[str]:
    return {key.to_user_string() for key in keys}  # type: ignore[attr-defined]


def test_the_whole_graph(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    edges = {
        f"{parent.to_user_string()} -> {key.to_user_string()}"
        for key in graph.get_all_asset_keys()
        for parent in graph.get(key).parent_keys
    }
    assert sorted(edges) == EDGES.strip().splitlines()


def test_the_assets_have_the_names_that_users_rely_on(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    names_of_unfed = ("assignments", "contacts", "customer_links", "orders", "order_edits")
    unfed = {f"source/{name}" for name in names_of_unfed}
    executable = {f"source/{name}" for name in FED} | {f"dunning/{name}" for name in (*DERIVED, "order_series")}
    assert names(graph.materializable_asset_keys) == executable
    assert names(graph.external_asset_keys) == unfed | {"dunning/sent_history"}


def test_the_jobs_the_schedule_and_the_sensor_have_their_names(defs: dg.Definitions) -> None:
    repository = defs.get_repository_def()
    assert {name for name in repository.job_names if not name.startswith("__")} == {
        "daily_dunning",
        "order_reminders",
        "send_reminders",
        "replay",
    }
    assert [schedule.name for schedule in repository.schedule_defs] == ["daily_dunning_schedule"]
    assert [sensor.name for sensor in repository.sensor_defs] == SENSORS


def test_nothing_starts_by_itself(defs: dg.Definitions) -> None:
    repository = defs.get_repository_def()
    assert {schedule.default_status for schedule in repository.schedule_defs} == {dg.DefaultScheduleStatus.STOPPED}
    assert {sensor.default_status for sensor in repository.sensor_defs} == {dg.DefaultSensorStatus.STOPPED}


def test_every_asset_has_a_group_a_description_and_its_columns(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.group_name == key.path[0]
        assert node.description
        assert node.description.rstrip().endswith(".")
        assert node.metadata["dagster/column_schema"].schema.columns


def test_every_job_schedule_and_sensor_is_described(defs: dg.Definitions) -> None:
    repository = defs.get_repository_def()
    jobs = [repository.get_job(name) for name in ("daily_dunning", "order_reminders", "send_reminders", "replay")]
    assert all(named.description for named in [*jobs, *repository.schedule_defs, *repository.sensor_defs])


def test_derived_assets_share_one_partition_a_day_and_backfill_in_one_run(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    derived = [graph.get(dg.AssetKey(["dunning", name])) for name in DERIVED]
    assert {node.backfill_policy for node in derived} == {dg.BackfillPolicy.single_run()}
    (partitions,) = {node.partitions_def for node in derived}
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    assert (partitions.timezone, partitions.end_offset) == ("Europe/Paris", 1)
    assert partitions.get_first_partition_key() == "2019-01-01"


def test_the_daily_job_holds_everything_that_can_be_executed_but_orders(settings: Settings) -> None:
    with_orders = SAMPLE_POLICY.replace("      customers:", "      orders: orders\n      customers:", 1)
    assert with_orders != SAMPLE_POLICY
    defs = build_defs(replace(settings, loaded=parse_policy(with_orders)))
    executable = set(defs.resolve_asset_graph().materializable_asset_keys)
    orders = {dg.AssetKey(["source", name]) for name in ("orders", "order_edits")}
    orders.add(dg.AssetKey(["dunning", "order_series"]))
    job = defs.resolve_job_def("daily_dunning")
    assert orders < executable
    assert set(job.asset_layer.executable_asset_keys) == executable - orders


def test_the_sent_history_cannot_be_executed(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    history = dg.AssetKey(["dunning", "sent_history"])
    assert not defs.resolve_asset_graph().get(history).is_executable
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="executable"):
        defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, partition_key="2025-03-12", asset_selection=[history]
        )


def test_what_nobody_may_be_reminded_on_blocks_and_the_rest_warns(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    checks = {
        f"{key.asset_key.to_user_string()}: {key.name}": graph.get_check_spec(key) for key in graph.asset_check_keys
    }
    assert {name: spec.blocking for name, spec in checks.items()} == {
        "source/payments: invoices_are_known": False,
        "source/promises: invoices_are_known": False,
        "dunning/carrying_invoices: tied_currencies_have_rates": False,
        "dunning/decisions: assignments_name_fitting_workflows": False,
        "dunning/decisions: smart_rules_have_rates": False,
        "dunning/decisions: every_owing_customer_is_decided_once": True,
        "dunning/decisions: input_is_fresh_and_plausible": True,
        **{f"source/{table}: few_rows_are_rejected": True for table in FED},
        "dunning/reminders: batch_has_a_usual_size": False,
    }
    assert all(spec.description and spec.description.endswith(".") for spec in checks.values())


def test_a_wrong_policy_still_gives_definitions(wrong: Settings) -> None:
    repository = build_defs(wrong).get_repository_def()
    assert {"daily_dunning", "order_reminders", "send_reminders", "replay"} <= set(repository.job_names)
    assert [schedule.name for schedule in repository.schedule_defs] == ["daily_dunning_schedule"]
    assert [sensor.name for sensor in repository.sensor_defs] == SENSORS
    graph = build_defs(wrong).resolve_asset_graph()
    assert names(graph.materializable_asset_keys) == {f"dunning/{name}" for name in (*DERIVED, "order_series")}


@pytest.mark.parametrize(
    ("job", "options"),
    [
        ("daily_dunning", {"partition_key": "2025-03-12"}),
        ("send_reminders", {}),
        ("order_reminders", {}),
        (
            "replay",
            {"run_config": {"ops": {"replay_policy": {"config": {"start": "2025-03-11", "end": "2025-03-12"}}}}},
        ),
    ],
)
def test_with_a_wrong_policy_jobs_fail_with_its_sentences(
    wrong: Settings, instance: dg.DagsterInstance, job: str, options: dict[str, object]
) -> None:
    definition = build_defs(wrong).resolve_job_def(job)
    result = definition.execute_in_process(instance=instance, raise_on_error=False, **options)  # type: ignore[arg-type]
    assert not result.success
    errors = [event.event_specific_data.error for event in result.all_events if event.is_step_failure]
    told = " ".join(part.message for error in errors for part in (error, error.cause) if part)
    assert "dunning.yaml:30: sending.live:" in told
    assert "workflows[0].actions[2].day" in told


def test_the_module_loads_from_the_environment(settings: Settings) -> None:
    environment = {
        **os.environ,
        "DUNNING_POLICY": str(settings.policy_file),
        "DUNNING_HOME": str(settings.home),
        "BILLING_DATABASE_URL": "sqlite:////nowhere/billing.sqlite",
    }
    program = (
        "from dunning_pipeline.definitions import defs\n"
        "print(*sorted(name for name in defs.get_repository_def().job_names if name[0] != '_'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["daily_dunning", "order_reminders", "replay", "send_reminders"]
    assert not (settings.home / "warehouse.duckdb").exists()


def test_the_key_is_in_no_text_of_the_definitions(settings: Settings) -> None:
    key = "pk_0123456789abcdef"
    keyed = replace(settings, environment={**settings.environment, "KLAVIYO_API_KEY": key})
    assert key not in repr(build_defs(keyed))


def test_resources_can_be_handed_in(settings: Settings) -> None:
    stand_in = object()
    assert build_defs(settings, {"warehouse": stand_in}).resources["warehouse"] is stand_in  # type: ignore[index]


def test_loading_touches_no_source_and_no_warehouse(settings: Settings, defs: dg.Definitions) -> None:
    defs.get_repository_def()
    assert [path.name for path in Path(settings.home).iterdir() if path.suffix == ".duckdb"] == []
