"""The daily decision, from DuckDB tables to written decisions, beside plain DuckDB SQL for the carrying invoice alone.

The two do not do the same: the SQL picks the carrying invoice (RULES 2.1) and nothing else. It stands there as a
measure of what the database needs for the heart of the matter. Both find the same carrying invoices; that is
checked before a figure is printed.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.ledger import AS_OF
from dunning_pipeline.assets.decisions import DECISIONS_DERIVATION
from dunning_pipeline.assets.derived import Derivation, derive_and_replace
from dunning_pipeline.assets.receivables import CARRYING_INVOICES_DERIVATION, OPEN_INVOICES_DERIVATION
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy, parse_policy
from dunning_pipeline.resources.warehouse import Warehouse

POLICY = """
organisation: {time_zone: Europe/Paris, base_currency: EUR}
sources: {benchmark: {kind: files, tables: {customers: customers.csv}}}
workflows:
  - name: standard
    default: true
    minimum_contact_delay: 5
    actions:
      - {name: almost_due, day: -3}
      - {name: reminder_1, day: 1}
      - {name: reminder_2, day: 8}
      - {name: final_notice, day: 21}
"""

CARRYING_SQL = """
with paid as (
    select invoice_id, sum(amount_minor) as paid_minor
    from source.payments
    where paid_on <= $as_of and recorded_on <= $as_of
    group by invoice_id
)
select i.customer_id, i.invoice_id
from source.invoices as i
left join paid using (invoice_id)
where i.recorded_on <= $as_of and i.total_minor - coalesce(paid_minor, 0) > 0
qualify row_number() over (partition by i.customer_id order by i.due_on, i.total_minor desc, i.invoice_id) = 1
"""

DERIVATIONS: tuple[Derivation, ...] = (OPEN_INVOICES_DERIVATION, CARRYING_INVOICES_DERIVATION, DECISIONS_DERIVATION)


def decide(warehouse: Warehouse, policy: Policy) -> None:
    """The three derived assets of a day, read, decided, checked and written as their jobs do."""
    for derivation in DERIVATIONS:
        derive_and_replace(derivation, warehouse, policy, Days(AS_OF, AS_OF), run_id="benchmark")


def carrying_by_sql(warehouse: Warehouse) -> pd.DataFrame:
    """The carrying invoices by plain SQL."""
    return warehouse.fetch(CARRYING_SQL, {"as_of": AS_OF})


def measure(path: Path, runs: int) -> dict[str, float]:
    """Medians of interleaved runs in seconds, and this process's peak memory in GB."""
    warehouse, policy = Warehouse(path), parse_policy(POLICY)
    decide(warehouse, policy)
    _compare(warehouse)
    seconds: dict[str, list[float]] = {"decision": [], "sql_carrying_only": []}
    for _ in range(runs):
        seconds["decision"].append(_timed(lambda: decide(warehouse, policy)))
        seconds["sql_carrying_only"].append(_timed(lambda: carrying_by_sql(warehouse)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {**{name: statistics.median(values) for name, values in seconds.items()}, "peak_gb": peak}


def _compare(warehouse: Warehouse) -> None:
    ours = warehouse.fetch(
        "select customer_id, invoice_id from dunning.carrying_invoices where as_of = $d", {"d": AS_OF}
    )
    theirs = carrying_by_sql(warehouse)
    order = ["customer_id", "invoice_id"]
    pd.testing.assert_frame_equal(
        ours.sort_values(order, ignore_index=True), theirs.sort_values(order, ignore_index=True)
    )


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def in_own_process(path: Path, runs: int) -> dict[str, float]:
    """`measure` in a fresh process, so that peak memory is that of the decision alone."""
    command = [sys.executable, "-m", "benchmarks.daily_decision", str(path), str(runs)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(printed))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
