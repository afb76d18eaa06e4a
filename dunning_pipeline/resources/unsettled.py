"""Reads of a ledger what can still matter: invoices that stay settled throughout a window are left in the file.

Of a grown ledger nine invoices in ten are paid to the cent. So balances are added up first, from two streams of
integers, and only invoices with something open are read with all their columns. The rules derive the same from that
as from every row; what they derive is no matter of this module.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.resources.categories import create_ledger_types
from dunning_pipeline.resources.warehouse import fetch
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.receivables import NO_KEY, invoice_rows

BATCH_ROWS = 1_000_000
BYTES_PER_ROW = 1_200
"""What deciding takes at most per invoice that is not settled and day, measured with all rules and rounded up."""


def parts_within(rows: int, memory_limit: int | None) -> int:
    """In how many parts so many invoices and days are decided, to take up half of a limit (in bytes) at most."""
    return 1 if memory_limit is None else max(1, math.ceil(rows * BYTES_PER_ROW / (memory_limit / 2)))


@dataclass(frozen=True)
class Unsettled:
    """The invoices that can still matter in a window of days, of all customers or of a part of them.

    Attributes:
        first: first day of the window.
        last: its last day.
        invoice_key: invoices with something open on the first day, or with a payment that becomes known later.
        open_minor: what was open on the first day, by invoice key.
        orphan_key: invoices that payments name and that no source ever had.
        part: the customers are those whose key leaves this remainder when divided by `parts`.
        parts: how many parts there are.
    """

    first: date
    last: date
    invoice_key: np.ndarray
    open_minor: np.ndarray
    orphan_key: np.ndarray
    part: int = 0
    parts: int = 1

    @classmethod
    def of(
        cls,
        connection: duckdb.DuckDBPyConnection,
        first: date,
        last: date,
        sources: Sequence[str],
        usual_currency: str = "EUR",
    ) -> "Unsettled":
        """Adds up what is open (RULES 1.2) of the invoices that `sources` have yielded by the last day.

        Args:
            connection: in a transaction of the warehouse.
            first: the first day.
            last: the last day.
            sources: whose invoices count; payments count whatever source they came from.
            usual_currency: what most invoices are in, which are read faster.
        """
        create_ledger_types(connection)
        usual: dict[str, object] = {"usual": usual_currency}
        balances = _Balances.up_to(_highest_key(connection))
        known = {"last": last, "sources": [*sources]}
        for keys, totals, currency in _stream(connection, sql.load("invoice_totals"), usual | known):
            balances.bill(keys, totals, currency)
        for keys, amounts, currency in _stream(connection, sql.load("payments_until"), usual | {"day": first}):
            balances.pay(keys, amounts, currency)
        later = _fetch_money(connection, "payments_between", {"first": first, "last": last})
        balances.keep(later["invoice_key"].to_numpy())
        orphans = _without_invoice(connection, balances.unknown_keys())
        return cls(first, last, balances.unsettled_keys(), balances.open_minor, orphans)

    def parts_within(self, memory_limit: int | None) -> int:
        """In how many parts the customers are decided so that rows take up half of a limit (in bytes) at most."""
        days = (self.last - self.first).days + 1
        return parts_within(len(self.invoice_key) * days, memory_limit)

    def split(self, connection: duckdb.DuckDBPyConnection, parts: int) -> "list[Unsettled]":
        """The same in hash chunks of customers, each of which can be decided by itself.

        A customer's decision depends on no other customer, so that deciding every part is deciding everything.
        """
        if parts == 1:
            return [self]
        connection.register("unsettled", pa.table({"invoice_key": self.invoice_key}))
        owners = fetch(
            connection,
            "select invoice_key, customer_key from source.invoices semi join unsettled using (invoice_key)",
        )
        part = owners["customer_key"].to_numpy() % parts
        keys = owners["invoice_key"].to_numpy()
        return [replace(self, invoice_key=keys[part == number], part=number, parts=parts) for number in range(parts)]

    def fetch(self, connection: duckdb.DuckDBPyConnection) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Invoices and payments, as `rules.owed.owed_invoices` wants them.

        What was paid on an invoice by the first day becomes one payment of that day: within the window nobody can
        tell the difference. A payment that came before its invoice is there twice more: unapplied, and taken back on
        the day on which the invoice became known.
        """
        create_ledger_types(connection)
        connection.register("unsettled", pa.table({"invoice_key": self.invoice_key}))
        connection.register("orphans", pa.table({"invoice_key": self.orphan_key}))
        invoices = _fetch_money(connection, "unsettled_invoices", {})
        paid = invoices["total_minor"] - self.open_minor[invoices["invoice_key"]]
        before = invoices.loc[paid != 0, ["customer_key", "invoice_key", "currency"]].assign(
            amount_minor=paid[paid != 0], paid_on=pd.Timestamp(self.first), recorded_on=pd.Timestamp(self.first)
        )
        chunk = {"first": self.first, "last": self.last, "part": self.part, "parts": self.parts}
        unapplied = _fetch_money(connection, "unapplied_payments", chunk)
        later = _fetch_money(connection, "payments_between", {"first": self.first, "last": self.last})
        payments = pd.concat([before, unapplied, _of_owners(later, invoices)], ignore_index=True)
        return invoices, payments.astype({"customer_key": "int64", "invoice_key": "int64", "amount_minor": "int64"})


@dataclass
class _Balances:
    """Open balances by invoice key, added up batch by batch; `unknown` holds keys that were paid and never billed.

    `currency` holds the code of each invoice's currency; payments in another one are ignored (RULES 1.2).
    """

    open_minor: np.ndarray
    currency: np.ndarray
    matters: np.ndarray
    unknown: list[np.ndarray]

    NO_INVOICE = 255

    @classmethod
    def up_to(cls, highest: int) -> "_Balances":
        """Room for invoice keys from 0 to `highest`."""
        places = highest + 1
        currency = np.full(places, cls.NO_INVOICE, dtype="uint8")
        return cls(np.zeros(places, dtype="int64"), currency, np.zeros(places, dtype=bool), [])

    def bill(self, keys: np.ndarray, totals: np.ndarray, currency: np.ndarray) -> None:
        self.open_minor[keys] = totals
        self.currency[keys] = currency

    def pay(self, keys: np.ndarray, amounts: np.ndarray, currency: np.ndarray) -> None:
        theirs = self._currency_of(keys)
        same = theirs == currency
        if not same.all():
            keys, amounts = keys[same], amounts[same]
        np.subtract.at(self.open_minor, keys, amounts)

    def keep(self, keys: np.ndarray) -> None:
        """Invoices that matter whatever is open of them."""
        self._currency_of(keys)
        self.matters[keys] = True

    def unsettled_keys(self) -> np.ndarray:
        return np.flatnonzero((self.matters | (self.open_minor != 0)) & (self.currency != self.NO_INVOICE))

    def unknown_keys(self) -> np.ndarray:
        return np.unique(np.concatenate([np.empty(0, dtype="int64"), *self.unknown]))

    def _currency_of(self, keys: np.ndarray) -> np.ndarray:
        currency: np.ndarray = self.currency[keys]
        self.unknown.append(keys[currency == self.NO_INVOICE])
        return currency


def _fetch_money(connection: duckdb.DuckDBPyConnection, name: str, parameters: Mapping[str, object]) -> pd.DataFrame:
    """Rows with `currency` as the rules want it, also where there are none."""
    return fetch(connection, sql.load(name), parameters).astype({"currency": CURRENCY})


def _of_owners(payments: pd.DataFrame, invoices: pd.DataFrame) -> pd.DataFrame:
    """Payments as those of the customers whose invoices they paid; somebody else may have paid them."""
    if payments.empty:
        return payments
    row = invoice_rows(invoices, payments)
    owner = np.append(invoices["customer_key"].to_numpy(), NO_KEY)[row]
    return payments.assign(customer_key=np.where(row == NO_KEY, payments["customer_key"], owner))


def _highest_key(connection: duckdb.DuckDBPyConnection) -> int:
    tables = ("source.invoices", "source.payments")
    highest = [connection.execute(f"select max(invoice_key) from {table}").fetchall()[0][0] for table in tables]
    return max((int(key) for key in highest if key is not None), default=NO_KEY)


def _stream(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object]
) -> Iterator[list[np.ndarray]]:
    """The columns of a query batch by batch; `currency` as a number, the same for invoices and payments."""
    code = "case when currency = $usual then 200 else enum_code(currency::currency_code) end::utinyint"
    coded = f"select * replace ({code} as currency) from ({query})"
    for batch in connection.sql(coded, params=dict(parameters)).to_arrow_reader(BATCH_ROWS):
        yield [column.to_numpy(zero_copy_only=False) for column in batch.columns]


def _without_invoice(connection: duckdb.DuckDBPyConnection, keys: np.ndarray) -> np.ndarray:
    """Those of the keys that no row of `source.invoices` has."""
    if not len(keys):
        return keys
    connection.register("unknown", pa.table({"invoice_key": keys}))
    missing = fetch(connection, "select invoice_key from unknown anti join source.invoices using (invoice_key)")
    return missing["invoice_key"].to_numpy()
