"""Freezing a batch and sending it to the sandbox: CPU and memory of large batches, and how close to the limits we get.

Each figure comes from a process of its own; the sandbox runs in another one. CPU seconds are those of the process,
which others on the machine disturb less than the time on the clock.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

from benchmarks.ledger import AS_OF
from benchmarks.measuring import peak_gb
from benchmarks.policy import TEXT
from benchmarks.reminded import write_reminded
from benchmarks.table import Line
from dunning_pipeline.assets.reminders import reminder_pieces
from dunning_pipeline.outbox import Batch, Outbox
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.klaviyo_bodies import MOST_EVENTS, bulk_body
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.decisions import STREAM
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, DEFAULT_RATES, UNLIMITED, KlaviyoAccount, running
from dunning_pipeline.sending import send_batch
from dunning_pipeline.settings import Settings

SIZE, SENT = 1_000_000, 50_000
MOST_MICROSECONDS_FROZEN, MOST_MICROSECONDS_JOINED, MOST_GB = 60.0, 2.0, 0.5
LEAST_PER_SECOND = 5_000
MINUTES, LATENCY_SECONDS = 3, 0.08
EVENTS_OF_LIMITED = 10
"""Events per request where requests are what is limited, so that a short batch keeps the sender busy."""
ALLOWED_PER_MINUTE = DEFAULT_RATES["POST /api/event-bulk-create-jobs"].per_minute
LEAST_SHARE, MOST_THROTTLED_PER_MINUTE = 0.95, 1
ROWS_READ = 10_000
STARTING_SECONDS = 20.0
"""What a sender takes at most until its first request leaves, from which on its time counts."""
FOR_EVER = 1e9

Figures = dict[str, float]


def measure(size: int = SIZE, sent: int = SENT, minutes: float = MINUTES) -> list[Line]:
    """Lines about freezing and joining `size` reminders, sending `sent` without limits, and `minutes` with them."""
    with tempfile.TemporaryDirectory(prefix="sending-") as folder:
        home = Path(folder)
        write_reminded(home / "warehouse.duckdb", size)
        lines = [*_frozen_lines(size, _run("freeze", home)), *_joined_lines(size, _run("join", home))]
        shutil.rmtree(home, ignore_errors=True)
        lines += _unlimited_lines(sent, _sent(home / "unlimited", sent, "unlimited", MOST_EVENTS, None))
        limited = int(ALLOWED_PER_MINUTE * (minutes + 1)) * EVENTS_OF_LIMITED
        lines += _limited_lines(_sent(home / "limited", limited, "limited", EVENTS_OF_LIMITED, minutes * 60), minutes)
    return lines


def _frozen_lines(size: int, figures: Figures) -> list[Line]:
    micros = f"{figures['cpu'] / size * 1e6:.1f} µs"
    bound = f"at most {MOST_MICROSECONDS_FROZEN:g} µs of CPU each, {MOST_GB:g} GB"
    return [Line(f"{size:,}", "built and frozen, CPU", figures["cpu"], figures["peak_gb"], micros, bound)]


def _joined_lines(size: int, figures: Figures) -> list[Line]:
    micros = f"{figures['cpu'] / size * 1e6:.2f} µs"
    bound = f"at most {MOST_MICROSECONDS_JOINED:g} µs of CPU each, {MOST_GB:g} GB"
    what = f"frozen bodies joined into requests of {MOST_EVENTS:,}, CPU"
    return [Line(f"{size:,}", what, figures["cpu"], figures["peak_gb"], micros, bound)]


def _unlimited_lines(sent: int, figures: Figures) -> list[Line]:
    rate = f"{figures['accepted'] / figures['seconds']:,.0f}/s"
    bound = f"at least {LEAST_PER_SECOND:,}/s with their records"
    return [Line(f"{sent:,}", "sent without limits", figures["seconds"], figures["peak_gb"], rate, bound)]


def _limited_lines(figures: Figures, minutes: float) -> list[Line]:
    share = figures["taken"] / (ALLOWED_PER_MINUTE * minutes)
    throttled = figures["throttled"] / minutes
    what = f"requests taken in {minutes:g} min at Klaviyo's limits, {LATENCY_SECONDS * 1000:g} ms latency"
    bound = f"at least {LEAST_SHARE:.0%} of {ALLOWED_PER_MINUTE}/min, at most {MOST_THROTTLED_PER_MINUTE} 429/min"
    return [Line(f"{figures['taken']:,.0f}", what, minutes * 60, None, f"{share:.1%}, {throttled:.1f} 429/min", bound)]


def _sent(home: Path, size: int, rates: str, events: int, seconds: float | None) -> Figures:
    """What sending a batch came to: until it is sent, or for so many seconds."""
    home.mkdir(parents=True)
    write_reminded(home / "warehouse.duckdb", size)
    _run("freeze", home)
    with _sandbox(rates, seconds or FOR_EVER) as (url, summary):
        figures = _run("send", home, url, events, seconds=seconds and seconds + STARTING_SECONDS)
        return figures | summary()


def _run(what: str, *arguments: object, seconds: float | None = None) -> Figures:
    """The figures that one of the functions below gives in a process of its own; none if its time is over first."""
    command = [sys.executable, "-m", "benchmarks.sending", what, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return {}
    if process.returncode:
        raise RuntimeError(f"{what} failed:\n{errors}")
    return dict(json.loads(output.splitlines()[-1]))


@contextmanager
def _sandbox(rates: str, seconds: float) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """The address of a sandbox in a process of its own, and what ends it and tells what it received."""
    command = [sys.executable, "-m", "benchmarks.sending", "sandbox", rates, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        try:
            yield process.stdout.readline().strip(), lambda: dict(json.loads(process.communicate("\n")[0]))
        finally:
            process.kill()


def sandbox(rates: str, seconds: str) -> None:
    """Serves an account until a line comes in; prints its address first, and last what came within some seconds."""
    account = KlaviyoAccount(rates=UNLIMITED if rates == "unlimited" else DEFAULT_RATES)
    account.conditions.latency = 0.0 if rates == "unlimited" else LATENCY_SECONDS
    with running(account) as url:
        print(url, flush=True)
        sys.stdin.readline()
        requests = account.requests
        end = requests[0].at + timedelta(seconds=float(seconds))
        statuses = [request.status for request in requests if request.at <= end]
    counted = {"taken": statuses.count(202), "throttled": statuses.count(429), "accepted": len(account.events)}
    print(json.dumps(counted))


def freeze(home: str) -> Figures:
    """Builds and freezes the batch of the day."""
    settings, outbox = _settings(Path(home)), _outbox(Path(home))
    batch = Batch("benchmark", STREAM, AS_OF, size=0, live=True, state="planned")
    started = _cpu()
    pieces = reminder_pieces(outbox.warehouse, settings, Days(AS_OF, AS_OF), None)
    outbox.freeze_pieces(batch, pieces, settings.policy, settings.clock())
    return {"cpu": _cpu() - started, "peak_gb": peak_gb()}


def join(home: str) -> Figures:
    """Joins the frozen bodies of the batch into requests, as the client does; reading them is not counted."""
    outbox = _outbox(Path(home))
    ids, spent = outbox.ids_to_send("benchmark"), 0.0
    for start in range(0, len(ids), ROWS_READ):
        bodies = outbox.to_send("benchmark", ids.iloc[start : start + ROWS_READ])["body"]
        started = _cpu()
        for first in range(0, len(bodies), MOST_EVENTS):
            bulk_body(bodies.iloc[first : first + MOST_EVENTS])
        spent += _cpu() - started
    return {"cpu": spent, "peak_gb": peak_gb()}


def send(home: str, url: str, events: str) -> Figures:
    """Sends the batch as the job does."""
    settings = replace(_settings(Path(home), url), events_per_request=int(events))
    started = time.perf_counter()
    report = send_batch(None, _outbox(Path(home)), settings)
    seconds = time.perf_counter() - started
    if report.error:
        raise report.error
    return {"seconds": seconds, "peak_gb": peak_gb()}


def _outbox(home: Path) -> Outbox:
    return Outbox(Warehouse(home / "warehouse.duckdb"), STREAM)


def _settings(home: Path, url: str = "") -> Settings:
    """Settings of a live day whose clock starts at nine on AS_OF."""
    begun, start = time.monotonic(), datetime.combine(AS_OF, time_of_day(9), UTC)
    return Settings(
        loaded=parse_policy(f"{TEXT}sending: {{live: true, max_batch: {10 * SIZE}}}\n"),
        policy_file=home / "dunning.yaml",
        home=home.absolute(),
        clock=lambda: start + timedelta(seconds=time.monotonic() - begun),
        environment={"KLAVIYO_API_KEY": DEFAULT_KEY, "KLAVIYO_URL": url},
    )


def _cpu() -> float:
    """CPU seconds of this process so far, all its threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(what: str, *arguments: str) -> None:
    """One of the functions above; what it returns is printed as JSON."""
    functions: dict[str, Callable[..., Any]] = {"freeze": freeze, "join": join, "send": send, "sandbox": sandbox}
    figures = functions[what](*arguments)
    if figures is not None:
        print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
