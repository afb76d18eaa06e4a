"""A run killed with SIGKILL in the middle of a write leaves the previous state, and the next run goes on by itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock, Timeout
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.local_run import INSTANCE_SETTINGS
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import DAILY_JOB, PARTITION_TAG
from dunning_pipeline.settings import Settings

COMMAND = [sys.executable, "-m", "dunning_pipeline.cli", "run"]
DAEMON = [str(Path(sys.executable).with_name("dagster-daemon")), "run"]
LAUNCH = [sys.executable, "-m", "dagster", "job", "launch"]

PATIENCE_SECONDS = 75
FINISHED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}

CUSTOMERS = 300_000
"""So many that writing them takes long enough to be met in the middle."""

POLICY = """\
organisation: {time_zone: UTC, base_currency: EUR, first_day: "2026-01-01"}
workflows:
  - {name: standard, default: true, actions: [{name: reminder_1, day: 1}]}
sources:
  exports:
    kind: files
    tables: {customers: customers.csv, invoices: invoices.csv}
"""

CODE_LOCATION = """\
import os
import time
from contextlib import contextmanager
from pathlib import Path

from dunning_pipeline.definitions import build_defs
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import load_settings


class StallingWarehouse(Warehouse):
    @contextmanager
    def transaction(self):
        with super().transaction() as connection:
            if Path("stall").exists():
                connection.execute("delete from source.customers")
                Path("stalling").write_text(str(os.getpid()))
                Path("stalling").rename("stalled")
                time.sleep(600)
            yield connection


settings = load_settings()
defs = build_defs(settings, resources={"warehouse": StallingWarehouse(settings.warehouse_path)})
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a home in which the daily job has run once, with two customers named `before`."""
    now = datetime.now(UTC)
    settings = settings_at(tmp_path, POLICY, MovingClock(now))
    write_customers(tmp_path, 2, "before")
    invoice = f"F1,C1,2026-01-01,{now.date()},EUR,100.00"
    (tmp_path / "invoices.csv").write_text(f"invoice_id,customer_id,issued_on,due_on,currency,total\n{invoice}\n")
    with dg.DagsterInstance.ephemeral() as instance:
        assert Pipeline(settings, instance).daily().success
    return settings


def write_customers(folder: Path, count: int, name: str) -> None:
    rows = "".join(f"C{number},{name}\n" for number in range(count))
    (folder / "customers.csv").write_text(f"customer_id,name\n{rows}")


def customers_by_name(settings: Settings) -> dict[str, int]:
    """Asked with little patience, because nothing may hold the lock any more."""
    warehouse = Warehouse(settings.warehouse_path, lock_timeout=0.5)
    frame = warehouse.fetch("select name, count(*) as customers from source.customers group by name")
    return dict(zip(frame["name"], frame["customers"], strict=True))


def environment(settings: Settings) -> Mapping[str, str]:
    """What the product's processes are given; they look for the policy and the files in `settings.home`."""
    return os.environ | {
        "DUNNING_POLICY": str(settings.policy_file),
        "DUNNING_HOME": str(settings.home),
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "KLAVIYO_API_KEY": settings.environment["KLAVIYO_API_KEY"],
    }


@contextmanager
def running(command: list[str], settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is gone with all its children in the end."""
    with (settings.home / "output.txt").open("ab") as file:
        process = subprocess.Popen(
            command,
            cwd=settings.home,
            env=environment(settings),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], settings: Settings, every: float = 0.1
) -> None:
    """Waits for `condition` while `process` is there to bring it about."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end or process.poll() is not None:
            pytest.fail(f"nothing came of it; exit code {process.poll()}\n{output(settings)}")
        time.sleep(every)


def wait_for_success(process: subprocess.Popen[bytes], settings: Settings) -> None:
    assert process.wait(timeout=PATIENCE_SECONDS) == 0, output(settings)


def output(settings: Settings) -> str:
    return (settings.home / "output.txt").read_text()[-5000:]


def is_writing_customers(settings: Settings) -> bool:
    """Whether a run holds the lock while its typed customers lie ready: it is in the transaction that loads them."""
    if not list(settings.home.glob("staging/*/customers/*.staged.parquet")):
        return False
    try:
        with FileLock(f"{settings.warehouse_path}.lock", timeout=0):
            return False
    except Timeout:
        return True


@pytest.mark.timeout(180)
def test_a_run_from_the_command_line_killed_in_the_middle_of_a_write(settings: Settings) -> None:
    write_customers(settings.home, CUSTOMERS, "after")
    with running(COMMAND, settings) as process:
        wait_until(lambda: is_writing_customers(settings), process, settings, every=0.005)
        time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)
        assert is_writing_customers(settings), "the write was over too soon to be met in the middle"
    assert customers_by_name(settings) == {"before": 2}

    with running(COMMAND, settings) as process:
        wait_for_success(process, settings)
    assert customers_by_name(settings) == {"after": CUSTOMERS}


@pytest.mark.timeout(180)
def test_a_run_of_the_daemon_killed_in_the_middle_of_a_write(settings: Settings) -> None:
    home = settings.home
    (home / "stalling_location.py").write_text(CODE_LOCATION)
    (home / "workspace.yaml").write_text("load_from: [{python_file: stalling_location.py}]\n")
    (home / "dagster").mkdir()
    shutil.copyfile(INSTANCE_SETTINGS, home / "dagster" / "dagster.yaml")
    write_customers(home, 3, "after")
    (home / "stall").touch()

    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance, running(DAEMON, settings) as daemon:
        killed = submit(settings, instance)
        wait_until((home / "stalled").exists, daemon, settings)
        assert status(instance, killed) == dg.DagsterRunStatus.STARTED
        os.kill(int((home / "stalled").read_text()), signal.SIGKILL)
        assert customers_by_name(settings) == {"before": 2}

        (home / "stall").unlink()
        following = submit(settings, instance)
        wait_until(lambda: status(instance, following) in FINISHED, daemon, settings)
        assert status(instance, following) == dg.DagsterRunStatus.SUCCESS
        wait_until(lambda: status(instance, killed) in FINISHED, daemon, settings)
        assert status(instance, killed) == dg.DagsterRunStatus.FAILURE
    assert customers_by_name(settings) == {"after": 3}


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def submit(settings: Settings, instance: dg.DagsterInstance) -> str:
    """Puts a run of today into the daemon's queue; returns its id."""
    before = {run.run_id for run in instance.get_runs()}
    tags = json.dumps({PARTITION_TAG: settings.today().isoformat()})
    with running([*LAUNCH, "-w", "workspace.yaml", "-j", DAILY_JOB, "--tags", tags], settings) as process:
        wait_for_success(process, settings)
    (run_id,) = {run.run_id for run in instance.get_runs()} - before
    return run_id
