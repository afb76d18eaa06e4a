"""Runs the rules on a `reference.Ledger`, so that both can be asked the same question and compared.

The frames are what the pipeline reads from its warehouse: integer keys, Arrow's dates, defaults filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import holidays
import pandas as pd
import pyarrow as pa
import reference
import yaml
from reference import (
    MINOR_DIGITS,
    Action,
    Assignment,
    Contact,
    Customer,
    Decision,
    Invoice,
    Ledger,
    Pause,
    Payment,
    Promise,
    Rules,
    Workflow,
)

from dunning_pipeline.policy import WEEKDAYS, Policy, parse_policy
from dunning_pipeline.rules.carrying import carrying_invoices
from dunning_pipeline.rules.decisions import Facts, decide
from dunning_pipeline.rules.holds import mark_holds
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.receivables import (
    NO_KEY,
    balances,
    chaseable_invoices,
    open_invoices,
    owed_invoices,
    unapplied_payments,
)

DUE = date(2021, 10, 10)
MONDAY = date(2021, 10, 11)
"""The day after DUE, on which worked examples are decided unless they say otherwise."""

EVERY_DAY = frozenset(range(7))
WEEKDAYS_ONLY = frozenset(range(5))
CUSTOMER = Customer("c1", email="accounts@harbour-bakery.test")

YEARS = range(2015, 2036)
"""Of which holidays are looked up."""

COUNTRIES = ("AU", "BG", "CH", "DE", "FR", "GB", "GH", "JP", "KR", "US")
"""Whose holidays the reference knows when customers have the holidays of their country."""

STATUSES = pd.CategoricalDtype(["draft", "open", "void", "written_off"])


@dataclass(frozen=True)
class Frames:
    """The source tables as the rules read them; `invoice_texts` has the ids and numbers that they do without."""

    customers: pd.DataFrame
    invoices: pd.DataFrame
    invoice_texts: pd.DataFrame
    payments: pd.DataFrame
    pauses: pd.DataFrame
    promises: pd.DataFrame
    assignments: pd.DataFrame
    contacts: pd.DataFrame
    rejections: pd.DataFrame


@dataclass(frozen=True)
class Derived:
    """What the rules make of one day."""

    open_invoices: pd.DataFrame
    balances: pd.DataFrame
    carrying: pd.DataFrame
    decisions: pd.DataFrame


class OpenRow(NamedTuple):
    """A row of `open_invoices` in plain values, from the rules or from the reference."""

    customer_id: str
    invoice_id: str
    due_on: date
    currency: str
    total_minor: int
    open_minor: int
    days_overdue: int
    paused: bool
    paused_by: str | None
    broken_promise: bool


def policy_text(rules: Rules) -> str:
    """The policy file that sets what `rules` sets."""
    return yaml.safe_dump(
        {
            "organisation": {
                "time_zone": "Europe/Paris",
                "base_currency": rules.base_currency,
                "exchange_rates": {code: str(rate) for code, rate in rules.exchange_rates.items()},
                "paused": rules.organisation_paused,
            },
            "calendar": {
                "working_days": [WEEKDAYS[number] for number in sorted(rules.working_days)],
                "holidays": {
                    "country": rules.holiday_country,
                    "subdivision": rules.holiday_subdivision,
                    "by_customer_country": rules.customer_holidays is not None,
                },
            },
            "receivables": {"tolerance": _major(rules.tolerance), "minimum_amount": _major(rules.minimum_amount)},
            "workflows": [
                {
                    "name": workflow.name,
                    "default": workflow.name == rules.default,
                    "carried_by": workflow.carried_by,
                    "anchor": workflow.anchor,
                    "logic": workflow.logic,
                    "minimum_contact_delay": workflow.minimum_contact_delay,
                    "actions": [{"name": a.name, "day": a.day, "was": list(a.was)} for a in workflow.actions],
                    "repeat_last": workflow.repeat_last
                    and dict(zip(("every", "limit"), workflow.repeat_last, strict=True)),
                }
                for workflow in rules.workflows
            ],
            "klaviyo": {"identify_by": list(rules.identify_by)},
        }
    )


def policy_of(rules: Rules) -> Policy:
    return _parsed(policy_text(rules))


_parsed = cache(parse_policy)


def with_holidays(
    rules: Rules, country: str | None, subdivision: str | None = None, *, by_customer_country: bool = False
) -> Rules:
    """The rules with the holidays of the organisation, and of each customer's country if asked for."""
    by_country = {code: holiday_dates(code) for code in COUNTRIES}
    return replace(
        rules,
        holidays=holiday_dates(country, subdivision) if country else frozenset(),
        customer_holidays=by_country if by_customer_country else None,
        holiday_country=country,
        holiday_subdivision=subdivision,
    )


@cache
def holiday_dates(country: str, subdivision: str | None = None) -> frozenset[date]:
    return frozenset(holidays.country_holidays(country, subdiv=subdivision, years=YEARS))


def _major(amounts: dict[str, int]) -> dict[str, str]:
    return {code: str(Decimal(minor).scaleb(-MINOR_DIGITS.get(code, 2))) for code, minor in amounts.items()}


def frames_of(ledger: Ledger) -> Frames:
    """The frames of a ledger; rows that are refused on loading (1.2) are left out."""
    customer_key = _keys(row.customer_id for row in _all_rows(ledger))
    invoice_key = _keys(row.invoice_id for row in [*ledger.invoices, *ledger.payments, *ledger.pauses])
    invoice_key = _keys([*invoice_key, *(row.invoice_id for row in [*ledger.promises, *ledger.assignments])])
    invoice_key = _keys([*invoice_key, *(row.carrying_invoice_id for row in ledger.contacts)])
    invoices = {invoice.invoice_id: invoice for invoice in ledger.invoices}

    def keys(rows: Sequence[object], invoice_column: str = "invoice_id") -> dict[str, list[int]]:
        return {
            "customer_key": [customer_key.get(row.customer_id, NO_KEY) for row in rows],
            "invoice_key": [invoice_key.get(getattr(row, invoice_column), NO_KEY) for row in rows],
        }

    payments = [row for row in ledger.payments if not reference._is_positive_refund(row)]
    payments = [row for row in payments if _currency_fits(row, invoices)]
    known = {customer.customer_id: customer for customer in ledger.customers}
    customers = [known.get(customer_id, Customer(customer_id)) for customer_id in customer_key]
    return Frames(
        customers=_frame(Customer, customers, customer_key=list(customer_key.values())),
        invoices=_money_frame(
            Invoice,
            ledger.invoices,
            **keys(ledger.invoices),
            recorded_on=[row.recorded_on or row.issued_on for row in ledger.invoices],
            status=[row.status or "open" for row in ledger.invoices],
        ).astype({"status": STATUSES}),
        invoice_texts=pd.DataFrame(
            {
                "invoice_key": [invoice_key[row.invoice_id] for row in ledger.invoices],
                "invoice_id": pd.Series([row.invoice_id for row in ledger.invoices], dtype="str"),
                "number": pd.Series([row.number or row.invoice_id for row in ledger.invoices], dtype="str"),
            }
        ).astype({"invoice_key": "int64"}),
        payments=_money_frame(
            Payment,
            payments,
            customer_key=[customer_key[row.customer_id] for row in payments],
            invoice_key=[invoice_key[row.invoice_id] if row.invoice_id in invoices else NO_KEY for row in payments],
            recorded_on=[row.recorded_on or row.paid_on for row in payments],
        ),
        pauses=_frame(
            Pause,
            ledger.pauses,
            **keys(ledger.pauses),
            recorded_on=[row.recorded_on or row.paused_from for row in ledger.pauses],
        ),
        promises=_frame(
            Promise,
            ledger.promises,
            **keys(ledger.promises),
            recorded_on=[row.recorded_on or row.promised_on for row in ledger.promises],
            pauses=[row.pauses is not False for row in ledger.promises],
        ),
        assignments=_frame(
            Assignment,
            ledger.assignments,
            **keys(ledger.assignments),
            recorded_on=[row.recorded_on or row.assigned_from for row in ledger.assignments],
        ),
        contacts=_frame(
            Contact,
            ledger.contacts,
            **keys(ledger.contacts, "carrying_invoice_id"),
            known_on=[row.recorded_on or row.contacted_on for row in ledger.contacts],
        ).rename(columns={"contacted_on": "contact_on"}),
        rejections=pd.DataFrame(
            {name: pd.Series(dtype="str") for name in ("reminder_id", "policy_hash", "email", "phone", "external_id")}
            | {"rejected_on": pd.Series(dtype="datetime64[ms]")}
        ),
    )


def _all_rows(ledger: Ledger) -> Iterable[object]:
    for table in fields(ledger):
        yield from getattr(ledger, table.name)


def _keys(ids: Iterable[str | None]) -> dict[str, int]:
    """Keys in order of first appearance; they differ from places, so that one is not taken for the other."""
    return {known: 11 + 2 * place for place, known in enumerate(dict.fromkeys(i for i in ids if i is not None))}


def _currency_fits(payment: Payment, invoices: dict[str, Invoice]) -> bool:
    invoice = invoices.get(payment.invoice_id)
    return invoice is None or invoice.currency == payment.currency


def _frame(kind: type, rows: Sequence[object], **columns: Sequence[object]) -> pd.DataFrame:
    """A frame of dataclass rows of one kind with `columns` instead of, or in addition to, their own."""
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(kind)} | columns
    typed = {name: pa.array(values, _arrow_type(name)) for name, values in columns.items()}
    return pa.table(typed).to_pandas(date_as_object=False)


def _money_frame(kind: type, rows: Sequence[object], **columns: Sequence[object]) -> pd.DataFrame:
    return _frame(kind, rows, **columns).astype({"currency": CURRENCY})


def _arrow_type(column: str) -> pa.DataType:
    if column.endswith(("_key", "_minor")):
        return pa.int64()
    if column.endswith(("_on", "_from", "_until", "_since")) or column == "pay_by":
        return pa.date32()
    return pa.bool_() if column == "pauses" else pa.string()


def derive(frames: Frames, policy: Policy, as_of: date) -> Derived:
    """Everything that the rules derive for a day, step by step as the pipeline does."""
    owed = owed_invoices(frames.invoices, frames.payments, policy.receivables.tolerance_minor, as_of)
    owed = mark_holds(owed, frames.pauses, frames.promises, as_of)
    unapplied = unapplied_payments(frames.payments, as_of)
    owing = balances(owed, unapplied, policy.receivables.minimum_amount_minor)
    texts = frames.invoice_texts
    names = frames.customers[["customer_key", "customer_id"]]
    unpaid = open_invoices(owed, as_of).drop(columns=["invoice_id", "customer_id", "number"], errors="ignore")
    unpaid = unpaid.merge(texts, on="invoice_key", validate="1:1").merge(names, on="customer_key", validate="m:1")
    rates = {**policy.organisation.exchange_rates, policy.organisation.base_currency: Decimal(1)}
    carrying = carrying_invoices(chaseable_invoices(unpaid, owing), rates)
    facts = Facts(
        open_invoices=unpaid,
        balances=owing,
        carrying=carrying,
        customers=frames.customers[frames.customers["customer_key"].isin(owing["customer_key"])],
        assignments=frames.assignments,
        pauses=frames.pauses,
        contacts=frames.contacts,
        rejections=frames.rejections,
    )
    return Derived(unpaid, owing, carrying, decide(facts, policy, as_of))


def run(ledger: Ledger, rules: Rules, as_of: date = MONDAY) -> Derived:
    return derive(frames_of(ledger), policy_of(rules), as_of)


def decisions(derived: Derived) -> list[Decision]:
    """The rows of `dunning.decisions` as the reference words them, by customer id."""
    columns = [f.name for f in fields(Decision)]
    rows = _plain(derived.decisions.assign(reason=derived.decisions["reason"].fillna("remind")), columns)
    return sorted((Decision(*row) for row in rows), key=lambda row: row.customer_id)


def open_rows(derived: Derived) -> list[OpenRow]:
    return sorted(OpenRow(*row) for row in _plain(derived.open_invoices, OpenRow._fields))


def carrying_ids(derived: Derived) -> dict[str, tuple[str, date, str, int, int]]:
    """Invoice id, due date, currency, total and open balance of the carrying invoice by customer."""
    columns = ["customer_id", "invoice_id", "due_on", "currency", "total_minor", "open_minor"]
    rows = _plain(derived.carrying, columns)
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: tuple(row[1:]) for row in rows}


def reference_open_rows(ledger: Ledger, rules: Rules, as_of: date) -> list[OpenRow]:
    return sorted(_open_row(row) for row in reference.open_invoices(ledger, rules, as_of))


def reference_carrying_ids(ledger: Ledger, rules: Rules, as_of: date) -> dict[str, tuple[str, date, str, int, int]]:
    rows = map(_open_row, reference.carrying(ledger, rules, as_of).values())
    return {
        row.customer_id: (row.invoice_id, row.due_on, row.currency, row.total_minor, row.open_minor) for row in rows
    }


def _open_row(row: reference.OpenInvoice) -> OpenRow:
    invoice = row.invoice
    return OpenRow(
        customer_id=invoice.customer_id,
        invoice_id=invoice.invoice_id,
        due_on=row.due_on,
        currency=invoice.currency,
        total_minor=invoice.total_minor,
        open_minor=row.open_minor,
        days_overdue=row.days_overdue,
        paused=row.paused,
        paused_by=row.paused_by,
        broken_promise=row.broken_promise,
    )


def _plain(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[object, ...]]:
    """Rows of Python values: dates, integers, and None for everything empty."""
    lists = [[_value(value) for value in frame[column].astype(object)] for column in columns]
    return list(zip(*lists, strict=True))


def _value(value: object) -> object:
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        assert value == value.normalize()
        return value.date()
    return value.item() if hasattr(value, "item") else value


def simulate(ledger: Ledger, rules: Rules, first: date, last: date) -> list[Decision]:
    """The reminders sent when every day is decided by the rules and each of them is accepted."""
    ledger = replace(ledger, contacts=list(ledger.contacts))
    sent: list[Decision] = []
    for as_of in reference.days(first, last):
        due = [row for row in decisions(run(ledger, rules, as_of)) if row.decision == "remind"]
        ledger.contacts += [reference.accepted(row) for row in due]
        sent += due
    return sent


def day(offset: int) -> date:
    """The day so many days after DUE."""
    return DUE + timedelta(days=offset)


def rules_of(*action_days: int, delay: int = 5, working_days: frozenset[int] = EVERY_DAY, **columns: object) -> Rules:
    """Rules with one workflow, the default, whose actions are step_1, step_2 … on `action_days`."""
    actions = tuple(Action(f"step_{n}", offset) for n, offset in enumerate(action_days, start=1))
    workflow = Workflow("standard", actions, minimum_contact_delay=delay)
    return replace(Rules((workflow,), default="standard", working_days=working_days), **columns)


def book(*invoices: Invoice, customers: Sequence[Customer] = (CUSTOMER,), **tables: list) -> Ledger:
    """A ledger of customer c1, who can be reached."""
    return Ledger(customers=list(customers), invoices=list(invoices), **tables)


def invoice(invoice_id: str = "A", due: int = 0, total: int = 10_000, **columns: object) -> Invoice:
    """An invoice of c1 over 100.00 EUR, due `due` days after DUE and issued 30 days before that."""
    values = {"customer_id": "c1", "issued_on": day(due - 30), "due_on": day(due), "currency": "EUR"} | columns
    return Invoice(invoice_id, total_minor=total, **values)


def payment(invoice_id: str | None, amount: int, paid: int, **columns: object) -> Payment:
    values = {"customer_id": "c1", "currency": "EUR"} | columns
    payment_id = f"p-{invoice_id}-{paid}-{amount}"
    return Payment(payment_id, invoice_id=invoice_id, amount_minor=amount, paid_on=day(paid), **values)


def decision(ledger: Ledger, rules: Rules | None = None, as_of: date = MONDAY) -> Decision:
    """The decision about the only customer that owes; by default of rules with one action on day 1."""
    (row,) = decisions(run(ledger, rules or rules_of(1), as_of))
    return row


def reason(ledger: Ledger, rules: Rules | None = None, as_of: date = MONDAY) -> str:
    return decision(ledger, rules, as_of).reason


def reasons(ledger: Ledger, rules: Rules | None = None, as_of: date = MONDAY) -> dict[str, str]:
    """The reason of each customer that owes."""
    return {row.customer_id: row.reason for row in decisions(run(ledger, rules or rules_of(1), as_of))}


def sent(ledger: Ledger, rules: Rules, first: int, last: int) -> list[tuple[int, str | None, str | None]]:
    """Day (counted from DUE), carrying invoice and action of the reminders sent between two days."""
    rows = simulate(ledger, rules, day(first), day(last))
    return [((row.as_of - DUE).days, row.carrying_invoice_id, row.action) for row in rows]
