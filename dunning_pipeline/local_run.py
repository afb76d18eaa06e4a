"""Runs the jobs in this process against the Dagster instance in DUNNING_HOME/dagster, for the command line."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from dunning_pipeline.assets.source import full_pull
from dunning_pipeline.definitions import build_defs
from dunning_pipeline.errors import DunningError
from dunning_pipeline.jobs import order_run_config, send_tags
from dunning_pipeline.private_files import make_private_folder
from dunning_pipeline.runs import DAILY_JOB, ORDER_JOB, SEND_JOB
from dunning_pipeline.settings import Settings

INSTANCE_SETTINGS = Path(__file__).with_name("dagster.yaml")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@contextmanager
def dagster_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance in `home`/dagster, made with this project's settings on first use."""
    folder = make_private_folder(home.resolve() / "dagster")
    if not (folder / "dagster.yaml").exists():
        shutil.copyfile(INSTANCE_SETTINGS, folder / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


def run_daily(
    settings: Settings, instance: dg.DagsterInstance, day: date, tags: dict[str, str], *, full: bool = False
) -> str:
    """Runs daily_dunning for a day and returns the run's id, which is the batch's.

    `full`: everything is pulled again, also where only changes would be.

    Raises:
        DunningError: what went wrong, as a sentence.
    """
    settings.require_derivable(day)
    job = build_defs(settings).resolve_job_def(DAILY_JOB)
    try:
        run_config = {**_QUIET, **(full_pull(settings.policy) if full else {})}
        result = job.execute_in_process(
            instance=instance, partition_key=day.isoformat(), tags=tags, run_config=run_config
        )
    except dg.DagsterError as error:
        raise DunningError(f"daily_dunning failed: {_first_sentence(error)}") from error
    return result.run_id


def _first_sentence(error: Exception) -> str:
    """The first line, with what it announces: Dagster names the failed checks on the next one."""
    lines = str(error).strip().splitlines()
    return " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])


def run_send(settings: Settings, instance: dg.DagsterInstance, run_config: Mapping[str, Any]) -> None:
    """Runs send_reminders as a run request says. Raises DunningError with what was left unsent and why."""
    job = build_defs(settings).resolve_job_def(SEND_JOB)
    batch_id = run_config["ops"]["send"]["config"]["batch_id"]
    try:
        job.execute_in_process(instance=instance, run_config={**_QUIET, **run_config}, tags=send_tags(batch_id))
    except dg.Failure as failure:
        raise DunningError(failure.description or "sending failed") from None


def run_orders(
    settings: Settings, instance: dg.DagsterInstance, *, send: bool = True, confirm: bool = False, full: bool = False
) -> str:
    """Runs order_reminders and returns the run's id. Raises DunningError with what went wrong or was left unsent."""
    job = build_defs(settings).resolve_job_def(ORDER_JOB)
    run_config = order_run_config(send=send, confirm=confirm, full=full)
    try:
        result = job.execute_in_process(instance=instance, run_config={**_QUIET, **run_config})
    except dg.Failure as failure:
        raise DunningError(failure.description or "the run failed") from None
    return result.run_id
