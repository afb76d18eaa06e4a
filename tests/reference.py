"""The rules once more, as plainly as they can be written: one customer at a time, loops, dates and integers.

The pipeline is compared with this, so nothing of it belongs here, nor any library beyond the standard one.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from zoneinfo import ZoneInfo

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "dunning_pipeline")
UNASSIGNED = "unassigned"
ZONE = ZoneInfo("Europe/Paris")
"""The organisation's, in which instants have their day."""

DAY = timedelta(days=1)

_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
# Currencies that do not have two decimals.
MINOR_DIGITS = {currency: digits for digits, codes in _DECIMALS.items() for currency in codes.split()}

_VALID = {
    "email": re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+"),
    "phone": re.compile(r"\+[1-9]\d{6,14}"),
    "external_id": re.compile(r".*\S.*"),
}
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# What smart rules may ask for, beside the custom columns of customers (3.2).
CUSTOMER_COLUMNS = (
    "customer_id",
    "name",
    "email",
    "phone",
    "external_id",
    "country",
    "language",
    "currency",
    "tags",
    "created_at",
    "updated_at",
)
FIGURES = ("open_balance", "overdue_balance", "oldest_days_overdue", "open_invoices")
INVOICE_COLUMNS = (
    "invoice_id",
    "number",
    "issued_on",
    "due_on",
    "currency",
    "total",
    "outstanding",
    "status",
    "pay_url",
    "days_overdue",
)

UNKNOWN = object()
"""An amount in a currency that has no rate: no condition on it holds."""


@dataclass(frozen=True)
class Customer:
    customer_id: str
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    external_id: str | None = None
    country: str | None = None
    language: str | None = None
    currency: str | None = None
    tags: str | None = None
    custom: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True)
class Invoice:
    invoice_id: str
    customer_id: str
    issued_on: date
    due_on: date | None
    currency: str
    total_minor: int
    number: str | None = None
    status: str | None = "open"
    recorded_on: date | None = None
    voided_on: date | None = None
    written_off_on: date | None = None
    disputed_on: date | None = None
    dispute_resolved_on: date | None = None
    missing_since: date | None = None
    pay_url: str | None = None


@dataclass(frozen=True)
class Payment:
    payment_id: str
    customer_id: str
    invoice_id: str | None
    currency: str
    amount_minor: int
    paid_on: date
    kind: str | None = "payment"
    recorded_on: date | None = None


@dataclass(frozen=True)
class EarlyPayment:
    """A payment that named an invoice before any source had it, and the day on which the invoice became known."""

    payment: Payment
    applied_on: date


@dataclass(frozen=True)
class Pause:
    pause_id: str
    scope: str
    paused_from: date
    paused_until: date | None = None
    customer_id: str | None = None
    invoice_id: str | None = None
    recorded_on: date | None = None


@dataclass(frozen=True)
class Promise:
    promise_id: str
    customer_id: str
    promised_on: date
    pay_by: date
    invoice_id: str | None = None
    pauses: bool | None = True
    withdrawn_on: date | None = None
    recorded_on: date | None = None


@dataclass(frozen=True)
class Assignment:
    assignment_id: str
    customer_id: str
    workflow: str
    assigned_from: date
    assigned_until: date | None = None
    invoice_id: str | None = None
    recorded_on: date | None = None


@dataclass(frozen=True)
class Contact:
    """`kind`: accepted by Klaviyo, unknown (its day ended without an answer) or recorded by hand.

    `level` is that of the reminder, customer if nothing is said; what was recorded by hand has none.
    """

    customer_id: str
    contacted_on: date
    carrying_invoice_id: str | None = None
    workflow: str | None = None
    action: str | None = None
    reminder_id: str | None = None
    kind: str = "accepted"
    recorded_on: date | None = None
    level: str | None = None


@dataclass(frozen=True)
class OrderEvent:
    """A reminder of the order side that the same person got."""

    customer_id: str
    sent_on: date


@dataclass(frozen=True)
class Rejection:
    """A reminder that Klaviyo rejected, the identifiers that it bore, and whether the policy is still that one."""

    reminder_id: str
    rejected_on: date
    email: str | None = None
    phone: str | None = None
    external_id: str | None = None
    policy_unchanged: bool = True


@dataclass
class Ledger:
    customers: list[Customer] = field(default_factory=list)
    invoices: list[Invoice] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    order_events: list[OrderEvent] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    early: list[EarlyPayment] = field(default_factory=list)
    """What is known of single customers only: it follows from their payments and everybody's invoices."""


@dataclass(frozen=True)
class Action:
    name: str
    day: int
    was: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workflow:
    """`repeat_last`: days between two executions of the last action, and the most repetitions (None: no end)."""

    name: str
    actions: tuple[Action, ...]
    minimum_contact_delay: int = 5
    anchor: str = "due_date"
    logic: str = "standard"
    carried_by: str = "customer"
    repeat_last: tuple[int, int | None] | None = None


@dataclass(frozen=True)
class SmartRule:
    """Every condition of `when`, (column, operator, value), leads to the workflow; `for_`: customer or invoice."""

    name: str
    workflow: str
    when: tuple[tuple[str, str, object], ...]
    for_: str = "customer"


@dataclass(frozen=True)
class Rules:
    """Settings of the policy file; `default` names the default workflow, weekdays count from Monday = 0.

    `holidays` are the organisation's. `customer_holidays`, by every country whose holidays are known, count instead
    for customers of these countries; None: nobody's country matters. What the policy file names to get these dates
    (`holiday_country`, `holiday_subdivision`) decides nothing here. `max_invoice_reminders` is per customer and day;
    `contact_cap` has the days after an order event and the most days of deferral.
    """

    workflows: tuple[Workflow, ...] = ()
    default: str | None = None
    working_days: frozenset[int] = frozenset(range(5))
    holidays: frozenset[date] = field(default=frozenset(), repr=False)
    customer_holidays: Mapping[str, frozenset[date]] | None = field(default=None, repr=False)
    holiday_country: str | None = None
    holiday_subdivision: str | None = None
    tolerance: Mapping[str, int] = field(default_factory=dict)
    minimum_amount: Mapping[str, int] = field(default_factory=dict)
    base_currency: str = "EUR"
    exchange_rates: Mapping[str, Decimal | Fraction] = field(default_factory=dict)
    identify_by: tuple[str, ...] = ("email",)
    organisation_paused: bool = False
    smart_rules: tuple[SmartRule, ...] = ()
    smart_rules_override_manual: bool = False
    max_invoice_reminders: int = 3
    contact_cap: tuple[int, int] | None = None


@dataclass(frozen=True)
class OpenInvoice:
    """A counting, unpaid invoice; `paused_by` is pause or promise when one holds it or its customer."""

    as_of: date
    invoice: Invoice
    open_minor: int
    paused_by: str | None
    broken_promise: bool = False
    level: str = "customer"

    @property
    def due_on(self) -> date:
        return _due_on(self.invoice)

    @property
    def days_overdue(self) -> int:
        return _days_overdue(self.invoice, self.as_of)

    @property
    def paused(self) -> bool:
        return self.paused_by is not None


@dataclass(frozen=True)
class Decision:
    as_of: date
    customer_id: str
    level: str
    carrying_invoice_id: str | None
    workflow: str | None
    assigned_by: str | None
    action: str | None
    action_position: int | None
    occurrence: int | None
    trigger_on: date | None
    last_contact_on: date | None
    next_due_on: date | None
    decision: str
    reason: str
    reminder_id: str | None


@dataclass(frozen=True)
class CarryingRow:
    """An invoice that carries: the customer's, or one of the invoice level (2.1 to 2.4)."""

    customer_id: str
    level: str
    invoice_id: str
    due_on: date
    currency: str
    total_minor: int
    open_minor: int
    carrying_change: str | None
    previous_invoice_id: str | None


@dataclass
class Account:
    """What one customer's rows said on `as_of`, rows recorded later being left out, and what follows from them."""

    as_of: date
    rules: Rules
    customer: Customer
    invoices: list[Invoice] = field(default_factory=list)
    applied: dict[str, list[Payment]] = field(default_factory=dict)
    unapplied: list[Payment] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    order_events: list[OrderEvent] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    @cached_property
    def unpaid(self) -> list[OpenInvoice]:
        return _unpaid(self)

    @cached_property
    def owing(self) -> set[str]:
        return _owing_currencies(self)

    @cached_property
    def chaseable(self) -> set[str]:
        return _chaseable_currencies(self)

    @cached_property
    def facts(self) -> dict[str, object]:
        """Every column that smart rules for customers may ask for."""
        return _customer_facts(self)

    def candidates(self, level: str) -> list[OpenInvoice]:
        """The invoices that may carry (2.1)."""
        unpaused = [row for row in self.unpaid if row.level == level and not row.paused]
        return [row for row in unpaused if row.invoice.currency in self.chaseable]


@dataclass(frozen=True)
class Subject:
    """What one decision is about: all invoices of the customer level, or a single one of the invoice level (2.4).

    `carrier` is the invoice whose ladder is climbed; None when nothing can carry.
    """

    level: str
    rows: list[OpenInvoice]
    carrier: OpenInvoice | None
    workflow: Workflow | None
    assigned_by: str | None

    @property
    def carrying_invoice_id(self) -> str | None:
        """At the invoice level it is known even if the invoice is paused or not worth chasing."""
        row = self.rows[0] if self.level == "invoice" else self.carrier
        return row.invoice.invoice_id if row else None


@dataclass(frozen=True)
class Step:
    """The next action of a ladder, with its place (1-based), its trigger date and how often it comes up (from 1)."""

    action: Action
    position: int
    trigger_on: date
    occurrence: int = 1


@dataclass(frozen=True)
class Calendar:
    """The working days that count for one customer (5.3)."""

    weekdays: frozenset[int]
    holidays: frozenset[date]

    def includes(self, day: date) -> bool:
        return day.weekday() in self.weekdays and day not in self.holidays

    def forward(self, day: date) -> date:
        """`day` itself if it is a working day, else the next one."""
        while not self.includes(day):
            day += DAY
        return day

    def before(self, day: date) -> date:
        """The last working day before `day`."""
        day -= DAY
        while not self.includes(day):
            day -= DAY
        return day


def decide(ledger: Ledger, rules: Rules, as_of: date) -> list[Decision]:
    """By customer: the row of the customer level, then one per unpaid invoice of the invoice level (2.4).

    The customer level has a row if an unpaid invoice is left there, or if all that is left has vanished.
    """
    return [row for account in _accounts(ledger, rules, as_of) for row in _decide_account(account)]


def carrying(ledger: Ledger, rules: Rules, as_of: date) -> list[CarryingRow]:
    """The carrying invoice of each customer, and all that may carry themselves at the invoice level."""
    today, before = (_accounts(ledger, rules, day) for day in (as_of, as_of - DAY))
    return [row for accounts in zip(today, before, strict=True) for row in _carrying_rows(*accounts)]


def open_invoices(ledger: Ledger, rules: Rules, as_of: date) -> list[OpenInvoice]:
    """All unpaid counting invoices, paused ones included, by customer and invoice id."""
    rows = (row for account in _accounts(ledger, rules, as_of) for row in account.unpaid)
    return sorted(rows, key=lambda row: (row.invoice.customer_id, row.invoice.invoice_id))


def simulate(ledger: Ledger, rules: Rules, first: date, last: date) -> list[Decision]:
    """The reminders sent when every day from `first` to `last` is decided and each of them is accepted.

    What was really sent on these days is left out, and so is what Klaviyo really rejected.
    """
    earlier = [contact for contact in ledger.contacts if contact.kind == "recorded" or contact.contacted_on < first]
    customers = _by_customer(replace(ledger, contacts=earlier, rejections=[]))
    _check_columns(ledger, rules)
    sent: list[Decision] = []
    for as_of in days(first, last):
        for own in customers:
            due = [row for row in _decide_account(_account(own, rules, as_of)) if row.decision == "remind"]
            own.contacts += [accepted(row) for row in due]
            sent += due
    return sent


def accepted(row: Decision) -> Contact:
    return Contact(
        customer_id=row.customer_id,
        contacted_on=row.as_of,
        carrying_invoice_id=row.carrying_invoice_id,
        workflow=row.workflow,
        action=row.action,
        reminder_id=row.reminder_id,
        level=row.level,
    )


def days(first: date, last: date) -> Iterable[date]:
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


def reminder_id(
    customer_id: str,
    workflow: str,
    carrying_invoice_id: str,
    action: str,
    *,
    repetition: int = 1,
    stream: str = "invoice",
) -> str:
    parts = [stream, customer_id, workflow, carrying_invoice_id, action, str(repetition)]
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(parts)))


def _accounts(ledger: Ledger, rules: Rules, as_of: date) -> list[Account]:
    _check_columns(ledger, rules)
    return [_account(own, rules, as_of) for own in _by_customer(ledger)]


def _by_customer(ledger: Ledger) -> list[Ledger]:
    """The rows of each customer, by customer id; what concerns everybody is in each of them.

    Payments and pauses of an invoice are its owner's, whoever they name. Until the invoice is known, what was paid for
    it is credit of whom the payment names (1.4).
    """
    owners = {invoice.invoice_id: invoice.customer_id for invoice in ledger.invoices}
    known_on = {invoice.invoice_id: invoice.recorded_on or invoice.issued_on for invoice in ledger.invoices}
    currencies = {invoice.invoice_id: invoice.currency for invoice in ledger.invoices}
    found: dict[str, Ledger] = defaultdict(lambda: Ledger(rejections=ledger.rejections))
    for table in ("customers", "invoices", "promises", "assignments", "contacts", "order_events"):
        for row in getattr(ledger, table):
            getattr(found[row.customer_id], table).append(row)
    for payment in ledger.payments:
        found[owners.get(payment.invoice_id, payment.customer_id)].payments.append(payment)
        # In another currency than its invoice a payment is rejected (1.2), and so is no credit either.
        if currencies.get(payment.invoice_id) == payment.currency:
            found[payment.customer_id].early.append(EarlyPayment(payment, known_on[payment.invoice_id]))
    for pause in ledger.pauses:
        if pause.scope == "customer":
            found[pause.customer_id].pauses.append(pause)
        elif pause.scope == "invoice" and pause.invoice_id in owners:
            found[owners[pause.invoice_id]].pauses.append(pause)
    everybody = [pause for pause in ledger.pauses if pause.scope == "organisation"]
    for customer_id, own in found.items():
        own.customers = own.customers or [Customer(customer_id)]
        own.pauses += everybody
    return [found[customer_id] for customer_id in sorted(found)]


def _account(own: Ledger, rules: Rules, as_of: date) -> Account:
    """The account of the only customer of a ledger."""

    def known(rows: Iterable, own_date: str) -> list:
        return [row for row in rows if _known(row.recorded_on, getattr(row, own_date), as_of)]

    account = Account(
        as_of,
        rules,
        own.customers[-1],
        invoices=known(own.invoices, "issued_on"),
        pauses=known(own.pauses, "paused_from"),
        promises=known(own.promises, "promised_on"),
        assignments=known(own.assignments, "assigned_from"),
        contacts=known(own.contacts, "contacted_on"),
        order_events=[event for event in own.order_events if event.sent_on <= as_of],
        rejections=[rejection for rejection in own.rejections if rejection.rejected_on <= as_of],
    )
    invoice_ids = {invoice.invoice_id for invoice in own.invoices}
    for payment in known(own.payments, "paid_on"):
        if payment.paid_on > as_of or _is_positive_refund(payment):
            continue
        if payment.invoice_id in invoice_ids:
            account.applied.setdefault(payment.invoice_id, []).append(payment)
        else:
            account.unapplied.append(payment)
    for early in own.early:
        payment = early.payment
        is_known = payment.paid_on <= as_of and _known(payment.recorded_on, payment.paid_on, as_of)
        if is_known and as_of < early.applied_on and not _is_positive_refund(payment):
            account.unapplied.append(payment)
    return account


def _known(recorded_on: date | None, own_date: date, as_of: date) -> bool:
    return (recorded_on or own_date) <= as_of


def _is_positive_refund(payment: Payment) -> bool:
    return payment.kind in {"refund", "chargeback"} and payment.amount_minor > 0


def _counts(invoice: Invoice, as_of: date) -> bool:
    """Section 1.1."""
    return _is_owed(invoice, as_of) and not _is_vanished(invoice, as_of)


def _is_owed(invoice: Invoice, as_of: date) -> bool:
    if invoice.status == "draft":
        return False
    if invoice.status == "void" and invoice.voided_on is None:
        return False
    if invoice.status == "written_off" and invoice.written_off_on is None:
        return False
    ended = [invoice.voided_on, invoice.written_off_on]
    if any(day is not None and day <= as_of for day in ended):
        return False
    return not _is_within(invoice.disputed_on, as_of, invoice.dispute_resolved_on)


def _is_vanished(invoice: Invoice, as_of: date) -> bool:
    return invoice.missing_since is not None and invoice.missing_since <= as_of


def _is_within(start: date | None, day: date, end: date | None) -> bool:
    """`end` itself is outside; without one the period is open-ended."""
    return start is not None and start <= day and (end is None or day < end)


def _open_minor(account: Account, invoice: Invoice) -> int:
    """Section 1.2."""
    payments = account.applied.get(invoice.invoice_id, [])
    return invoice.total_minor - sum(p.amount_minor for p in payments if p.currency == invoice.currency)


def _due_on(invoice: Invoice) -> date:
    """Section 2.1: without a due date the issue date stands in."""
    return invoice.due_on or invoice.issued_on


def _days_overdue(invoice: Invoice, as_of: date) -> int:
    return max(0, (as_of - _due_on(invoice)).days)


def _is_unpaid(account: Account, invoice: Invoice) -> bool:
    """Section 1.3."""
    return _open_minor(account, invoice) > account.rules.tolerance.get(invoice.currency, 0)


def _unpaid_invoices(account: Account) -> list[Invoice]:
    return [invoice for invoice in account.invoices if _counts(invoice, account.as_of) and _is_unpaid(account, invoice)]


def _unpaid(account: Account) -> list[OpenInvoice]:
    return [
        OpenInvoice(
            account.as_of,
            invoice,
            _open_minor(account, invoice),
            _paused_by(account, invoice),
            _is_promise_broken(account, invoice),
            "customer" if _invoice_workflow(account, invoice) is None else "invoice",
        )
        for invoice in _unpaid_invoices(account)
    ]


def _has_vanished(account: Account) -> bool:
    return any(
        _is_owed(invoice, account.as_of) and _is_vanished(invoice, account.as_of) and _is_unpaid(account, invoice)
        for invoice in account.invoices
    )


def _net_by_currency(account: Account) -> dict[str, int]:
    """Section 1.4, over counting invoices whether paused or not and whatever their level."""
    net: dict[str, int] = defaultdict(int)
    for invoice in account.invoices:
        if _counts(invoice, account.as_of):
            net[invoice.currency] += _open_minor(account, invoice)
    for payment in account.unapplied:
        net[payment.currency] -= payment.amount_minor
    return net


def _owing_currencies(account: Account) -> set[str]:
    """Currencies in which the customer owes more than it has in credits."""
    return {currency for currency, net in _net_by_currency(account).items() if net > 0}


def _chaseable_currencies(account: Account) -> set[str]:
    """Those of them in which the unpaid, unpaused invoices reach the minimum (1.4, 6.3)."""
    sums: dict[str, int] = defaultdict(int)
    for row in account.unpaid:
        if not row.paused:
            sums[row.invoice.currency] += row.open_minor
    minimum = account.rules.minimum_amount
    return {c for c in account.owing if c not in minimum or sums[c] >= minimum[c]}


def _carrying(account: Account) -> OpenInvoice | None:
    """The carrying invoice of the customer level."""
    candidates = _oldest_first(account.candidates("customer"), account.rules)
    return candidates[0] if candidates else None


def _oldest_first(rows: list[OpenInvoice], rules: Rules) -> list[OpenInvoice]:
    """In the order in which they carry: oldest due date, highest total, lowest id (2.1)."""
    ordered: list[OpenInvoice] = []
    for due_on in sorted({row.due_on for row in rows}):
        tied = [row for row in rows if row.due_on == due_on]
        size = _comparable_totals(tied, rules)
        ordered += sorted(tied, key=lambda row: (-size[row.invoice.invoice_id], row.invoice.invoice_id))
    return ordered


def _comparable_totals(tied: list[OpenInvoice], rules: Rules) -> dict[str, Fraction]:
    rates = _rates(rules)
    all_rated = all(row.invoice.currency in rates for row in tied)
    return {
        row.invoice.invoice_id: _major_units(row.invoice.total_minor, row.invoice.currency)
        * (rates[row.invoice.currency] if all_rated else 1)
        for row in tied
    }


def _rates(rules: Rules) -> dict[str, Fraction]:
    """What a unit of each currency is worth in base currency."""
    rates = {currency: Fraction(rate) for currency, rate in rules.exchange_rates.items()}
    return {rules.base_currency: Fraction(1)} | rates


def _major_units(minor: int, currency: str) -> Fraction:
    return Fraction(minor, 10 ** MINOR_DIGITS.get(currency, 2))


def _carrying_rows(today: Account, before: Account) -> list[CarryingRow]:
    """Sections 2.3 and 2.4; `before` is the same customer the day before, with what was known then."""
    rows: list[CarryingRow] = []
    carrier, previous = _carrying(today), _carrying(before)
    if carrier is not None:
        rows.append(_carrying_row(carrier, *_carrying_change(today, carrier, previous)))
    carried = {row.invoice.invoice_id for row in before.candidates("invoice")}
    for row in sorted(today.candidates("invoice"), key=lambda row: row.invoice.invoice_id):
        rows.append(_carrying_row(row, None if row.invoice.invoice_id in carried else "first", None))
    return rows


def _carrying_row(row: OpenInvoice, change: str | None, previous_invoice_id: str | None) -> CarryingRow:
    return CarryingRow(
        row.invoice.customer_id,
        row.level,
        row.invoice.invoice_id,
        row.due_on,
        row.invoice.currency,
        row.invoice.total_minor,
        row.open_minor,
        change,
        previous_invoice_id,
    )


def _carrying_change(
    today: Account, carrier: OpenInvoice, previous: OpenInvoice | None
) -> tuple[str | None, str | None]:
    """Why another invoice carries than the day before, and which one did (2.3)."""
    if previous is None:
        return "first", None
    old, new = previous.invoice, carrier.invoice
    if old.invoice_id == new.invoice_id:
        return None, None
    if not _is_unpaid(today, old):
        return "paid", old.invoice_id
    if old.invoice_id not in {row.invoice.invoice_id for row in today.candidates("customer")}:
        return "excluded", old.invoice_id
    if (new.recorded_on or new.issued_on) == today.as_of:
        return "older_invoice", old.invoice_id
    return "reopened", old.invoice_id


def _workflow(account: Account) -> tuple[Workflow | None, str | None]:
    """The customer's workflow and `assigned_by` (3.1); an assignment is shown also when it leaves no workflow."""
    chosen = _chosen(account, None)
    if chosen is None and account.rules.default is not None:
        chosen = account.rules.default, "default"
    if chosen is None:
        return None, None
    name, assigned_by = chosen
    return _workflow_named(name, "customer", account.rules), assigned_by


def _invoice_workflow(account: Account, invoice: Invoice) -> tuple[Workflow | None, str] | None:
    """The invoice's own workflow and `assigned_by`; None: it stays with its customer (2.4).

    One assigned to a workflow that does not exist, or that is the customers', has left them for no workflow at all.
    """
    chosen = _chosen(account, invoice)
    if chosen is None or chosen[0] == UNASSIGNED:
        return None
    name, assigned_by = chosen
    return _workflow_named(name, "invoice", account.rules), assigned_by


def _workflow_named(name: str, carried_by: str, rules: Rules) -> Workflow | None:
    """Nobody is reminded by a workflow of the other level, which was not meant for them."""
    return next((w for w in rules.workflows if w.name == name and w.carried_by == carried_by), None)


def _chosen(account: Account, invoice: Invoice | None) -> tuple[str, str] | None:
    """Name and `assigned_by` of what was chosen for an invoice, or for the customer, by hand or by rule (3.1)."""
    by_hand, by_rule = _by_assignment(account, invoice), _by_smart_rule(account, invoice)
    return (by_rule or by_hand) if account.rules.smart_rules_override_manual else (by_hand or by_rule)


def _by_assignment(account: Account, invoice: Invoice | None) -> tuple[str, str] | None:
    invoice_id = invoice.invoice_id if invoice else None
    in_force = [
        assignment
        for assignment in account.assignments
        if assignment.invoice_id == invoice_id
        and _is_within(assignment.assigned_from, account.as_of, assignment.assigned_until)
    ]
    latest = max(in_force, key=lambda a: (a.assigned_from, a.assignment_id), default=None)
    return (latest.workflow, f"assignment:{latest.assignment_id}") if latest else None


def _by_smart_rule(account: Account, invoice: Invoice | None) -> tuple[str, str] | None:
    """The first rule, in the order of the policy file, of which every condition holds."""
    meant_for = "invoice" if invoice else "customer"
    rules = [rule for rule in account.rules.smart_rules if rule.for_ == meant_for]
    if not rules:
        return None
    facts = _invoice_facts(account, invoice) if invoice else account.facts
    for rule in rules:
        if all(_holds(facts.get(column), operator, constant) for column, operator, constant in rule.when):
            return rule.workflow, f"rule:{rule.name}"
    return None


def _check_columns(ledger: Ledger, rules: Rules) -> None:
    """A rule over a column that does not exist would say something else than was meant."""
    custom = sorted({name for customer in ledger.customers for name in customer.custom})
    for rule in rules.smart_rules:
        columns = [*CUSTOMER_COLUMNS, *custom, *FIGURES, *(INVOICE_COLUMNS if rule.for_ == "invoice" else ())]
        for column, _, _ in rule.when:
            if column not in columns:
                raise ValueError(f"Smart rule {rule.name} asks for {column}; there is {', '.join(columns)}")


def _customer_facts(account: Account) -> dict[str, object]:
    """Columns and figures (3.2); what has nothing unpaid left owes 0."""
    customer, unpaid = account.customer, _unpaid_invoices(account)
    overdue = [invoice for invoice in unpaid if _due_on(invoice) < account.as_of]
    rated = all(invoice.currency in _rates(account.rules) for invoice in unpaid)
    return {
        **customer.custom,
        **{column: getattr(customer, column) for column in CUSTOMER_COLUMNS},
        "open_balance": sum(_open_balance(account, invoice) for invoice in unpaid) if rated else UNKNOWN,
        "overdue_balance": sum(_open_balance(account, invoice) for invoice in overdue) if rated else UNKNOWN,
        "oldest_days_overdue": max((_days_overdue(invoice, account.as_of) for invoice in unpaid), default=0),
        "open_invoices": len(unpaid),
    }


def _invoice_facts(account: Account, invoice: Invoice) -> dict[str, object]:
    """The invoice's columns, and those of its customer that are called otherwise (3.2)."""
    rated = invoice.currency in _rates(account.rules)
    return {
        **account.facts,
        "invoice_id": invoice.invoice_id,
        "number": invoice.number or invoice.invoice_id,
        "issued_on": invoice.issued_on,
        "due_on": _due_on(invoice),
        "currency": invoice.currency,
        "total": _in_base_currency(invoice.total_minor, invoice.currency, account.rules) if rated else UNKNOWN,
        "outstanding": _open_balance(account, invoice) if rated else UNKNOWN,
        "status": invoice.status or "open",
        "pay_url": invoice.pay_url,
        "days_overdue": _days_overdue(invoice, account.as_of),
    }


def _open_balance(account: Account, invoice: Invoice) -> Fraction:
    return _in_base_currency(_open_minor(account, invoice), invoice.currency, account.rules)


def _in_base_currency(minor: int, currency: str, rules: Rules) -> Fraction:
    """Major units, exactly."""
    return _major_units(minor, currency) * _rates(rules)[currency]


def _holds(value: object, operator: str, constant: object) -> bool:
    """Whether a condition holds (3.2)."""
    if value is UNKNOWN:
        return False
    if _is_empty(value):
        return operator in {"is_not", "not_in"} or (operator == "is_empty" and constant is True)
    return OPERATORS[operator](value, constant)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in {"", "[]"})


def _equals(value: object, constant: object) -> bool:
    """A number or a day may also be written as text in the column; text is matched exactly."""
    if isinstance(constant, bool):
        return value == str(constant).lower()
    if isinstance(constant, date):
        return _as_day(value) == constant
    if isinstance(constant, str):
        return (_as_day(value).isoformat() if isinstance(value, date) else value) == constant
    return _as_number(value) == constant


def _is_one_of(value: object, constants: Iterable[object]) -> bool:
    return any(_equals(value, constant) for constant in constants)


def _compared(value: object, bound: object) -> int | None:
    """-1, 0 or 1: the value is below, at or above the bound; None: it is no number, or no day, as the bound is."""
    if isinstance(bound, str):
        bound = _as_day(bound) or _as_number(bound)
    value = _as_day(value) if isinstance(bound, date) else _as_number(value)
    return None if value is None else (value > bound) - (value < bound)


def _as_number(value: object) -> Fraction | None:
    if isinstance(value, str):
        return Fraction(value) if _NUMBER.fullmatch(value) else None
    return Fraction(value) if isinstance(value, int | Decimal | Fraction) else None


def _as_day(value: object) -> date | None:
    """An instant's day is that of the organisation."""
    if isinstance(value, datetime):
        return value.astimezone(ZONE).date()
    if isinstance(value, str) and _ISO_DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, date) else None


def _tags(value: object) -> list[str]:
    """A JSON list, or tags separated by commas."""
    if not isinstance(value, str):
        return []
    try:
        listed = json.loads(value)
    except ValueError:
        listed = None
    tags = listed if isinstance(listed, list) else value.split(",")
    return [(tag if isinstance(tag, str) else json.dumps(tag)).strip() for tag in tags]


OPERATORS: dict[str, Callable[..., bool]] = {
    "is": _equals,
    "is_not": lambda value, constant: not _equals(value, constant),
    "in": _is_one_of,
    "not_in": lambda value, constants: not _is_one_of(value, constants),
    "contains": lambda value, constant: any(_equals(tag, constant) for tag in _tags(value)),
    "at_least": lambda value, bound: _compared(value, bound) in {0, 1},
    "more_than": lambda value, bound: _compared(value, bound) == 1,
    "at_most": lambda value, bound: _compared(value, bound) in {-1, 0},
    "less_than": lambda value, bound: _compared(value, bound) == -1,
    "between": lambda value, bounds: _compared(value, bounds[0]) in {0, 1} and _compared(value, bounds[1]) in {-1, 0},
    "is_empty": lambda value, empty: not empty,
}
"""What each says of a value that is neither empty nor unknown."""


def _calendar(customer: Customer, rules: Rules) -> Calendar:
    """A customer whose country is unknown or has no known holidays has the organisation's."""
    by_country = rules.customer_holidays or {}
    return Calendar(rules.working_days, by_country.get(customer.country, rules.holidays))


def _next_step(account: Account, workflow: Workflow, invoice: Invoice) -> Step | None:
    """The next action, or the last one once more; None: the ladder is completed (4.2 to 4.6)."""
    last = _last_executed_position(account, workflow, invoice)
    if workflow.actions and last == len(workflow.actions):
        return _repetition(account, workflow, invoice)
    steps = [step for step in _unexpired_steps(account, workflow, invoice) if step.position > last]
    if workflow.logic == "contextual":
        reached = [step for step in steps if step.trigger_on <= account.as_of]
        steps = reached[-1:] or steps
    return steps[0] if steps else None


def _unexpired_steps(account: Account, workflow: Workflow, invoice: Invoice) -> list[Step]:
    """The actions that did not expire on the anchor, executed or not (4.3)."""
    anchor = _anchor(workflow, invoice)
    calendar = _calendar(account.customer, account.rules)
    return [
        Step(action, position, _trigger_on(action, anchor, calendar))
        for position, action in enumerate(workflow.actions, start=1)
        if not _is_expired(action, anchor, account.as_of)
    ]


def _is_expired(action: Action, anchor: date, as_of: date) -> bool:
    return action.day < 0 and as_of >= anchor


def _repetition(account: Account, workflow: Workflow, invoice: Invoice) -> Step | None:
    """The last action again (4.6); one before the anchor expires as it always does (4.3)."""
    last = workflow.actions[-1]
    if workflow.repeat_last is None or _is_expired(last, _anchor(workflow, invoice), account.as_of):
        return None
    every, limit = workflow.repeat_last
    executed_on = [
        contact.contacted_on for contact in _executing(account, workflow, invoice) if _is_about(contact, last)
    ]
    repetitions = len(executed_on) - 1
    if limit is not None and repetitions >= limit:
        return None
    trigger = max(executed_on) + timedelta(days=every)
    return Step(last, len(workflow.actions), trigger, occurrence=len(executed_on) + 1)


def _anchor(workflow: Workflow, invoice: Invoice) -> date:
    if workflow.anchor == "issue_date" or invoice.due_on is None:
        return invoice.issued_on
    return invoice.due_on


def _trigger_on(action: Action, anchor: date, calendar: Calendar) -> date:
    """Section 4.1."""
    trigger = anchor + timedelta(days=action.day)
    if action.day < 0 and calendar.forward(trigger) >= anchor:
        return calendar.before(trigger)
    return trigger


def _last_executed_position(account: Account, workflow: Workflow, invoice: Invoice) -> int:
    contacts = _executing(account, workflow, invoice)
    positions = [
        position
        for position, action in enumerate(workflow.actions, start=1)
        if any(_is_about(contact, action) for contact in contacts)
    ]
    return max(positions, default=0)


def _executing(account: Account, workflow: Workflow, invoice: Invoice) -> list[Contact]:
    """Contacts that execute actions of the workflow for the invoice."""
    return [
        contact
        for contact in _looked_at(account)
        if contact.kind != "unknown"
        and contact.workflow == workflow.name
        and contact.carrying_invoice_id == invoice.invoice_id
    ]


def _is_about(contact: Contact, action: Action) -> bool:
    return contact.action in {action.name, *action.was}


def _looked_at(account: Account) -> list[Contact]:
    """Recorded contacts up to and including the day, all others before it (5.2)."""
    return [
        contact
        for contact in account.contacts
        if contact.contacted_on < account.as_of
        or (contact.contacted_on == account.as_of and contact.kind == "recorded")
    ]


def _counts_for_delay(contact: Contact, subject: Subject, rules: Rules) -> bool:
    """Whether the delay of a decision counts from this contact (5.2)."""
    by_hand = contact.kind == "recorded"
    if subject.level == "invoice":
        about = contact.carrying_invoice_id
        return about == subject.carrying_invoice_id or (by_hand and about is None)
    if by_hand:
        return contact.workflow not in {w.name for w in rules.workflows if w.carried_by == "invoice"}
    return contact.level != "invoice"


def _last_contact_on(account: Account, subject: Subject) -> date | None:
    dates = [c.contacted_on for c in _looked_at(account) if _counts_for_delay(c, subject, account.rules)]
    return max(dates, default=None)


def _allowed_from(last_contact_on: date | None, workflow: Workflow, as_of: date) -> date:
    """The first day on which the minimum contact delay allows a reminder."""
    if last_contact_on is None:
        return date.min
    delay = workflow.minimum_contact_delay
    if last_contact_on == as_of:
        delay = max(1, delay)
    return last_contact_on + timedelta(days=delay)


def _reminders_of_today(account: Account) -> list[Contact]:
    """One that was perhaps accepted holds others like one that surely was (5.2, 5.4)."""
    return [c for c in account.contacts if c.kind != "recorded" and c.contacted_on == account.as_of]


def _reminded_today(account: Account, subject: Subject) -> set[str | None]:
    """The day's reminders to the customer, or about the invoice, of which there is one a day."""
    reminders = _reminders_of_today(account)
    return {c.reminder_id for c in reminders if _counts_for_delay(c, subject, account.rules)}


def _is_deferred(account: Account, due_from: date) -> bool:
    """The order side has priority, up to so many days after the reminder was due (5.4)."""
    if account.rules.contact_cap is None or not account.order_events:
        return False
    within_days, max_deferral = account.rules.contact_cap
    last_order_event = max(event.sent_on for event in account.order_events)
    deferred = max(0, (account.as_of - due_from).days)
    return (account.as_of - last_order_event).days < within_days and deferred < max_deferral


def _is_rejected(account: Account, identity: str) -> bool:
    """Klaviyo rejected this very reminder, with the identifiers and under the policy of now (6.5)."""
    return any(
        rejection.reminder_id == identity
        and rejection.policy_unchanged
        and usable_identifiers(rejection, account.rules) == usable_identifiers(account.customer, account.rules)
        for rejection in account.rejections
    )


def _paused_by(account: Account, invoice: Invoice) -> str | None:
    """Pauses and promises of the invoice or of its customer (6.1, 6.2); the organisation's pause no invoice."""
    if any(_is_paused(pause, invoice) for pause in _active_pauses(account)):
        return "pause"
    if any(_is_held_by_promise(account, promise, invoice) for promise in _running_promises(account)):
        return "promise"
    return None


def _is_held_by_promise(account: Account, promise: Promise, invoice: Invoice) -> bool:
    """One that names no invoice holds all of them while one that was known when it was made is unpaid."""
    if promise.invoice_id is None:
        return any(_is_covered(promise, unpaid) for unpaid in _unpaid_invoices(account))
    return promise.invoice_id == invoice.invoice_id


def _is_paused(pause: Pause, invoice: Invoice) -> bool:
    if pause.scope == "invoice":
        return pause.invoice_id == invoice.invoice_id
    return pause.scope == "customer"


def _is_promise_broken(account: Account, invoice: Invoice) -> bool:
    """The last promise that covered the invoice when it was made was not kept (6.2)."""
    covering = [promise for promise in _standing_promises(account) if _is_covered(promise, invoice)]
    latest = max(covering, key=lambda promise: (promise.promised_on, promise.promise_id), default=None)
    return latest is not None and latest.pay_by < account.as_of


def _is_covered(promise: Promise, invoice: Invoice) -> bool:
    if promise.invoice_id is None:
        return (invoice.recorded_on or invoice.issued_on) <= promise.promised_on
    return promise.invoice_id == invoice.invoice_id


def _active_pauses(account: Account) -> list[Pause]:
    return [p for p in account.pauses if _is_within(p.paused_from, account.as_of, p.paused_until)]


def _running_promises(account: Account) -> list[Promise]:
    return [
        promise
        for promise in _standing_promises(account)
        if promise.pauses is not False and account.as_of <= promise.pay_by
    ]


def _standing_promises(account: Account) -> list[Promise]:
    return [
        promise for promise in account.promises if _is_within(promise.promised_on, account.as_of, promise.withdrawn_on)
    ]


def _pause_reason(account: Account, subject: Subject) -> str | None:
    scopes = {pause.scope for pause in _active_pauses(account)}
    holders = [row.paused_by for row in subject.rows]
    if account.rules.organisation_paused or "organisation" in scopes:
        return "organisation_paused"
    if all(holder == "pause" for holder in holders):
        return "customer_paused"
    if all(holder is not None for holder in holders):
        return "promise_to_pay"
    return None


def _balance_reason(account: Account, subject: Subject) -> str | None:
    if not {row.invoice.currency for row in subject.rows} & account.owing:
        return "net_balance_not_positive"
    if not {row.invoice.currency for row in subject.rows if not row.paused} & account.chaseable:
        return "below_minimum_amount"
    return None


def usable_identifiers(who: Customer | Rejection, rules: Rules) -> dict[str, str]:
    """The identifiers that Klaviyo is told (6.4)."""
    values = {name: getattr(who, name) or "" for name in rules.identify_by}
    return {name: value for name, value in values.items() if _VALID[name].fullmatch(value)}


def _standing_reason(account: Account, subject: Subject) -> str | None:
    """The first reason that holds whatever action is next."""
    if not subject.rows:
        return "source_unclear"
    if subject.workflow is None:
        return "no_workflow"
    if not subject.workflow.actions:
        return "empty_workflow"
    reason = _pause_reason(account, subject) or _balance_reason(account, subject)
    if reason is None and not usable_identifiers(account.customer, account.rules):
        return "no_contact_address"
    return reason


def _decide_account(account: Account) -> list[Decision]:
    rows = [_decide_subject(account, subject) for subject in _subjects(account)]
    return _within_daily_maximum(account, rows)


def _subjects(account: Account) -> list[Subject]:
    """Section 2.4."""
    together = [row for row in account.unpaid if row.level == "customer"]
    single = [row for row in account.unpaid if row.level == "invoice"]
    candidates = account.candidates("invoice")
    subjects: list[Subject] = []
    if together or (not single and _has_vanished(account)):
        subjects.append(Subject("customer", together, _carrying(account), *_workflow(account)))
    for row in sorted(single, key=lambda row: row.invoice.invoice_id):
        carrier = row if row in candidates else None
        subjects.append(Subject("invoice", [row], carrier, *_invoice_workflow(account, row.invoice)))
    return subjects


def _decide_subject(account: Account, subject: Subject) -> Decision:
    workflow, carrier = subject.workflow, subject.carrier
    step = _next_step(account, workflow, carrier.invoice) if workflow and carrier else None
    row = Decision(
        as_of=account.as_of,
        customer_id=account.customer.customer_id,
        level=subject.level,
        carrying_invoice_id=subject.carrying_invoice_id,
        workflow=workflow.name if workflow else None,
        assigned_by=subject.assigned_by,
        action=step.action.name if step else None,
        action_position=step.position if step else None,
        occurrence=step.occurrence if step else None,
        trigger_on=step.trigger_on if step else None,
        last_contact_on=_last_contact_on(account, subject),
        next_due_on=None,
        decision="skip",
        reason="",
        reminder_id=None,
    )
    reason = _standing_reason(account, subject)
    if reason is not None:
        return replace(row, reason=reason)
    if step is None:
        return replace(row, reason="workflow_completed")
    return _time(account, subject, row, step)


def _time(account: Account, subject: Subject, row: Decision, step: Step) -> Decision:
    """The reasons that pass by themselves, and the reminder if none holds."""
    as_of, calendar = account.as_of, _calendar(account.customer, account.rules)
    allowed_from = _allowed_from(row.last_contact_on, subject.workflow, as_of)
    identity = _identity(row)
    sent = _reminded_today(account, subject)
    due_from = calendar.forward(max(step.trigger_on, allowed_from))
    reason = "remind"
    if step.trigger_on > as_of:
        reason = "waiting_for_trigger"
    elif allowed_from > as_of:
        reason = "minimum_contact_delay"
    elif sent and identity not in sent:
        # One a day, and this one is another.
        reason, row = "minimum_contact_delay", replace(row, last_contact_on=as_of)
        allowed_from = _allowed_from(as_of, subject.workflow, as_of)
    elif identity not in sent and _is_deferred(account, due_from):
        reason = "contact_cap"
    elif not calendar.includes(as_of):
        reason = "non_working_day"
    elif _is_rejected(account, identity):
        reason = "rejected"
    next_due_on = calendar.forward(max(step.trigger_on, allowed_from, as_of))
    row = replace(row, reason=reason, next_due_on=next_due_on)
    return replace(row, decision="remind", reminder_id=identity) if reason == "remind" else row


def _identity(row: Decision) -> str:
    """Section 7.2."""
    return reminder_id(row.customer_id, row.workflow, row.carrying_invoice_id, row.action, repetition=row.occurrence)


def _within_daily_maximum(account: Account, rows: list[Decision]) -> list[Decision]:
    """Of the invoice level so many reminders a day, oldest due first; those of the day keep their place (5.4)."""
    today = _reminders_of_today(account)
    taken = {contact.reminder_id for contact in today if contact.level == "invoice"}
    accepted_today = {contact.reminder_id for contact in today}
    waiting = {
        row.carrying_invoice_id
        for row in rows
        if row.level == "invoice" and row.decision == "remind" and row.reminder_id not in accepted_today
    }
    in_order = _oldest_first([row for row in account.unpaid if row.invoice.invoice_id in waiting], account.rules)
    free = max(0, account.rules.max_invoice_reminders - len(taken))
    beyond = {row.invoice.invoice_id for row in in_order[free:]}
    return [
        _beyond_maximum(row) if row.level == "invoice" and row.carrying_invoice_id in beyond else row for row in rows
    ]


def _beyond_maximum(row: Decision) -> Decision:
    return replace(row, decision="skip", reason="contact_cap", reminder_id=None)
