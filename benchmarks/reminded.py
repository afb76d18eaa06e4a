"""A warehouse at the moment before a batch is frozen: a day on which everybody is reminded of three invoices."""

from pathlib import Path

from benchmarks import sql
from benchmarks.ledger import AS_OF
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.tables import (
    BALANCES,
    CUSTOMER_KEYS,
    CUSTOMERS,
    DECISIONS,
    INVOICE_KEYS,
    INVOICES,
    OPEN_INVOICES,
)

TABLES = (CUSTOMERS, CUSTOMER_KEYS, INVOICES, INVOICE_KEYS, OPEN_INVOICES, BALANCES, DECISIONS)


def write_reminded(path: Path, customers: int) -> Warehouse:
    """A warehouse with the derived rows of AS_OF for so many customers, who are all reminded."""
    warehouse = Warehouse(path)
    with warehouse.transaction() as connection:
        connection.execute(f"set variable today = date '{AS_OF}'")
        for name, query in (("customers", "reminded_numbers"), ("invoices", "reminded_numbers_of_invoices")):
            connection.execute(f"create temp table {name} as {sql.load(query).format(customers=customers)}")
        for table in TABLES:
            connection.execute(f"insert into {table.qualified} by name {sql.load(f'reminded_{table.name}')}")
    return warehouse
