"""Sends a batch by the real job in a process of its own and kills it over and over: nothing is lost, nothing doubled.

    python tests/killed_sender.py --rounds 200

Each round starts the job send_reminders, waits until its first request reaches the sandbox, and kills the process at a
random moment (seeded) soon after. In the end one run finishes the batch, and what the sandbox recorded is compared with
the batch and with the history.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send
from test_outbox import POLICY_TEXT, empty_warehouse, freeze, reminders

from dunning_pipeline.outbox import Outbox
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, UNLIMITED, KlaviyoAccount, create_app, serving

ROUNDS, REMINDERS, EVENTS_PER_REQUEST = 200, 5_000, 25
LATENCY_SECONDS = 0.05
MOST_SECONDS_LEFT = 0.2
"""How long after the arrival of its first request a process is killed at the latest: about twice what an answer and its
record take, so that some die before the answer, some between answer and record, some after it."""
LEAST_BETWEEN = 0.3
"""Share of the kills that must fall between request and record, or nothing much is proved."""
PATIENCE_SECONDS = 240.0

POLICY = POLICY_TEXT.replace("Europe/Paris", "UTC")

SENDER = """
import sys
from dataclasses import replace

import dagster as dg

from dunning_pipeline.definitions import build_defs
from dunning_pipeline.runs import SEND_JOB
from dunning_pipeline.settings import load_settings

settings = replace(load_settings(), events_per_request=int(sys.argv[1]))
with dg.DagsterInstance.ephemeral() as instance:
    build_defs(settings).resolve_job_def(SEND_JOB).execute_in_process(instance=instance)
"""
"""How much goes with a request is handed in by code: no environment, policy or launch pad can change it."""

Attempts = set[tuple[str, int]]


@dataclass
class Figures:
    """What the rounds came to; `problems` are sentences."""

    kills: int = 0
    between: int = 0
    resent: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def share_between(self) -> float:
        """Share of the kills between request and record."""
        return self.between / self.kills if self.kills else 0.0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.between} of them ({self.share_between:.0%}) between request and record; "
            f"{self.resent} bodies were sent again; problems: {'; '.join(self.problems) or 'none'}"
        )


@dataclass
class Watched:
    """A sandbox that tells when a request came, and what each reminder arrived as."""

    account: KlaviyoAccount
    app: ASGIApp
    came: threading.Event = field(default_factory=threading.Event)
    arrivals: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _read: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            self.came.set()
        await self.app(scope, receive, send)

    def newly_arrived(self) -> set[str]:
        """The reminders that arrived since the last call."""
        requests = self.account.bodies[self._read :]
        self._read += len(requests)
        found = set()
        for request in requests:
            for entry in json.loads(request)["data"]["attributes"]["events-bulk-create"]["data"]:
                (event,) = entry["attributes"]["events"]["data"]
                self.arrivals[event["attributes"]["unique_id"]].append(json.dumps(entry))
                found.add(event["attributes"]["unique_id"])
        return found


@dataclass
class Trial:
    """A home with a batch of today, and the sandbox that it is sent to."""

    home: Path
    url: str
    sandbox: Watched
    ids: list[str]

    @property
    def warehouse(self) -> Warehouse:
        """Asked with little patience, because nothing may hold its lock any more."""
        return Warehouse(self.home / "warehouse.duckdb", lock_timeout=5.0)

    @contextmanager
    def sending(self) -> Iterator["subprocess.Popen[bytes]"]:
        """A process that sends what is left, gone with all its children in the end."""
        environment = {
            **os.environ,
            "DUNNING_HOME": str(self.home),
            "DUNNING_POLICY": str(self.home / "dunning.yaml"),
            "KLAVIYO_URL": self.url,
            "KLAVIYO_API_KEY": DEFAULT_KEY,
        }
        command = [sys.executable, "-c", SENDER, str(EVENTS_PER_REQUEST)]
        with (self.home / "output.txt").open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def open_attempts(self) -> Attempts:
        """Attempts without an outcome."""
        rows = self.warehouse.fetch(
            "select reminder_id, attempt from dunning.sent_history group by all having bool_and(outcome = 'attempting')"
        )
        return set(zip(rows["reminder_id"], rows["attempt"], strict=True))

    def accepted(self) -> list[str]:
        """Reminders whose acceptance is recorded, as often as it is."""
        rows = self.warehouse.fetch("select reminder_id from dunning.sent_history where outcome = 'accepted'")
        return list(rows["reminder_id"])

    def output(self) -> str:
        """The end of what the last process wrote."""
        return (self.home / "output.txt").read_text(errors="replace")[-2000:]


def run_trial(home: Path, rounds: int, size: int, seed: int = 1) -> Figures:
    """Freezes a batch of `size` reminders in `home`, kills `rounds` runs of sending it, lets one finish, compares."""
    moments = random.Random(seed)
    figures = Figures()
    with _trial(home, size) as trial:
        for number in range(rounds):
            if not _kill_one(trial, moments.uniform(0.0, MOST_SECONDS_LEFT), figures):
                figures.problems.append(f"round {number + 1} killed nothing: {trial.output()}")
                break
        with trial.sending() as process:
            if process.wait(PATIENCE_SECONDS):
                figures.problems.append(f"the last run failed: {trial.output()}")
        _compare(trial, figures)
    return figures


@contextmanager
def _trial(home: Path, size: int) -> Iterator[Trial]:
    now = datetime.now(UTC)
    home.mkdir(parents=True, exist_ok=True)
    (home / "dunning.yaml").write_text(POLICY, encoding="utf-8")
    ids = [f"r-{number:05d}" for number in range(size)]
    outbox = Outbox(empty_warehouse(home / "warehouse.duckdb"), "invoice")
    freeze(outbox, "batch", reminders(ids), at=now, as_of=now.date(), policy=parse_policy(POLICY))
    # A key that may not read events: what is unknown cannot be looked up, and must be sent again.
    account = KlaviyoAccount({DEFAULT_KEY: {"events:write"}}, rates=UNLIMITED)
    account.conditions.latency = LATENCY_SECONDS
    sandbox = Watched(account, create_app(account))
    with serving(sandbox) as url:
        yield Trial(home, url, sandbox, ids)


def _kill_one(trial: Trial, seconds: float, figures: Figures) -> bool:
    """Kills a run so many seconds after its first request came; False when it ended before."""
    before = trial.open_attempts()
    trial.sandbox.came.clear()
    with trial.sending() as process:
        end = time.monotonic() + PATIENCE_SECONDS
        while not trial.sandbox.came.wait(0.05):
            if process.poll() is not None or time.monotonic() > end:
                return False
        time.sleep(seconds)
        if process.poll() is not None:
            return False
        os.killpg(process.pid, signal.SIGKILL)
    arrived = trial.sandbox.newly_arrived()
    figures.kills += 1
    figures.between += any(reminder in arrived for reminder, _ in trial.open_attempts() - before)
    return True


def _compare(trial: Trial, figures: Figures) -> None:
    """Adds a sentence for whatever was lost, doubled or changed on its way."""
    trial.sandbox.newly_arrived()
    account, arrivals = trial.sandbox.account, trial.sandbox.arrivals
    figures.resent = sum(len(bodies) - 1 for bodies in arrivals.values())
    recorded = sorted(event.unique_id for event in account.events)
    for found, what in ((recorded, "recorded by Klaviyo"), (sorted(trial.accepted()), "accepted by the history")):
        if found != trial.ids:
            figures.problems.append(f"{len(found)} events, {len({*found})} of them distinct, were {what}")
    changed = [reminder for reminder, bodies in arrivals.items() if len({*bodies}) > 1]
    if changed:
        figures.problems.append(f"{len(changed)} reminders were sent again with another body")
    if len(account.discarded) != figures.resent:
        figures.problems.append(f"{len(account.discarded)} events were discarded, {figures.resent} were sent again")


def main() -> None:
    """Runs the trial in a temporary folder, prints what it came to, fails if anything is wrong."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--reminders", type=int, default=REMINDERS)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="killed-") as folder:
        figures = run_trial(Path(folder) / "home", chosen.rounds, chosen.reminders, chosen.seed)
    print(figures)
    sys.exit(bool(figures.problems) or figures.share_between < LEAST_BETWEEN)


if __name__ == "__main__":
    main()
