"""Reading what can still matter: the rules derive the same from it as from every invoice and payment."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from dunning_pipeline.resources.categories import create_ledger_types
from dunning_pipeline.resources.unsettled import BYTES_PER_ROW, Unsettled
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.owed import balances, owed_invoices
from dunning_pipeline.rules.receivables import NO_KEY
from dunning_pipeline.rules.slices import key_ranges
from dunning_pipeline.rules.standing import Ledger, Window
from dunning_pipeline.tables import INVOICES, PAYMENTS

FIRST = date(2026, 11, 16)
SOURCES = ["billing", "manual"]
CURRENCIES = ("EUR", "JPY", "USD")
CUSTOMERS, BILLED = 12, 60
FROM_NOWHERE = 5
"""Payments may name invoices up to so many keys beyond the ones that exist."""

Frames = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def fill(warehouse: Warehouse, seed: int) -> None:
    """Invoices and payments of few amounts and days, so that many are paid to the cent, some of them twice."""
    random = np.random.default_rng(seed)
    keys = np.sort(random.choice(2 * BILLED, BILLED, replace=False))
    warehouse.append(INVOICES, invoices(keys, random))
    warehouse.append(PAYMENTS, payments(keys, random))


def invoices(keys: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    owner = random.integers(0, CUSTOMERS, len(keys))
    issued = near(random, len(keys))
    empty = dict.fromkeys(INVOICES.column_names)
    columns = {
        "invoice_id": [f"I{key}" for key in keys],
        "customer_id": [f"C{key}" for key in owner],
        "issued_on": issued,
        "recorded_on": issued + pd.to_timedelta(random.integers(0, 3, len(keys)), "D"),
        "currency": random.choice(CURRENCIES, len(keys), p=[0.8, 0.1, 0.1]),
        "total_minor": random.choice([0, 100, 200], len(keys), p=[0.1, 0.5, 0.4]),
        "status": random.choice(["open", "draft"], len(keys), p=[0.9, 0.1]),
        "source": random.choice(["billing", "gone"], len(keys), p=[0.9, 0.1]),
        "customer_key": owner,
        "invoice_key": keys,
    }
    return pd.DataFrame({**empty, **columns})


def payments(keys: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    count = 2 * BILLED
    named = random.choice([*keys, *range(2 * BILLED, 2 * BILLED + FROM_NOWHERE)], count)
    applied = random.random(count) < 0.9
    owner = random.integers(0, CUSTOMERS, count)
    paid = near(random, count)
    empty = dict.fromkeys(PAYMENTS.column_names)
    columns = {
        "payment_id": [f"P{number}" for number in range(count)],
        "customer_id": [f"C{key}" for key in owner],
        "kind": "payment",
        "currency": random.choice(CURRENCIES, count, p=[0.8, 0.1, 0.1]),
        "amount_minor": random.choice([100, 200, -100], count, p=[0.6, 0.2, 0.2]),
        "paid_on": paid,
        "recorded_on": paid + pd.to_timedelta(random.integers(0, 3, count), "D"),
        "source": "gone",
        "customer_key": owner,
        "invoice_key": pd.Series(named, dtype="Int64").where(applied),
    }
    return pd.DataFrame({**empty, **columns})


def near(random: np.random.Generator, count: int) -> pd.Series:
    """Days from three weeks before FIRST to a week after it."""
    return pd.Series(pd.Timestamp(FIRST) + pd.to_timedelta(random.integers(-21, 8, count), "D"))


EVERY_INVOICE = """
    select * replace (currency::currency_code as currency, status::invoice_status as status)
    from source.invoices where recorded_on <= $last and list_contains($sources, source)
"""
EVERY_PAYMENT = """
    select p.* replace (
        p.currency::currency_code as currency,
        case when i.invoice_key is null then -1 else i.invoice_key end as invoice_key
    )
    from source.payments as p left join source.invoices as i on i.invoice_key = p.invoice_key
"""
CREDITS_BEFORE_THE_INVOICE = """
    from (
        select p.* replace (p.currency::currency_code as currency, -1 as invoice_key), i.recorded_on as applied_on
        from source.payments as p join source.invoices as i on i.invoice_key = p.invoice_key
    )
    where greatest(paid_on, recorded_on) < applied_on
"""
EVERY_CREDIT = f"""
    select * exclude (applied_on) {CREDITS_BEFORE_THE_INVOICE}
    union all by name
    select * exclude (applied_on) replace (
        -amount_minor as amount_minor, applied_on as paid_on, applied_on as recorded_on
    ) {CREDITS_BEFORE_THE_INVOICE}
"""


def everything(connection: duckdb.DuckDBPyConnection, last: date) -> Frames:
    every_invoice = fetch(connection, EVERY_INVOICE, {"last": last, "sources": SOURCES})
    every_payment = f"{EVERY_PAYMENT} union all by name ({EVERY_CREDIT})"
    return every_invoice, fetch(connection, every_payment).astype({"invoice_key": "int64"})


NOTHING = Ledger(
    *(pd.DataFrame() for _ in range(2)),
    pauses=pd.DataFrame(
        {name: [] for name in ("scope", "customer_key", "invoice_key")}
        | {name: pd.Series(dtype="datetime64[s]") for name in ("paused_from", "paused_until", "recorded_on")}
    ),
    promises=pd.DataFrame(
        {name: [] for name in ("promise_id", "customer_key", "invoice_key", "pauses")}
        | {name: pd.Series(dtype="datetime64[s]") for name in ("promised_on", "pay_by", "withdrawn_on", "recorded_on")}
    ),
)


def derived(frames: Frames, last: date) -> tuple[list[object], list[object]]:
    """What is owed and what the balances are on each day."""
    ledger = replace(NOTHING, invoices=frames[0], payments=frames[1])
    owing = owed_invoices(ledger, {"EUR": 50}, Window.of(FIRST, last))
    nets = balances(owing, ledger.payments, {})
    rows = owing.invoices[["day", "customer_key", "invoice_key", "open_minor", "unpaid"]]
    return sorted(rows.itertuples(index=False)), sorted(nets.astype({"currency": "str"}).itertuples(index=False))


@pytest.mark.parametrize("seed", range(8))
def test_rules_derive_the_same_from_what_is_unsettled_as_from_everything(warehouse: Warehouse, seed: int):
    fill(warehouse, seed)
    with warehouse.transaction() as connection:
        create_ledger_types(connection)
        for last in (FIRST + timedelta(days=after) for after in (0, 1, 8)):
            every = everything(connection, last)
            read = Unsettled.of(connection, FIRST, last, SOURCES).fetch(connection)
            assert derived(read, last) == derived(every, last)


@pytest.mark.parametrize("seed", range(2))
def test_parts_of_the_customers_add_up_to_all_of_them(warehouse: Warehouse, seed: int):
    fill(warehouse, seed)
    last = FIRST + timedelta(days=3)
    with warehouse.transaction() as connection:
        create_ledger_types(connection)
        whole = Unsettled.of(connection, FIRST, last, SOURCES)
        parts = [part.fetch(connection) for part in whole.split(connection, 3)]
        read = whole.fetch(connection)
    assert all((frames[0]["customer_key"] % 3 == number).all() for number, frames in enumerate(parts))
    of_parts = [derived(part, last) for part in parts]
    for number, whole_rows in enumerate(derived(read, last)):
        assert sorted(row for part in of_parts for row in part[number]) == whole_rows


@pytest.mark.parametrize("seed", range(4))
def test_ranges_of_customers_owe_what_they_owe_among_all(warehouse: Warehouse, seed: int):
    """Whoever paid an invoice, it is paid: others than its customer did for many."""
    fill(warehouse, seed)
    last = FIRST + timedelta(days=8)
    with warehouse.transaction() as connection:
        create_ledger_types(connection)
        read = Unsettled.of(connection, FIRST, last, SOURCES).fetch(connection)
    ledger = replace(NOTHING, invoices=read[0], payments=read[1])
    ranges = [ledger.within(keys) for keys in key_ranges(read[0]["customer_key"].to_numpy(), rows=4)]
    assert len(ranges) > 3
    of_ranges = [derived((some.invoices, some.payments), last) for some in ranges]
    for number, whole_rows in enumerate(derived(read, last)):
        assert sorted(row for rows in of_ranges for row in rows[number]) == whole_rows


def test_invoices_that_stay_settled_are_not_read(warehouse: Warehouse):
    fill(warehouse, seed=1)
    with warehouse.transaction() as connection:
        create_ledger_types(connection)
        invoices, payments = Unsettled.of(connection, FIRST, FIRST, SOURCES).fetch(connection)
    owing, _ = derived((invoices, payments), FIRST)
    assert len(owing) < BILLED
    assert payments.groupby("invoice_key").size().drop(NO_KEY, errors="ignore").max() == 1


def test_an_empty_warehouse_has_nothing_unsettled(warehouse: Warehouse):
    with warehouse.transaction() as connection:
        create_ledger_types(connection)
        read = Unsettled.of(connection, FIRST, FIRST, SOURCES)
        for part in [read, *read.split(connection, 2)]:
            assert all(frame.empty and frame["currency"].dtype == CURRENCY for frame in part.fetch(connection))


def test_customers_are_split_where_their_rows_would_not_fit(warehouse: Warehouse):
    fill(warehouse, seed=1)
    with warehouse.transaction() as connection:
        one_day = Unsettled.of(connection, FIRST, FIRST, SOURCES)
        ten_days = Unsettled.of(connection, FIRST, FIRST + timedelta(days=9), SOURCES)
    rows = len(one_day.invoice_key)
    assert one_day.parts_within(None) == 1
    assert [one_day.parts_within(2 * rows * BYTES_PER_ROW // n) for n in (1, 2, 5)] == [1, 2, 5]
    assert ten_days.parts_within(2 * len(ten_days.invoice_key) * BYTES_PER_ROW) == 10
