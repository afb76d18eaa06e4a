"""Assembly only: what Dagster loads. `defs` is made from the environment, `build_defs` from what is handed in."""

import warnings
from collections.abc import Mapping

import dagster as dg

from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derived_asset
from dunning_pipeline.assets.orders import order_series
from dunning_pipeline.assets.reminders import build_reminders_asset, sent_history_spec
from dunning_pipeline.assets.source import build_source_assets
from dunning_pipeline.jobs import ORDER_SIDE_KEYS, daily_job, order_job, replay_job, send_job
from dunning_pipeline.partitions import daily_partitions
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.schedules import daily_schedule
from dunning_pipeline.sensors import order_edits_sensor, send_reminders_sensor
from dunning_pipeline.settings import Settings, load_settings

# Single-run backfills are marked beta by Dagster; the warning would be printed at every start, for every asset.
warnings.filterwarnings("ignore", category=dg.BetaWarning, message=".*backfill_policy.*")


def build_defs(settings: Settings, resources: Mapping[str, object] | None = None) -> dg.Definitions:
    """All assets, jobs, schedules and sensors.

    A wrong policy still gives definitions: the sensors skip and the jobs fail with the policy's errors.

    Args:
        settings: policy, clock, home and environment.
        resources: stand-ins for the real ones by name (`warehouse`, `settings`).
    """
    policy = settings.policy_or_none
    partitions = daily_partitions(policy)
    sources = build_source_assets(policy)
    derived = [derived_asset(derivation, partitions) for derivation in DERIVATIONS]
    upstream = {key for asset in (*sources, *derived) if isinstance(asset, dg.AssetsDefinition) for key in asset.keys}
    upstream -= ORDER_SIDE_KEYS
    return dg.Definitions(
        assets=[
            *sources,
            *derived,
            order_series,
            build_reminders_asset(partitions, upstream),
            sent_history_spec(),
        ],
        jobs=[daily_job(), send_job, order_job, replay_job],
        schedules=[daily_schedule(policy)],
        sensors=[send_reminders_sensor, order_edits_sensor],
        resources={
            "warehouse": Warehouse(settings.warehouse_path, memory_limit=settings.memory_limit),
            "settings": settings,
            **(resources or {}),
        },
        executor=dg.in_process_executor,
    )


defs = build_defs(load_settings())
