"""How runs are named and tagged, and which of them make a batch that may be sent."""

from collections.abc import Mapping

from dunning_pipeline.policy import Policy

DAILY_JOB = "daily_dunning"
SEND_JOB = "send_reminders"

PARTITION_TAG = "dagster/partition"
BACKFILL_TAG = "dagster/backfill"
BATCH_TAG = "dunning/batch_id"
STARTED_BY_HAND_TAG = "dunning/started_by"
"""Set on runs that `dunning run` starts: `dry_run`, or `send`, which the command then sends itself."""

DRY_RUN, SEND = "dry_run", "send"


def batch_is_live(policy: Policy, job_name: str, tags: Mapping[str, str]) -> bool:
    """Whether today's batch of a run may be sent: a daily run, no backfill, no dry run, with `sending.live`."""
    return (
        policy.sending.live
        and job_name == DAILY_JOB
        and BACKFILL_TAG not in tags
        and tags.get(STARTED_BY_HAND_TAG) != DRY_RUN
    )
