"""Since when an invoice has carried: the unbroken stretch up to a day, found by deriving the days before it.

It cannot begin before the invoice was recorded. The newest days are looked at first, more at a time the further back.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from dunning_pipeline.explaining.facts import Carrying, Facts, OpenInvoice, Record, records
from dunning_pipeline.partitions import Days
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.scratch import WHAT_IS_OWED, derive
from dunning_pipeline.tables import CARRYING_INVOICES, OPEN_INVOICES, Table

FIRST_LOOK = 128
"""Days that are derived at first; each further look takes twice as many."""

Key = tuple[str, str]
"""Level and id of a carrying invoice."""


@dataclass(frozen=True)
class Stretch:
    """The days that an invoice has carried without a break: since when, and why from then on (RULES 2.3).

    `previous` is the invoice that carried before, and `left` how it stood on the first day, if it was unpaid then.
    """

    since: date
    change: str | None
    previous: str | None
    left: OpenInvoice | None


def first_look(last: date) -> Days:
    """The days that must be derived already when `stretches` is asked."""
    return Days(last - timedelta(days=FIRST_LOOK - 1), last)


def stretches(scratch: Warehouse, facts: Facts, wanted: Collection[Key]) -> Mapping[Key, Stretch]:
    """The stretch of each wanted carrying invoice of the day. Derives what it needs into the scratch warehouse."""
    if not wanted:
        return {}
    first = min(_recorded_on(facts, invoice_id) for _, invoice_id in wanted)
    since = dict.fromkeys(wanted, facts.day)
    unbroken = set(wanted)
    for look in _looks(first, facts.day):
        if look.last < facts.day:
            derive(scratch, facts.policy, look, WHAT_IS_OWED)
        carried = _carried(scratch, facts, look)
        for day in reversed(list(look)):
            unbroken &= carried.get(day, {}).keys()
            since |= dict.fromkeys(unbroken, day)
        if not unbroken:
            break
    return {key: _stretch(scratch, facts, key, day) for key, day in since.items()}


def _carried(scratch: Warehouse, facts: Facts, days: Days) -> Mapping[date, Mapping[Key, Carrying]]:
    """What carried on days that are derived."""
    carried: dict[date, dict[Key, Carrying]] = {}
    for row in _of_customer(scratch, facts, Carrying, CARRYING_INVOICES, days):
        carried.setdefault(row.as_of, {})[row.level, row.invoice_id] = row
    return carried


def _stretch(scratch: Warehouse, facts: Facts, key: Key, since: date) -> Stretch:
    days = Days(since, since)
    row = _carried(scratch, facts, days)[since][key]
    unpaid = _of_customer(scratch, facts, OpenInvoice, OPEN_INVOICES, days)
    left = next((one for one in unpaid if one.invoice_id == row.previous_invoice_id), None)
    return Stretch(since, row.carrying_change, row.previous_invoice_id, left)


def _of_customer(scratch: Warehouse, facts: Facts, record: type[Record], table: Table, days: Days) -> Sequence[Record]:
    columns = ", ".join(record.__dataclass_fields__)  # type: ignore[attr-defined]
    query = f"select {columns} from {table.qualified} where customer_key = $key and as_of between $first and $last"
    parameters = {"key": facts.customer.customer_key, "first": days.first, "last": days.last}
    with scratch.transaction() as connection:
        return records(connection, record, query, parameters)


def _recorded_on(facts: Facts, invoice_id: str) -> date:
    invoice = facts.invoice(invoice_id)
    return invoice.recorded_on if invoice else facts.day


def _looks(first: date, last: date) -> Iterator[Days]:
    """The days from `first` to `last` in windows, the newest first."""
    look = first_look(last)
    while look.last >= first:
        yield look
        before = look.first - timedelta(days=1)
        look = Days(max(first, before - timedelta(days=2 * len(look) - 1)), before)
