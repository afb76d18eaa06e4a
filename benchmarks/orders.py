"""From an edit in the shop to its event at Klaviyo, with `dagster dev` really running, and what idle ticks cost.

Shop and account are the sandbox's, in this process. So that the daemon has something else to do as well, runs of
`daily_dunning` that pull and decide a whole ledger can be kept going while orders are edited. What a tick over many
edited orders takes is measured by edited_orders.py.
"""

import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np

from benchmarks.daemon import FINISHED, Daemon, DidNotHappen, dagster_dev
from benchmarks.ledger import write_ledger
from benchmarks.table import Line
from dunning_pipeline.runs import DAILY_JOB, ORDER_JOB, PARTITION_TAG
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo import running as running_klaviyo
from dunning_pipeline.sandbox.shopify import DEFAULT_TOKEN, ShopifyShop
from dunning_pipeline.sandbox.shopify import running as running_shop

SENSOR = "order_edits_sensor"
EDITS, SECONDS_BETWEEN, IDLE_TICKS = 20, 10.0, 6
MOST_MEDIAN, MOST_SECONDS, MOST_HELD = 30.0, 60.0, 5.0
PATIENCE_SECONDS = 300.0
HOLDS_LISTED = 4

POLICY = """\
organisation: {{time_zone: Europe/Paris, base_currency: EUR, first_day: "2024-01-01"}}
workflows: [{{name: standard, default: true, actions: [{{name: reminder_1, day: 1}}, {{name: reminder_2, day: 8}}]}}]
order_reminders: {{start_at: "2024-01-01T00:00:00Z"}}
sending: {{live: true, max_batch: 10000000}}
sources:
  storefront:
    kind: shopify
    shop: "${{SHOPIFY_SHOP}}"
    token: "${{SHOPIFY_TOKEN}}"
    edited_by_apps: {{customer_portal: [Cleverific]}}
{ledger}"""

LEDGER = """\
  ledger:
    kind: files
    tables: {customers: customers.parquet, invoices: invoices.parquet, payments: payments.parquet}
"""

_EXPORTS = {
    "customers": "select * exclude (source, customer_key) from source.customers",
    "invoices": "select * exclude (total_minor, missing_since, source, customer_key, invoice_key),"
    " (total_minor / 100)::decimal(18, 2) as total from source.invoices",
    "payments": "select * exclude (amount_minor, source, customer_key, invoice_key),"
    " (amount_minor / 100)::decimal(18, 2) as amount from source.payments",
}
"""The ledger as a billing system would export it."""


@dataclass
class Trial:
    """What came of the edits: seconds from each to its event, those without an event, and what was there meanwhile."""

    seconds: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    doubled: int = 0
    runs: int = 0
    daily_runs: int = 0
    during_daily: int = 0
    idle_ticks: int = 0
    idle_requests: float = 0.0
    idle_runs: int = 0
    idle_cpu: float = 0.0
    holds: dict[str, float] = field(default_factory=dict)


def measure(edits: int = EDITS, invoices: int = 0, seed: int = 1) -> list[Line]:
    """Lines about so many edits, with runs over so many invoices beside them (0: none)."""
    return lines(run_trial(edits, invoices, seed), invoices)


def run_trial(edits: int, invoices: int, seed: int, idle_ticks: int = IDLE_TICKS) -> Trial:
    """Edits so many orders at seeded moments, while daily runs over so many invoices (0: none) are under way."""
    trial, now = Trial(), datetime.now(UTC)
    shop, account = ShopifyShop(), KlaviyoAccount()
    names = [f"#{number}" for number in range(1001, 1001 + edits)]
    for number, name in enumerate(names):
        shop.place(name, "50.00", email=f"person{number}@shop.dev")
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orders-", ignore_cleanup_errors=True)))
        _write_home(home, invoices)
        environment = {
            "SHOPIFY_SHOP": stack.enter_context(running_shop(shop)),
            "SHOPIFY_TOKEN": DEFAULT_TOKEN,
            "KLAVIYO_API_KEY": DEFAULT_KEY,
            "KLAVIYO_URL": stack.enter_context(running_klaviyo(account)),
        }
        daemon = stack.enter_context(dagster_dev(home, environment))
        daemon.start_sensor(SENSOR)
        daemon.wait_until(lambda: _is_settled(daemon), "the first run about orders has ended", PATIENCE_SECONDS)
        if idle_ticks:
            _watch_idle_ticks(daemon, shop, trial, idle_ticks)
        with _daily_runs(daemon) if invoices else ExitStack():
            made = _edit(shop, names, seed)
            with suppress(DidNotHappen):
                daemon.wait_until(lambda: _arrived(account) >= {*names}, "all events", PATIENCE_SECONDS)
        _compare(trial, account, made, daemon, now)
    return trial


def _write_home(home: Path, invoices: int) -> None:
    (home / "dunning.yaml").write_text(POLICY.format(ledger=LEDGER if invoices else ""), encoding="utf-8")
    if invoices:
        path = home / "ledger.duckdb"
        write_ledger(path, invoices)
        with duckdb.connect(path, read_only=True) as connection:
            for table, query in _EXPORTS.items():
                connection.execute(f"copy ({query}) to '{home / table}.parquet' (format parquet)")
        path.unlink()


def _is_settled(daemon: Daemon) -> bool:
    runs = daemon.runs(ORDER_JOB)
    return bool(runs) and all(run.dagster_run.status in FINISHED for run in runs)


def _watch_idle_ticks(daemon: Daemon, shop: ShopifyShop, trial: Trial, ticks: int) -> None:
    """Counts requests and runs over some ticks at which there is nothing to do."""

    def counted() -> np.ndarray:
        seen = len(daemon.ticks(SENSOR)), len(shop.received), len(daemon.runs(ORDER_JOB)), daemon.cpu_seconds()
        return np.array(seen, dtype=float)

    before = counted()
    daemon.wait_until(lambda: len(daemon.ticks(SENSOR)) >= before[0] + ticks, "idle ticks", PATIENCE_SECONDS, every=1)
    passed, requests, runs, cpu = counted() - before
    trial.idle_ticks, trial.idle_requests = int(passed), requests / passed
    trial.idle_runs, trial.idle_cpu = int(runs), cpu / passed


@contextmanager
def _daily_runs(daemon: Daemon) -> Iterator[None]:
    """Runs of daily_dunning, one after the other, that pull everything again each; the first one is under way."""
    over = threading.Event()
    tags = {PARTITION_TAG: datetime.now(UTC).date().isoformat()}
    everything = {"ops": {f"source__{table}": {"config": {"full": True}} for table in _EXPORTS}}

    def keep_going() -> None:
        while not over.is_set():
            runs = daemon.runs(DAILY_JOB)
            if all(run.dagster_run.status in FINISHED for run in runs):
                daemon.launch(DAILY_JOB, tags, everything)
            over.wait(1)

    thread = threading.Thread(target=keep_going, daemon=True)
    thread.start()
    try:
        daemon.wait_until(lambda: _is_under_way(daemon.runs(DAILY_JOB)), "a daily run has begun", PATIENCE_SECONDS)
        yield
    finally:
        over.set()
        thread.join()


def _is_under_way(runs: Sequence[dg.RunRecord]) -> bool:
    return any(run.dagster_run.status is dg.DagsterRunStatus.STARTED for run in runs)


def _edit(shop: ShopifyShop, names: Sequence[str], seed: int) -> dict[str, datetime]:
    """Edits each order at a random moment of the next minutes; returns when."""
    chance, began = random.Random(seed), time.monotonic()
    moments = sorted(chance.uniform(0, SECONDS_BETWEEN * len(names)) for _ in names)
    made = {}
    for name, moment in zip(names, moments, strict=True):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        made[name] = datetime.now(UTC)
        shop.add_item(name)
    return made


def _arrived(account: KlaviyoAccount) -> set[str]:
    return {str(event.properties["order_name"]) for event in account.events}


def _compare(trial: Trial, account: KlaviyoAccount, made: dict[str, datetime], daemon: Daemon, since: datetime) -> None:
    events = {str(event.properties["order_name"]): event.received_at for event in reversed(account.events)}
    trial.seconds = [(events[name] - at).total_seconds() for name, at in made.items() if name in events]
    trial.missed = [name for name in made if name not in events]
    trial.doubled = len(account.events) - len(events)
    trial.runs = len(daemon.runs(ORDER_JOB))
    daily = daemon.runs(DAILY_JOB)
    trial.daily_runs = len(daily)
    trial.during_daily = sum(_falls_into(at, daily) for at in made.values())
    trial.holds = daemon.longest_holds()


def _falls_into(at: datetime, runs: Sequence[dg.RunRecord]) -> bool:
    """Whether a run was under way at a moment."""
    moment = at.timestamp()
    return any(run.start_time and run.start_time <= moment <= (run.end_time or moment) for run in runs)


def lines(trial: Trial, invoices: int) -> list[Line]:
    """What the trial came to, each figure beside its bound."""
    seconds = np.array(trial.seconds)
    size = f"{len(seconds) + len(trial.missed)}"
    beside = f", {trial.during_daily} of them during runs over {invoices:,} invoices" if invoices else ""
    told = f"{len(trial.missed)} missed, {trial.doubled} doubled"
    found = [
        Line(size, f"edits, each to its event{beside}: least", seconds.min(), ratio=f"{trial.runs} runs"),
        Line(size, "median", float(np.median(seconds)), bound=f"at most {MOST_MEDIAN:g} s"),
        Line(size, "95 % of them within", float(np.quantile(seconds, 0.95))),
        Line(size, "most", seconds.max(), ratio=told, bound=f"at most {MOST_SECONDS:g} s; none missed, none doubled"),
    ]
    for step, held in sorted(trial.holds.items(), key=lambda item: -item[1])[:HOLDS_LISTED]:
        found.append(Line("", f"longest hold of the lock by {step}", held, bound=f"at most {MOST_HELD:g} s"))
    if trial.idle_ticks:
        counted = f"{trial.idle_requests:g} requests a tick, {trial.idle_runs} runs"
        what = "idle ticks; CPU of all of dagster dev from one to the next"
        found.append(
            Line(f"{trial.idle_ticks}", what, ratio=counted, bound="1 request, no run", cpu_seconds=trial.idle_cpu)
        )
    return found
