"""Scratch warehouses: what was stored, whole or of some customers, in a file that is thrown away.

Days are derived on them by the derivations of the daily job, and nothing that is stored changes. The lock on the real
warehouse is held for the copying only.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from dunning_pipeline import sql, tables
from dunning_pipeline.assets.decisions import DECISIONS_DERIVATION
from dunning_pipeline.assets.derived import Derivation, derive_and_replace
from dunning_pipeline.assets.receivables import CARRYING_INVOICES_DERIVATION, OPEN_INVOICES_DERIVATION
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.private_files import make_private_folder, private_umask
from dunning_pipeline.recording import known_customer
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.sql import literal
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    BATCH_DECISIONS,
    BATCHES,
    CHANGES,
    CONTACTS,
    CUSTOMER_KEYS,
    CUSTOMER_LINKS,
    CUSTOMERS,
    INVOICE_KEYS,
    INVOICES,
    ORDERS,
    PAUSES,
    PAYMENTS,
    POLICIES,
    PROMISES,
    REMINDERS,
    RETRIES,
    SENT_HISTORY,
    Table,
)

RUN_ID = "scratch"
"""Stands for the run where derived rows name theirs."""

WHAT_IS_OWED = (OPEN_INVOICES_DERIVATION, CARRYING_INVOICES_DERIVATION)
DECISIONS = (DECISIONS_DERIVATION,)
EVERYTHING = (*WHAT_IS_OWED, *DECISIONS)


def derive(scratch: Warehouse, policy: Policy, days: Days, derivations: Iterable[Derivation] = EVERYTHING) -> None:
    """Derives some days into the scratch warehouse, as the daily job does: what was owed, what carried, decisions."""
    for derivation in derivations:
        derive_and_replace(derivation, scratch, policy, days, RUN_ID)


@contextmanager
def scratch_copy(settings: Settings) -> Iterator[Warehouse]:
    """A warehouse with the same content, gone at the end."""
    warehouse = Warehouse(settings.warehouse_path, memory_limit=settings.memory_limit)
    with _scratch_file(settings) as copy:
        with warehouse.transaction() as connection:
            connection.execute("checkpoint")
            shutil.copyfile(warehouse.path, copy)
        yield Warehouse(copy, memory_limit=settings.memory_limit)


@contextmanager
def scratch_of_customer(settings: Settings, customer_id: str) -> Iterator[Warehouse]:
    """A warehouse with everything that can matter to one customer, gone at the end.

    Raises:
        DunningError: nobody has this id; the sentence names similar ones.
    """
    with _scratch_file(settings) as copy:
        with Warehouse(settings.warehouse_path, memory_limit=settings.memory_limit).transaction() as connection:
            known_customer(connection, customer_id)
            _copy_customers(connection, copy, [customer_id], _OF_CUSTOMERS)
        yield Warehouse(copy, memory_limit=settings.memory_limit)


@contextmanager
def scratch_to_decide(settings: Settings, customer_ids: Sequence[str]) -> Iterator[Warehouse]:
    """A warehouse with everything that deciding some customers asks for, gone at the end.

    Of what was decided and sent before, only contacts and rejections are in it.
    """
    with _scratch_file(settings) as copy:
        with Warehouse(settings.warehouse_path, memory_limit=settings.memory_limit).transaction() as connection:
            _copy_customers(connection, copy, customer_ids, _TO_DECIDE)
        yield Warehouse(copy, memory_limit=settings.memory_limit)


@contextmanager
def _scratch_file(settings: Settings) -> Iterator[Path]:
    """A path in a folder that only this user can read. What a killed process leaves goes with other stale staging."""
    staging = make_private_folder(settings.home / "staging")
    with private_umask(), TemporaryDirectory(prefix="scratch-", dir=staging) as folder:
        yield Path(folder) / settings.warehouse_path.name


_OWN = "customer_key in (select customer_key from own_customers)"
_ABOUT = f"({_OWN} or invoice_key in (select invoice_key from own_invoices))"
_REMINDED = """(
    customer_id in (select customer_id from own_customers)
    or carrying_invoice_id in (select invoice_id from own_invoices)
)"""
_SENT = f"""{_REMINDED} or stream = 'order' and (
    order_id in (select order_id from near_orders) or customer_id in (select customer_id from own_buyers)
)"""
_LINKED = " union all ".join(
    f"select customer_id from {near}" for near in ("own_buyers", "near_orders", "near_customers")
)
_REJECTED = "reminder_id in (select reminder_id from scratch.dunning.sent_history where outcome = 'rejected')"
_REFERRING = (PAYMENTS, PAUSES, PROMISES, ASSIGNMENTS, CONTACTS)
_REFERRED_TO = " union all ".join(f"select customer_key, invoice_key from scratch.{t.qualified}" for t in _REFERRING)

_OF_CUSTOMERS: dict[Table, str] = {
    CUSTOMERS: "customer_key in (select customer_key from near_customers)",
    CUSTOMER_LINKS: f"customer_id in ({_LINKED})",
    ORDERS: "order_id in (select order_id from near_orders)",
    **dict.fromkeys(_REFERRING, _ABOUT),
    PAUSES: f"{_ABOUT} or scope = 'organisation'",
    SENT_HISTORY: _SENT,
    REMINDERS: _REMINDED,
    **dict.fromkeys((tables.DECISIONS, BATCH_DECISIONS), _OWN),
    **dict.fromkeys((BATCHES, POLICIES, RETRIES, CHANGES), "true"),
    # These look at what the scratch warehouse has got from the tables above.
    INVOICES: f"{_OWN} or invoice_key in (select invoice_key from ({_REFERRED_TO}))",
    INVOICE_KEYS: f"""invoice_key in (
        select invoice_key from ({_REFERRED_TO}) union all select invoice_key from scratch.source.invoices
    ) or invoice_id in (select carrying_invoice_id from scratch.dunning.sent_history)""",
    CUSTOMER_KEYS: f"""{_OWN} or customer_key in (
        select customer_key from ({_REFERRED_TO}) union all select customer_key from scratch.source.invoices
    ) or customer_id in (select customer_id from scratch.dunning.sent_history)""",
}
"""Which rows of a table can matter to customers; of tables that are not named none.

Where rows of others refer to theirs, or theirs to those of others, these are in it too, so that the customers' days are
derived as they are from the whole. What is derived of the others means nothing.
"""

_TO_DECIDE = {
    table: {REMINDERS: _REJECTED}.get(table, rows)
    for table, rows in _OF_CUSTOMERS.items()
    if table not in (tables.DECISIONS, BATCH_DECISIONS, POLICIES)
}


def _copy_customers(
    connection: duckdb.DuckDBPyConnection, copy: Path, customer_ids: Sequence[str], wanted: Mapping[Table, str]
) -> None:
    connection.register("wanted_customers", pa.table({"customer_id": pa.array(customer_ids, pa.string())}))
    wanted_keys = f"from {CUSTOMER_KEYS.qualified} semi join wanted_customers using (customer_id)"
    connection.execute(f"create temp table own_customers as {wanted_keys}")
    own = f"select invoice_id, invoice_key from {INVOICES.qualified} where {_OWN}"
    connection.execute(f"create temp table own_invoices as {own}")
    connection.execute(sql.load("near_persons"))
    connection.execute(f"attach {literal(copy)} as scratch")
    connection.execute("create schema scratch.source; create schema scratch.dunning")
    # All of them, so that the new file needs no migration, which takes longer than the copying.
    for table in (*wanted, *(other for other in tables.ALL_TABLES if other not in wanted)):
        rows = wanted.get(table, "false")
        connection.execute(f"create table scratch.{table.qualified} as from {table.qualified} where {rows}")
    connection.execute("create table scratch.dunning.schema_version as from dunning.schema_version")
