"""Runs the rules on a `reference.Ledger`, so that both can be asked the same question and compared.

The frames are what the pipeline reads from its warehouse: integer keys, Arrow's dates, defaults filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import holidays
import numpy as np
import pandas as pd
import pyarrow as pa
import reference
import yaml
from reference import (
    MINOR_DIGITS,
    Action,
    Assignment,
    CarryingRow,
    Contact,
    Customer,
    Decision,
    Invoice,
    Ledger,
    OrderEvent,
    Pause,
    Payment,
    Promise,
    Rejection,
    Rules,
    SmartRule,
    Workflow,
)

from dunning_pipeline.policy import WEEKDAYS, Policy, parse_policy
from dunning_pipeline.rules import standing
from dunning_pipeline.rules.assignment import own_workflows
from dunning_pipeline.rules.calendar_queue import replay
from dunning_pipeline.rules.carrying import carrying_changes, carrying_invoices
from dunning_pipeline.rules.decisions import Facts, decide
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.owed import are_paid, balances, chaseable_invoices, open_invoices, owed_invoices
from dunning_pipeline.rules.receivables import NO_KEY, VOID_KEY
from dunning_pipeline.rules.smart_rules import ASKED
from dunning_pipeline.rules.standing import Records, Window

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
    order_events: pd.DataFrame


@dataclass(frozen=True)
class Derived:
    """What the rules make of one day, or of several."""

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
    level: str
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
            "smart_rules": [_rule(rule) for rule in rules.smart_rules],
            "smart_rules_override_manual": rules.smart_rules_override_manual,
            "max_invoice_reminders_per_customer_and_day": rules.max_invoice_reminders,
            "contact_cap": rules.contact_cap and dict(zip(("days", "max_deferral"), rules.contact_cap, strict=True)),
            "klaviyo": {"identify_by": list(rules.identify_by)},
        }
    )


def _rule(rule: SmartRule) -> dict[str, object]:
    when: dict[str, dict[str, object]] = {}
    for column, operator, constant in rule.when:
        when.setdefault(column, {})[operator] = _constant(constant)
    return {"name": rule.name, "for": rule.for_, "when": when, "workflow": rule.workflow}


def _constant(constant: object) -> object:
    if isinstance(constant, tuple):
        return [_constant(one) for one in constant]
    if isinstance(constant, Decimal):
        return float(constant)
    return constant.isoformat() if isinstance(constant, date) else constant


def policy_of(rules: Rules) -> Policy:
    return _parsed(policy_text(rules))


_parsed = cache(parse_policy)


def with_holidays(
    rules: Rules, country: str | None, subdivision: str | None = None, *, by_customer_country: bool = False
) -> Rules:
    """The rules with the holidays of the organisation, and of each customer's country if asked for.

    The organisation's own country has those of its subdivision too.
    """
    by_country = {code: holiday_dates(code, subdivision if code == country else None) for code in COUNTRIES}
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
    """The frames of a ledger; rows that are refused on loading (1.2) are left out.

    A payment that came before its invoice is there as loading has it: unapplied, taken back, and applied (1.4).
    """
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
    payments += [credit for row in payments for credit in _credits_before_the_invoice(row, invoices)]
    known = {customer.customer_id: customer for customer in ledger.customers}
    customers = [known.get(customer_id, Customer(customer_id)) for customer_id in customer_key]
    return Frames(
        customers=_customers(customers, list(customer_key.values())),
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
            customer_key=[customer_key[row.customer_id] for row in ledger.promises],
            invoice_key=[_own_key(row, row.invoice_id, invoices, invoice_key) for row in ledger.promises],
            recorded_on=[row.recorded_on or row.promised_on for row in ledger.promises],
            pauses=[row.pauses is not False for row in ledger.promises],
        ),
        assignments=_frame(
            Assignment,
            ledger.assignments,
            customer_key=[customer_key[row.customer_id] for row in ledger.assignments],
            invoice_key=[_own_key(row, row.invoice_id, invoices, invoice_key) for row in ledger.assignments],
            recorded_on=[row.recorded_on or row.assigned_from for row in ledger.assignments],
        ),
        contacts=_frame(
            Contact,
            ledger.contacts,
            customer_key=[customer_key[row.customer_id] for row in ledger.contacts],
            invoice_key=[_own_key(row, row.carrying_invoice_id, invoices, invoice_key) for row in ledger.contacts],
            known_on=[row.recorded_on or row.contacted_on for row in ledger.contacts],
            level=[None if row.kind == "recorded" else row.level or "customer" for row in ledger.contacts],
        ).rename(columns={"contacted_on": "contact_on"}),
        rejections=_frame(Rejection, ledger.rejections),
        order_events=_frame(
            OrderEvent,
            ledger.order_events,
            customer_key=[customer_key[row.customer_id] for row in ledger.order_events],
        ).rename(columns={"sent_on": "contact_on"}),
    )


def _credits_before_the_invoice(payment: Payment, invoices: dict[str, Invoice]) -> list[Payment]:
    """What a payment is until its invoice becomes known: unapplied, and taken back on that day (1.4)."""
    invoice = invoices.get(payment.invoice_id)
    if invoice is None:
        return []
    credit = replace(payment, invoice_id=None, recorded_on=payment.recorded_on or payment.paid_on)
    applied_on = invoice.recorded_on or invoice.issued_on
    if applied_on <= max(credit.paid_on, credit.recorded_on):
        return []
    return [credit, replace(credit, amount_minor=-credit.amount_minor, paid_on=applied_on, recorded_on=applied_on)]


def _own_key(row: object, invoice_id: str | None, invoices: dict[str, Invoice], invoice_key: dict[str, int]) -> int:
    """The key of an invoice of the row's customer; what names somebody else's invoice, or none there is, is void."""
    if invoice_id is None:
        return NO_KEY
    invoice = invoices.get(invoice_id)
    return invoice_key[invoice_id] if invoice and invoice.customer_id == row.customer_id else VOID_KEY


def _customers(customers: Sequence[Customer], keys: Sequence[int]) -> pd.DataFrame:
    """Customers with each column once more as smart rules ask for it: text, instants as the organisation's day."""
    custom = dict.fromkeys(name for customer in customers for name in customer.custom)
    asked = {
        **{name: [customer.custom.get(name) for customer in customers] for name in custom},
        **{name: [getattr(customer, name) for customer in customers] for name in reference.CUSTOMER_COLUMNS},
    }
    texts = {f"{ASKED}{name}": [_day_text(value) for value in values] for name, values in asked.items()}
    plain = [replace(customer, custom={}, created_at=None, updated_at=None) for customer in customers]
    return _frame(Customer, plain, customer_key=keys, custom=[None for _ in plain], **texts)


def _day_text(value: object) -> object:
    return value.astimezone(reference.ZONE).date().isoformat() if isinstance(value, datetime) else value


def _all_rows(ledger: Ledger) -> Iterable[object]:
    for table in fields(ledger):
        if table.name != "rejections":
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
    if column.startswith(ASKED):
        return pa.string()
    if column.endswith(("_key", "_minor")):
        return pa.int64()
    if column.endswith(("_on", "_from", "_until", "_since")) or column == "pay_by":
        return pa.date32()
    return pa.bool_() if column in {"pauses", "policy_unchanged"} else pa.string()


def derive(frames: Frames, policy: Policy, first: date, last: date | None = None) -> Derived:
    """Everything that the rules derive for a day, or for all days up to `last`, step by step as the pipeline does."""
    last = last or first
    window = Window.of(first - timedelta(days=1), last)
    ledger = standing.Ledger(frames.invoices, frames.payments, frames.pauses, frames.promises)
    tolerance = policy.receivables.tolerance_minor
    owed = owed_invoices(ledger, tolerance, window)
    owing = balances(owed, frames.payments, policy.receivables.minimum_amount_minor)
    unpaid = own_workflows(_with_texts(open_invoices(owed), frames), frames.assignments, policy)
    candidates = chaseable_invoices(unpaid, owing)
    ids = frames.invoice_texts.set_index("invoice_key")["invoice_id"]
    carried = carrying_invoices(candidates, policy.organisation.rates, lambda keys: ids[keys].to_numpy())
    recorded = frames.invoices.set_index("invoice_key")["recorded_on"]
    changes = carrying_changes(
        carried,
        candidates,
        lambda keys, days: are_paid(ledger, tolerance, keys, days),
        lambda keys: recorded[keys].to_numpy(),
    )
    carrying, unpaid, owing = (_within(rows, first, last) for rows in (carried.join(changes), unpaid, owing))
    facts = Facts(
        open_invoices=unpaid,
        balances=owing,
        carrying=carrying,
        customers=frames.customers[frames.customers["customer_key"].isin(owing["customer_key"])],
        invoice_ids=frames.invoice_texts[["invoice_key", "invoice_id"]],
        assignments=frames.assignments,
        pauses=frames.pauses,
        contacts=frames.contacts,
        rejections=frames.rejections.assign(
            policy_hash=np.where(frames.rejections["policy_unchanged"], policy.hash, "another")
        ),
        order_events=frames.order_events,
    )
    previous = ids.rename("previous_invoice_id").rename_axis("previous_invoice_key").reset_index()
    carrying = carrying.merge(previous, on="previous_invoice_key", how="left", validate="m:1")
    return Derived(unpaid, owing, carrying, _with_ids(decide(facts, policy), frames))


def unpaid_invoices(frames: Frames, policy: Policy, as_of: date = MONDAY) -> pd.DataFrame:
    """The open invoices of a day with what smart rules may ask for."""
    ledger = standing.Ledger(frames.invoices, frames.payments, frames.pauses, frames.promises)
    owed = owed_invoices(ledger, policy.receivables.tolerance_minor, Window.of(as_of, as_of))
    return _with_texts(open_invoices(owed), frames)


def _within(rows: pd.DataFrame, first: date, last: date) -> pd.DataFrame:
    return rows[rows["as_of"].between(pd.Timestamp(first), pd.Timestamp(last))].reset_index(drop=True)


def _with_ids(rows: pd.DataFrame, frames: Frames) -> pd.DataFrame:
    invoices = frames.invoice_texts[["invoice_key", "invoice_id"]].rename(columns={"invoice_id": "carrying_invoice_id"})
    customers = frames.customers[["customer_key", "customer_id"]]
    rows = rows.merge(customers, on="customer_key", how="left", validate="m:1")
    return rows.merge(invoices.astype({"invoice_key": "Int64"}), on="invoice_key", how="left", validate="m:1")


def _with_texts(unpaid: pd.DataFrame, frames: Frames) -> pd.DataFrame:
    """Open invoices with the ids and texts that smart rules may ask for."""
    texts = frames.invoices[["invoice_key", "status", "pay_url"]].astype({"status": "str"})
    names = frames.customers.loc[:, lambda columns: columns.columns.str.startswith((ASKED, "customer_"))]
    unpaid = unpaid.merge(frames.invoice_texts, on="invoice_key", validate="m:1")
    return unpaid.merge(texts, on="invoice_key", validate="m:1").merge(names, on="customer_key", validate="m:1")


def run(ledger: Ledger, rules: Rules, as_of: date = MONDAY) -> Derived:
    return derive(frames_of(ledger), policy_of(rules), as_of)


def run_days(ledger: Ledger, rules: Rules, first: date, last: date) -> Derived:
    """All days from `first` to `last`, decided in one call."""
    return derive(frames_of(ledger), policy_of(rules), first, last)


def of_day(derived: Derived, as_of: date) -> Derived:
    """One of several days."""
    return Derived(*(_within(getattr(derived, table.name), as_of, as_of) for table in fields(Derived)))


def decisions(derived: Derived) -> list[Decision]:
    """The rows of `dunning.decisions` as the reference words them, by day and customer id."""
    columns = [f.name for f in fields(Decision)]
    rows = _plain(derived.decisions.assign(reason=derived.decisions["reason"].astype("str").fillna("remind")), columns)
    return sorted((Decision(*row) for row in rows), key=by_unit)


def by_unit(row: Decision) -> tuple[date, str, str, str]:
    """The order in which decisions are compared: one for the customer, then one per invoice of its own workflow."""
    return row.as_of, row.customer_id, row.level, row.carrying_invoice_id or ""


def open_rows(derived: Derived) -> list[OpenRow]:
    return sorted(OpenRow(*row) for row in _plain(derived.open_invoices, OpenRow._fields))


def carrying_rows(derived: Derived) -> list[CarryingRow]:
    """The rows of `dunning.carrying_invoices` as the reference words them, by customer and invoice."""
    rows = _plain(derived.carrying, [f.name for f in fields(CarryingRow)])
    return sorted((CarryingRow(*row) for row in rows), key=by_invoice)


def by_invoice(row: CarryingRow) -> tuple[str, str]:
    return row.customer_id, row.invoice_id


def reference_open_rows(ledger: Ledger, rules: Rules, as_of: date) -> list[OpenRow]:
    return sorted(_open_row(row) for row in reference.open_invoices(ledger, rules, as_of))


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
        level=row.level,
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
    earlier = [contact for contact in ledger.contacts if contact.kind == "recorded" or contact.contacted_on < first]
    ledger = replace(ledger, contacts=earlier, rejections=[])
    sent: list[Decision] = []
    while due := _first_due(ledger, rules, first, last):
        ledger.contacts += [reference.accepted(row) for row in due]
        sent += due
        first = due[0].as_of + timedelta(days=1)
    return sent


def _first_due(ledger: Ledger, rules: Rules, first: date, last: date) -> list[Decision]:
    """The reminders of the first day that has any; until then nothing is sent, so that no day depends on another."""
    rows = decisions(run_days(ledger, rules, first, last)) if first <= last else []
    due = [row for row in rows if row.decision == "remind"]
    return [row for row in due if row.as_of == due[0].as_of]


def day(offset: int) -> date:
    """The day so many days after DUE."""
    return DUE + timedelta(days=offset)


def rules_of(*action_days: int, delay: int = 5, working_days: frozenset[int] = EVERY_DAY, **columns: object) -> Rules:
    """Rules with one workflow, the default, whose actions are step_1, step_2 … on `action_days`."""
    actions = tuple(Action(f"step_{n}", offset) for n, offset in enumerate(action_days, start=1))
    workflow = Workflow("standard", actions, minimum_contact_delay=delay)
    return replace(Rules((workflow,), default="standard", working_days=working_days), **columns)


def both_levels(*action_days: int, alone: tuple[int, ...] = (1, 8), alone_delay: int = 5, **columns: object) -> Rules:
    """`rules_of` with a further workflow, `alone`, under which each invoice is reminded of by itself."""
    actions = tuple(Action(f"alone_{n}", offset) for n, offset in enumerate(alone, start=1))
    single = Workflow("alone", actions, minimum_contact_delay=alone_delay, carried_by="invoice")
    together = rules_of(*action_days, **columns)
    return replace(together, workflows=(*together.workflows, single))


def assigned(invoice_id: str | None, workflow: str = "alone", start: int = -99, **columns: object) -> Assignment:
    """An assignment of an invoice of c1, or of c1, from a day counted from DUE."""
    values = {"assignment_id": f"{workflow}-{invoice_id}", "customer_id": "c1"} | columns
    return Assignment(workflow=workflow, assigned_from=day(start), invoice_id=invoice_id, **values)


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


def each_day(ledger: Ledger, rules: Rules, *offsets: int) -> list[Decision | None]:
    """The decisions about the only customer that owes, on days counted from DUE; None where it owes nothing."""
    rows = decisions(run_days(ledger, rules, day(min(offsets)), day(max(offsets))))
    found = {row.as_of: row for row in rows}
    assert len(found) == len(rows)
    return [found.get(day(offset)) for offset in offsets]


def by_invoice_id(ledger: Ledger, rules: Rules, as_of: date = MONDAY) -> dict[str | None, Decision]:
    """The decisions by carrying invoice."""
    rows = decisions(run(ledger, rules, as_of))
    found = {row.carrying_invoice_id: row for row in rows}
    assert len(found) == len(rows)
    return found


def reason(ledger: Ledger, rules: Rules | None = None, as_of: date = MONDAY) -> str:
    return decision(ledger, rules, as_of).reason


def reasons(ledger: Ledger, rules: Rules | None = None, as_of: date = MONDAY) -> dict[str, str]:
    """The reason of each customer that owes."""
    return {row.customer_id: row.reason for row in decisions(run(ledger, rules or rules_of(1), as_of))}


def sent(ledger: Ledger, rules: Rules, first: int, last: int) -> list[tuple[int, str | None, str | None]]:
    """Day (counted from DUE), carrying invoice and action of the reminders sent between two days."""
    rows = simulate(ledger, rules, day(first), day(last))
    return [((row.as_of - DUE).days, row.carrying_invoice_id, row.action) for row in rows]


class Reminder(NamedTuple):
    """A reminder of a replay in plain values, from the rules or from the reference."""

    remind_on: date
    customer_id: str
    level: str
    carrying_invoice_id: str
    workflow: str
    action: str
    occurrence: int


def records_of(ledger: Ledger) -> Records:
    """A ledger as a replay reads it."""
    frames = frames_of(ledger)
    pay_urls = frames.invoices[["invoice_key", "pay_url"]]
    texts = frames.invoice_texts.merge(pay_urls, on="invoice_key", validate="1:1").set_index("invoice_key")
    return Records(
        invoices=frames.invoices.drop(columns=["invoice_id", "customer_id", "number", "pay_url"]),
        texts=lambda keys: texts.loc[keys].reset_index(drop=True),
        payments=frames.payments,
        pauses=frames.pauses,
        promises=frames.promises,
        assignments=frames.assignments,
        contacts=frames.contacts,
        order_events=frames.order_events,
        customers=frames.customers,
    )


def replayed(ledger: Ledger, rules: Rules, first: date, last: date) -> list[Reminder]:
    """What the rules would have sent, by day and customer."""
    policy, frames = policy_of(rules), frames_of(ledger)
    reminders = replay(records_of(ledger), policy, first, last).reminders
    customers = dict(zip(frames.customers["customer_key"], frames.customers["customer_id"], strict=True))
    invoices = dict(zip(frames.invoice_texts["invoice_key"], frames.invoice_texts["invoice_id"], strict=True))
    found = []
    for row in reminders.itertuples():
        workflow = policy.workflows[row.workflow]
        ids = (customers[row.customer_key], row.level, invoices[row.invoice_key])
        names = (workflow.name, workflow.actions[row.position].name)
        found.append(Reminder(row.remind_on.date(), *ids, *names, row.occurrence))
    return sorted(found)


def reference_replay(ledger: Ledger, rules: Rules, first: date, last: date) -> list[Reminder]:
    """What deciding day after day would have sent."""
    rows = reference.simulate(ledger, rules, first, last)
    return sorted(Reminder(row.as_of, *(getattr(row, name) for name in Reminder._fields[1:])) for row in rows)
