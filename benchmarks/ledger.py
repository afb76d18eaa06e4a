"""A seeded ledger in a warehouse file: a tenth as many customers as invoices, Zipf-like counts, lognormal amounts."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dunning_pipeline.resources.warehouse import Warehouse, append
from dunning_pipeline.tables import CUSTOMER_KEYS, CUSTOMERS, INVOICE_KEYS, INVOICES, PAYMENTS, Table

AS_OF = date(2026, 11, 20)
DAYS_BACK = 730
SHARE_OPEN = 0.10


def write_ledger(path: Path, invoices: int, seed: int = 1) -> Warehouse:
    """A warehouse with `invoices` invoices in EUR, of which about a tenth are open on AS_OF."""
    warehouse = Warehouse(path)
    random = np.random.default_rng(seed)
    customers = invoices // 10
    frames = {
        CUSTOMERS: _customers(customers),
        CUSTOMER_KEYS: _customers(customers)[["customer_id", "customer_key"]],
        INVOICES: (ledger := _invoices(invoices, customers, random)),
        INVOICE_KEYS: ledger[["invoice_id", "invoice_key"]],
        PAYMENTS: _payments(ledger, random),
    }
    with warehouse.transaction() as connection:
        for table, frame in frames.items():
            append(connection, table, _rows(table, frame))
    return warehouse


def _rows(table: Table, frame: pd.DataFrame) -> pa.Table:
    schema = pa.schema([field for field in table.arrow_schema if field.name in frame])
    return pa.Table.from_pandas(frame, schema, preserve_index=False)


def _ids(prefix: str, keys: np.ndarray) -> pd.Series:
    return prefix + pd.Series(keys).astype("str").str.zfill(9)


def _customers(count: int) -> pd.DataFrame:
    keys = np.arange(1, count + 1)
    ids = _ids("C", keys)
    return pd.DataFrame(
        {
            "customer_id": ids,
            "customer_key": keys,
            "name": "Customer " + ids,
            "email": "billing@" + ids.str.lower() + ".test",
            "source": "benchmark",
        }
    )


def _invoices(count: int, customers: int, random: np.random.Generator) -> pd.DataFrame:
    keys = np.arange(1, count + 1)
    weights = 1 / np.arange(1, customers + 1) ** 0.5
    owner = random.choice(customers, count, p=weights / weights.sum()) + 1
    issued = np.datetime64(AS_OF) - random.integers(0, DAYS_BACK, count)
    return pd.DataFrame(
        {
            "invoice_id": _ids("I", keys),
            "invoice_key": keys,
            "customer_id": _ids("C", owner),
            "customer_key": owner,
            "issued_on": issued,
            "recorded_on": issued,
            "due_on": issued + 30,
            "currency": "EUR",
            "total_minor": np.maximum(random.lognormal(9.5, 1.2, count).astype("int64"), 100),
            "status": "open",
            "source": "benchmark",
        }
    )


def _payments(invoices: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    paid = invoices[random.random(len(invoices)) >= SHARE_OPEN]
    late = random.integers(-10, 25, len(paid))
    paid_on = np.minimum(paid["due_on"].to_numpy().astype("datetime64[D]") + late, np.datetime64(AS_OF))
    part = random.random(len(paid)) < 0.01
    return pd.DataFrame(
        {
            "payment_id": "P" + paid["invoice_id"],
            "customer_id": paid["customer_id"],
            "customer_key": paid["customer_key"],
            "invoice_id": paid["invoice_id"],
            "invoice_key": paid["invoice_key"],
            "kind": "payment",
            "currency": "EUR",
            "amount_minor": np.where(part, paid["total_minor"] // 2, paid["total_minor"]),
            "paid_on": paid_on,
            "recorded_on": paid_on,
            "source": "benchmark",
        }
    )
