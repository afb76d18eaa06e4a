"""The first pull of a shop: how long it takes beside what the shop's throttle allows, and how much memory.

The shop is the sandbox's, in a process of its own, so that its memory is not counted. A pull cannot be faster than the
points that it costs come back; how much slower it is, is ours.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measuring import peak_gb
from benchmarks.table import Line
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.pulling_shops import pull_shops
from dunning_pipeline.resources.clock import system_clock
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.shopify import DEFAULT_TOKEN, Bucket, ShopifyShop, running, sample_orders
from dunning_pipeline.settings import Settings

ORDERS = 100_000
RATE = 4_000.0
"""Points a second: more than any plan has, or a measurement would take as long as a first pull does."""
MOST_GB, MOST_OF_ALLOWED = 0.5, 1.1

_POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
sources:
  shop: {kind: shopify, shop: "${SHOP}", token: "${TOKEN}", edited_by_apps: {customer_portal: [Cleverific]}}
"""


def measure(orders: int = ORDERS, rate: float = RATE) -> list[Line]:
    """A line for a first pull of so many orders, a tenth of them edited."""
    with _shop(orders, rate) as (url, points):
        pulled = subprocess.run(
            [sys.executable, "-m", "benchmarks.shops", "pull", url], check=True, capture_output=True, text=True
        )
        allowed = (points() - 2 * rate) / rate
    figures = json.loads(pulled.stdout.splitlines()[-1])
    if figures["orders"] != orders:
        raise RuntimeError(f"{figures['orders']} of {orders} orders were pulled")
    what = f"first pull of orders, {figures['requests']:,} requests; allowed {allowed:.0f} s"
    ratio = f"{figures['seconds'] / allowed:.2f} x"
    bound = f"at most {MOST_OF_ALLOWED:g} times what is allowed, {MOST_GB:g} GB"
    return [Line(f"{orders:,}", what, figures["seconds"], figures["peak_gb"], ratio, bound)]


@contextmanager
def _shop(orders: int, rate: float) -> Iterator[tuple[str, "_Points"]]:
    """A shop in a process of its own: its address, and what tells the points spent, which ends it."""
    command = [sys.executable, "-m", "benchmarks.shops", "serve", str(orders), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), _Points(process)
        finally:
            process.kill()


class _Points:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self) -> float:
        return float(self._process.communicate("stop\n")[0].split()[-1])


def _serve(orders: int, rate: float) -> None:
    now = datetime.now(UTC)
    bucket = Bucket(maximum=2 * rate, restore_rate=rate, available=2 * rate, at=now.timestamp())
    shop = ShopifyShop(sample_orders(orders, now), bucket=bucket)
    with running(shop) as url:
        print(url, flush=True)
        sys.stdin.readline()
    print(shop.points)


def _pull(url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        home = Path(folder)
        policy = parse_policy(_POLICY)
        settings = Settings(policy, home / "dunning.yaml", home, system_clock, {"SHOP": url, "TOKEN": DEFAULT_TOKEN})
        warehouse = Warehouse(settings.warehouse_path)
        started = time.perf_counter()
        pulled = pull_shops(settings, warehouse, "benchmark")
        seconds = time.perf_counter() - started
        figures = {"seconds": seconds, "orders": pulled.orders.written, "requests": pulled.requests}
        print(json.dumps({**figures, "peak_gb": peak_gb(), "longest_hold": warehouse.longest_hold()}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(int(sys.argv[2]), float(sys.argv[3]))
    else:
        _pull(sys.argv[2])
