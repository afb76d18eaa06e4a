"""How runs are named and tagged, and which of them make a batch that may be sent."""

from collections.abc import Set

import dagster as dg

from dunning_pipeline.policy import Policy

DAILY_JOB = "daily_dunning"
SEND_JOB = "send_reminders"
ORDER_JOB = "order_reminders"
REPLAY_JOB = "replay"
JOBS = {"invoice": DAILY_JOB, "order": ORDER_JOB}
"""The job that decides each stream."""

PARTITION_TAG = "dagster/partition"
BACKFILL_TAG = "dagster/backfill"
BATCH_TAG = "dunning/batch_id"
LONG_RUN = {"dunning/long": "true"}
"""Tags of runs that may take hours: dagster.yaml keeps a place free beside them."""
ORDER_REASON_TAG = "dunning/reason"
"""Why the sensor asked for an order run."""
STARTED_BY_HAND_TAG = "dunning/started_by"
"""Set on runs that `dunning run` starts: `dry_run`, or `send`, which the command then sends itself."""

DRY_RUN, SEND = "dry_run", "send"

NEEDS_CONFIRMATION = "needs_confirmation"
"""Metadata of a batch of unusual size: why nothing sends it by itself, and how to let it go."""


def batch_is_live(policy: Policy, run: dg.DagsterRun, whole: Set[dg.AssetKey]) -> bool:
    """Whether today's batch of a run may be sent: `sending.live`, and a whole daily run, no backfill, no dry run.

    A run of some assets only, or from a failure on, would freeze what an earlier pull knew. `whole` is every asset of
    the job; Dagster's UI names them all where "materialise all" is meant.
    """
    return (
        policy.sending.live
        and run.job_name == DAILY_JOB
        and (not run.asset_selection or run.asset_selection >= whole)
        and run.parent_run_id is None
        and BACKFILL_TAG not in run.tags
        and run.tags.get(STARTED_BY_HAND_TAG) != DRY_RUN
    )


SOURCE_STATES = "sources"
"""Metadata of an order run: what each source showed, and when its next event is due."""
POLICY_HASH = "policy_hash"
