"""What tests hand in: a clock that moves when told, settings over a temporary home, jobs run in process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pytest

from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.cli import main
from dunning_pipeline.definitions import build_defs
from dunning_pipeline.jobs import send_run_config, send_tags
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.pulling import pull
from dunning_pipeline.resources.clock import system_clock
from dunning_pipeline.resources.loading import Loaded
from dunning_pipeline.resources.readers import pulled_sources
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import DAILY_JOB, SEND_JOB
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY
from dunning_pipeline.sensors import decide_send, gather_send_view
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import SOURCE_TABLES

DAY_RUN = "run"
"""The run that tables are pulled in without Dagster."""

SHARED = Path(__file__).parents[2] / "shared"
"""Reference material and real data beside the project; tests that need it skip aloud where it is missing."""


@dataclass
class MovingClock:
    """A clock that stands still until it is moved, or somebody sleeps by it."""

    now: datetime = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> datetime:
        return self.now

    def move_to(self, day: date, at: time = time(8, 30), zone: str = "Europe/Paris") -> None:
        self.now = datetime.combine(day, at, ZoneInfo(zone)).astimezone(UTC)

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def sleep(self, seconds: float) -> None:
        """Lets the time pass at once."""
        self.slept.append(seconds)
        self.advance(seconds=seconds)


def settings_at(home: Path, policy: str, clock: MovingClock, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings over `home`, where the policy text is written as dunning.yaml and relative file paths start."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "dunning.yaml"
    file.write_text(policy, encoding="utf-8")
    return Settings(
        loaded=parse_policy(policy, str(file)),
        policy_file=file,
        home=home,
        clock=clock,
        environment={"KLAVIYO_API_KEY": DEFAULT_KEY, **(environment or {})},
        sleep=clock.sleep,
    )


def pull_tables(settings: Settings, *, full: bool = False) -> Mapping[str, Loaded]:
    """Pulls every table that the policy feeds, as the daily job does."""
    warehouse = Warehouse(settings.warehouse_path)
    fed = {table for source in pulled_sources(settings.policy).values() for table in source.tables}
    return {
        table.name: pull(settings, warehouse, table, DAY_RUN, full=full)[1]
        for table in SOURCE_TABLES
        if table.name in fed
    }


def decided(settings: Settings, day: date) -> pd.DataFrame:
    """The decisions of a day over what was pulled, derived and stored as the daily job does, without integer keys."""
    warehouse = Warehouse(settings.warehouse_path)
    for derivation in DERIVATIONS:
        derive_and_replace(derivation, warehouse, settings.policy, Days(day, day), run_id=DAY_RUN)
    columns = "columns(lambda name: name <> 'run_id' and name not like '%_key')"
    query = f"select {columns} from dunning.decisions where as_of = $day order by all"
    return warehouse.fetch(query, {"day": day})


@dataclass
class Pipeline:
    """The definitions over some settings with a Dagster instance: runs jobs in process, as Dagster would."""

    settings: Settings
    instance: dg.DagsterInstance

    @cached_property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path)

    def daily(self, day: date | None = None, **options: object) -> dg.ExecuteInProcessResult:
        """Runs daily_dunning for a day, by default today."""
        day = day or self.settings.today()
        job = build_defs(self.settings).resolve_job_def(DAILY_JOB)
        return job.execute_in_process(instance=self.instance, partition_key=day.isoformat(), **options)  # type: ignore[arg-type]

    def ask_sensor(self, later: float = 3600) -> dg.RunRequest | dg.SkipReason:
        """What the send sensor says `later` seconds from now by Dagster's records: past the pause after a failure."""
        return decide_send(gather_send_view(self.instance, self.settings, system_clock().timestamp() + later))

    def send(self, batch_id: str, *, confirm: bool = False, **options: object) -> dg.ExecuteInProcessResult:
        """Runs send_reminders for a batch, tagged as the sensor tags it."""
        job = build_defs(self.settings).resolve_job_def(SEND_JOB)
        return job.execute_in_process(
            instance=self.instance,
            run_config=send_run_config(batch_id, confirm=confirm),
            tags=send_tags(batch_id),
            **options,  # type: ignore[arg-type]
        )

    def send_if_asked(self) -> dg.ExecuteInProcessResult | str:
        """Does what the daemon would do: asks the sensor and runs what it asks for, or returns why not."""
        answer = self.ask_sensor()
        if isinstance(answer, dg.SkipReason):
            return str(answer.skip_message)
        batch_id = answer.run_config["ops"]["send"]["config"]["batch_id"]
        return self.send(batch_id)


Command = Callable[..., tuple[int, str, str]]
"""Runs a command and returns its exit code, stdout and stderr, each in one line."""


def dunning_command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`dunning` in this process, with whatever environment the test has set."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            main(arguments)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return run
