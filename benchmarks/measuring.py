"""Measures contenders: every run in a process of its own, one contender after the other, round after round.

Such a process imports, decides a small ledger once, so that nothing is counted that happens only once, and then the
ledger in question. What comes out is kept, so that outputs can be compared before a ratio is printed.
"""

import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Contender:
    """Something to measure: `module:function` of the warehouse's path, which gives a frame or None.

    `prepare` is such a function too; what it does is not counted.
    """

    label: str
    function: str
    prepare: str | None = None


@dataclass(frozen=True)
class Figures:
    """What the runs of a contender gave: medians of seconds, highest peak in GB, and where its rows are.

    `cpu_seconds` are of the process and its children, in user and system.
    """

    seconds: float
    peak_gb: float
    rows: Path
    cpu_seconds: float = math.nan

    def frame(self) -> pd.DataFrame:
        """The rows of the last run."""
        return pd.read_parquet(self.rows)


def interleaved(
    contenders: Sequence[Contender], ledger: Path, warm_up: Path | None, runs: int
) -> dict[Contender, Figures]:
    """Figures of contenders that take turns: each runs once a round, the rounds alternating in direction.

    Without a ledger to warm up with, what happens only once is counted, too.
    """
    measured: dict[Contender, list[dict[str, float]]] = {contender: [] for contender in contenders}
    for number in range(runs):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            measured[contender].append(_run(contender, ledger, warm_up))
    return {contender: _figures(contender, ledger, runs_of) for contender, runs_of in measured.items()}


def exponent(small: float, large: float, growth: float) -> float:
    """The power of the size by which a cost grew; 1 is linear."""
    return math.log(large / small) / math.log(growth)


def _run(contender: Contender, ledger: Path, warm_up: Path | None) -> dict[str, float]:
    files = [warm_up or "", ledger, _rows(contender, ledger)]
    command = [
        sys.executable,
        "-m",
        "benchmarks.measuring",
        contender.function,
        contender.prepare or "",
        *map(str, files),
    ]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{contender.function} failed on {ledger}:\n{finished.stderr}")
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def _rows(contender: Contender, ledger: Path) -> Path:
    return ledger.parent / f"{contender.function.partition(':')[2]}.parquet"


def _figures(contender: Contender, ledger: Path, runs: Sequence[Mapping[str, float]]) -> Figures:
    return Figures(
        seconds=statistics.median(run["seconds"] for run in runs),
        peak_gb=max(run["peak_gb"] for run in runs),
        rows=_rows(contender, ledger),
        cpu_seconds=statistics.median(run["cpu_seconds"] for run in runs),
    )


def _function(name: str) -> Callable[[Path], pd.DataFrame | None]:
    module, _, attribute = name.partition(":")
    function: Callable[[Path], pd.DataFrame | None] = getattr(import_module(module), attribute)
    return function


def main(name: str, prepare: str, warm_up: str, ledger: str, rows: str) -> None:
    """One run in this process; prints its seconds, also of the processor, and the peak of the process."""
    function = _function(name)
    if prepare:
        for path in filter(None, (warm_up, ledger)):
            _function(prepare)(Path(path))
    if warm_up:
        function(Path(warm_up))
    started, cpu_started = time.perf_counter(), _cpu_seconds()
    frame = function(Path(ledger))
    seconds, cpu_seconds = time.perf_counter() - started, _cpu_seconds() - cpu_started
    peak = peak_gb()
    if frame is not None:
        frame.to_parquet(rows)
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak}))


def _cpu_seconds() -> float:
    """What this process and its children that are gone took, in user and system."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_gb() -> float:
    """The peak of this process. Linux counts that of its parent in `ru_maxrss`, but not in its status."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peak) / 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main(*sys.argv[1:])
