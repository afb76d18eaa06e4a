"""`dagster dev` over a home of its own, a process group that is gone in the end, and what Dagster then tells of it."""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import requests

from dunning_pipeline.local_run import INSTANCE_SETTINGS

ROOT = Path(__file__).parents[1]
LOCATION, REPOSITORY = "dunning_pipeline", "__repository__"
STARTING_SECONDS, STOPPING_SECONDS = 120.0, 15.0
FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)

_SELECTOR = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY}
_LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
_START_SENSOR = """
mutation Start($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}
"""
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""


class DidNotHappen(RuntimeError):
    """What was waited for did not happen in time."""


@dataclass(frozen=True)
class Daemon:
    """A running `dagster dev`: its address, its instance, its process and where it writes."""

    url: str
    instance: dg.DagsterInstance
    process: "subprocess.Popen[bytes]"
    output: Path

    def start_sensor(self, name: str) -> None:
        """Switches a sensor on."""
        answer = self._ask(_START_SENSOR, {"selector": {**_SELECTOR, "sensorName": name}})["startSensor"]
        if answer["__typename"] != "Sensor":
            raise RuntimeError(f"the sensor {name} did not start: {answer}")

    def launch(self, job: str, tags: Mapping[str, str], run_config: Mapping[str, Any] | None = None) -> str:
        """Puts a run into the queue, as a click in the UI does; returns its id."""
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        params = {
            "selector": {**_SELECTOR, "pipelineName": job},
            "runConfigData": run_config or {},
            "executionMetadata": {"tags": listed},
        }
        answer = self._ask(_LAUNCH, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise RuntimeError(f"{job} was not launched: {answer}")
        return str(answer["run"]["runId"])

    def runs(self, job: str) -> Sequence[dg.RunRecord]:
        """All runs of a job, the newest first."""
        return self.instance.get_run_records(dg.RunsFilter(job_name=job))

    def ticks(self, sensor: str) -> list[Any]:
        """All ticks of a sensor that are over, the oldest first."""
        (state,) = [state for state in self.instance.all_instigator_state() if state.instigator_name == sensor]
        ticks = self.instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return sorted((tick for tick in ticks if tick.end_timestamp), key=lambda tick: tick.timestamp)

    def longest_holds(self) -> dict[str, float]:
        """The longest that the warehouse's lock was held for each asset, in seconds, by job and asset."""
        holds: dict[str, float] = {}
        for run in self.instance.get_runs():
            logs = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            for made in (log.asset_materialization for log in logs):
                held = made.metadata.get("longest_lock_seconds") if made else None
                if made and held:
                    step = f"{run.job_name} in {made.asset_key.to_user_string()}"
                    holds[step] = max(holds.get(step, 0.0), float(str(held.value)))
        return holds

    def cpu_seconds(self) -> float:
        """What all its living processes have taken of the processor so far; not a number where /proc is missing."""
        ticks = [_cpu_ticks(folder / "stat", self.process.pid) for folder in Path("/proc").glob("[0-9]*")]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else math.nan

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float, every: float = 0.2) -> None:
        """Waits for something. Raises DidNotHappen, or RuntimeError when `dagster dev` has ended."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                told = self.output.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"dagster dev ended with {self.process.returncode} before {what}\n{told}")
            if time.monotonic() > end:
                raise DidNotHappen(f"dagster dev did not come to this in {seconds:g} s: {what}")
            time.sleep(every)

    def is_loaded(self) -> bool:
        """Whether the location has been loaded."""
        with suppress(requests.ConnectionError):
            entries = self._ask(_LOCATIONS, {})["workspaceOrError"]["locationEntries"]
            return any(
                (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation" for entry in entries
            )
        return False

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        response = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60)
        answer = response.json()
        if answer.get("errors"):
            raise RuntimeError(f"Dagster refuses a query: {answer['errors']}")
        return dict(answer["data"])


@contextmanager
def dagster_dev(home: Path, environment: Mapping[str, str]) -> Iterator[Daemon]:
    """`dagster dev` in the repository's root over `home`, with its location loaded and its daemon at work."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(INSTANCE_SETTINGS, folder / "dagster.yaml")
    port, output = _free_port(), home / "dagster-dev.log"
    surroundings = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "DUNNING_HOME": str(home),
        "DUNNING_POLICY": str(home / "dunning.yaml"),
        "DAGSTER_HOME": str(folder),
        **environment,
    }
    command = [str(Path(sys.executable).with_name("dagster")), "dev", "--host", "127.0.0.1", "--port", str(port)]
    with dg.DagsterInstance.from_config(str(folder)) as instance, output.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=surroundings, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            daemon = Daemon(f"http://127.0.0.1:{port}", instance, process, output)
            daemon.wait_until(daemon.is_loaded, "its location is loaded", STARTING_SECONDS)
            yield daemon
        finally:
            end_group(process)


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Asks a process and all its children to end, and ends them if they do not."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOPPING_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _cpu_ticks(stat: Path, group: int) -> int:
    """Ticks of the processor that a process of a group and its children that are gone took; 0 for one of another."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15])) if int(fields[2]) == group else 0


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
