"""The rules once more, as plainly as they can be written: one customer at a time, loops, dates and integers.

The pipeline is compared with this, so nothing of it belongs here, nor any library beyond the standard one.
Still missing: smart rules, invoice level, carrying_change, contact cap.
"""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "dunning_pipeline")
UNASSIGNED = "unassigned"
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
    """`kind`: accepted by Klaviyo, unknown (its day ended without an answer) or recorded by hand."""

    customer_id: str
    contacted_on: date
    carrying_invoice_id: str | None = None
    workflow: str | None = None
    action: str | None = None
    reminder_id: str | None = None
    kind: str = "accepted"
    recorded_on: date | None = None


@dataclass
class Ledger:
    customers: list[Customer] = field(default_factory=list)
    invoices: list[Invoice] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)


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
class Rules:
    """Settings of the policy file; `default` names the default workflow, weekdays count from Monday = 0.

    `holidays` are the organisation's. `customer_holidays`, by every country whose holidays are known, count instead
    for customers of these countries; None: nobody's country matters. What the policy file names to get these dates
    (`holiday_country`, `holiday_subdivision`) decides nothing here.
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


@dataclass(frozen=True)
class OpenInvoice:
    """A counting, unpaid invoice; `paused_by` is pause or promise when one holds it or its customer."""

    as_of: date
    invoice: Invoice
    open_minor: int
    paused_by: str | None
    broken_promise: bool = False

    @property
    def due_on(self) -> date:
        return self.invoice.due_on or self.invoice.issued_on

    @property
    def days_overdue(self) -> int:
        return max(0, (self.as_of - self.due_on).days)

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


@dataclass
class Account:
    """What one customer's rows said on `as_of`; rows recorded later are not in it."""

    as_of: date
    customer: Customer
    invoices: list[Invoice] = field(default_factory=list)
    applied: dict[str, list[Payment]] = field(default_factory=dict)
    unapplied: list[Payment] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)


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
    """One row per customer with an unpaid invoice, or with nothing left but invoices that vanished."""
    rows = (_decide_account(account, rules) for account in _accounts(ledger, as_of))
    return [row for row in rows if row is not None]


def carrying(ledger: Ledger, rules: Rules, as_of: date) -> dict[str, OpenInvoice]:
    """The carrying invoice by customer; customers without one are left out."""
    found = {account.customer.customer_id: _carrying(account, rules) for account in _accounts(ledger, as_of)}
    return {customer_id: invoice for customer_id, invoice in found.items() if invoice is not None}


def open_invoices(ledger: Ledger, rules: Rules, as_of: date) -> list[OpenInvoice]:
    """All unpaid counting invoices, paused ones included, by customer and invoice id."""
    rows = (row for account in _accounts(ledger, as_of) for row in _unpaid(account, rules))
    return sorted(rows, key=lambda row: (row.invoice.customer_id, row.invoice.invoice_id))


def simulate(ledger: Ledger, rules: Rules, first: date, last: date) -> list[Decision]:
    """The reminders sent when every day from `first` to `last` is decided and each of them is accepted."""
    ledger = replace(ledger, contacts=list(ledger.contacts))
    sent: list[Decision] = []
    for as_of in days(first, last):
        due = [row for row in decide(ledger, rules, as_of) if row.decision == "remind"]
        ledger.contacts += [accepted(row) for row in due]
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


def _accounts(ledger: Ledger, as_of: date) -> list[Account]:
    accounts: dict[str, Account] = {}

    def account(customer_id: str) -> Account:
        if customer_id not in accounts:
            accounts[customer_id] = Account(as_of, Customer(customer_id))
        return accounts[customer_id]

    for customer in ledger.customers:
        account(customer.customer_id).customer = customer
    for invoice in ledger.invoices:
        if _known(invoice.recorded_on, invoice.issued_on, as_of):
            account(invoice.customer_id).invoices.append(invoice)
    _add_payments(ledger, as_of, account)
    _add_pauses(ledger, as_of, account)
    for promise in ledger.promises:
        if _known(promise.recorded_on, promise.promised_on, as_of):
            account(promise.customer_id).promises.append(promise)
    for assignment in ledger.assignments:
        if _known(assignment.recorded_on, assignment.assigned_from, as_of):
            account(assignment.customer_id).assignments.append(assignment)
    for contact in ledger.contacts:
        if _known(contact.recorded_on, contact.contacted_on, as_of):
            account(contact.customer_id).contacts.append(contact)
    return [accounts[customer_id] for customer_id in sorted(accounts)]


def _known(recorded_on: date | None, own_date: date, as_of: date) -> bool:
    return (recorded_on or own_date) <= as_of


def _add_payments(ledger, as_of, account) -> None:
    owners = {invoice.invoice_id: invoice.customer_id for invoice in ledger.invoices}
    for payment in ledger.payments:
        known = payment.paid_on <= as_of and _known(payment.recorded_on, payment.paid_on, as_of)
        if not known or _is_positive_refund(payment):
            continue
        owner = owners.get(payment.invoice_id)
        if owner is None:
            account(payment.customer_id).unapplied.append(payment)
        else:
            account(owner).applied.setdefault(payment.invoice_id, []).append(payment)


def _is_positive_refund(payment: Payment) -> bool:
    return payment.kind in {"refund", "chargeback"} and payment.amount_minor > 0


def _add_pauses(ledger, as_of, account) -> None:
    owners = {invoice.invoice_id: invoice.customer_id for invoice in ledger.invoices}
    for pause in ledger.pauses:
        if not _known(pause.recorded_on, pause.paused_from, as_of):
            continue
        if pause.scope == "organisation":
            # Everybody with an invoice is concerned; the others get no row anyway.
            concerned = sorted(set(owners.values()))
        elif pause.scope == "invoice":
            concerned = [owners[pause.invoice_id]] if pause.invoice_id in owners else []
        else:
            concerned = [pause.customer_id]
        for customer_id in concerned:
            account(customer_id).pauses.append(pause)


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


def _is_unpaid(account: Account, invoice: Invoice, rules: Rules) -> bool:
    return _open_minor(account, invoice) > rules.tolerance.get(invoice.currency, 0)


def _unpaid(account: Account, rules: Rules) -> list[OpenInvoice]:
    return [
        OpenInvoice(
            account.as_of,
            invoice,
            _open_minor(account, invoice),
            _paused_by(account, invoice),
            _is_promise_broken(account, invoice),
        )
        for invoice in account.invoices
        if _counts(invoice, account.as_of) and _is_unpaid(account, invoice, rules)
    ]


def _has_vanished(account: Account, rules: Rules) -> bool:
    return any(
        _is_owed(invoice, account.as_of)
        and _is_vanished(invoice, account.as_of)
        and _is_unpaid(account, invoice, rules)
        for invoice in account.invoices
    )


def _net_by_currency(account: Account) -> dict[str, int]:
    """Section 1.4, over counting invoices whether paused or not."""
    net: dict[str, int] = defaultdict(int)
    for invoice in account.invoices:
        if _counts(invoice, account.as_of):
            net[invoice.currency] += _open_minor(account, invoice)
    for payment in account.unapplied:
        net[payment.currency] -= payment.amount_minor
    return net


def _owing_currencies(account: Account, rules: Rules) -> set[str]:
    """Currencies of unpaid, unpaused invoices in which the customer owes more than it has in credits."""
    net = _net_by_currency(account)
    return {row.invoice.currency for row in _unpaused(account, rules) if net[row.invoice.currency] > 0}


def _chaseable_currencies(account: Account, rules: Rules) -> set[str]:
    sums: dict[str, int] = defaultdict(int)
    for row in _unpaused(account, rules):
        sums[row.invoice.currency] += row.open_minor
    owing = _owing_currencies(account, rules)
    return {c for c in owing if c not in rules.minimum_amount or sums[c] >= rules.minimum_amount[c]}


def _unpaused(account: Account, rules: Rules) -> list[OpenInvoice]:
    return [row for row in _unpaid(account, rules) if not row.paused]


def _carrying(account: Account, rules: Rules) -> OpenInvoice | None:
    """Section 2.1."""
    chaseable = _chaseable_currencies(account, rules)
    candidates = [row for row in _unpaused(account, rules) if row.invoice.currency in chaseable]
    if not candidates:
        return None
    oldest = min(row.due_on for row in candidates)
    tied = [row for row in candidates if row.due_on == oldest]
    size = _comparable_totals(tied, rules)
    return min(tied, key=lambda row: (-size[row.invoice.invoice_id], row.invoice.invoice_id))


def _comparable_totals(tied: list[OpenInvoice], rules: Rules) -> dict[str, Fraction]:
    rates = {rules.base_currency: Fraction(1)}
    rates |= {currency: Fraction(rate) for currency, rate in rules.exchange_rates.items()}
    all_rated = all(row.invoice.currency in rates for row in tied)
    return {
        row.invoice.invoice_id: _major_units(row.invoice) * (rates[row.invoice.currency] if all_rated else 1)
        for row in tied
    }


def _major_units(invoice: Invoice) -> Fraction:
    return Fraction(invoice.total_minor, 10 ** MINOR_DIGITS.get(invoice.currency, 2))


def _workflow(account: Account, rules: Rules) -> tuple[Workflow | None, str | None]:
    """The workflow and `assigned_by` (3.1); an assignment is shown also when it leaves no workflow."""
    by_name = {workflow.name: workflow for workflow in rules.workflows}
    assignment = _assignment_in_force(account)
    if assignment is not None:
        workflow = None if assignment.workflow == UNASSIGNED else by_name.get(assignment.workflow)
        return workflow, f"assignment:{assignment.assignment_id}"
    if rules.default is None:
        return None, None
    return by_name[rules.default], "default"


def _assignment_in_force(account: Account) -> Assignment | None:
    """Section 3.1."""
    in_force = [
        assignment
        for assignment in account.assignments
        if assignment.invoice_id is None
        and _is_within(assignment.assigned_from, account.as_of, assignment.assigned_until)
    ]
    return max(in_force, key=lambda a: (a.assigned_from, a.assignment_id), default=None)


def _calendar(customer: Customer, rules: Rules) -> Calendar:
    """A customer whose country is unknown or has no known holidays has the organisation's."""
    by_country = rules.customer_holidays or {}
    return Calendar(rules.working_days, by_country.get(customer.country, rules.holidays))


def _next_step(account: Account, workflow: Workflow, invoice: Invoice, rules: Rules) -> Step | None:
    """The next action, or the last one once more; None: the ladder is completed (4.2 to 4.6)."""
    last = _last_executed_position(account, workflow, invoice)
    if workflow.actions and last == len(workflow.actions):
        return _repetition(account, workflow, invoice)
    steps = [step for step in _unexpired_steps(account, workflow, invoice, rules) if step.position > last]
    if workflow.logic == "contextual":
        reached = [step for step in steps if step.trigger_on <= account.as_of]
        steps = reached[-1:] or steps
    return steps[0] if steps else None


def _unexpired_steps(account: Account, workflow: Workflow, invoice: Invoice, rules: Rules) -> list[Step]:
    """The actions that did not expire on the anchor, executed or not (4.3)."""
    anchor = _anchor(workflow, invoice)
    calendar = _calendar(account.customer, rules)
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


def _last_contact_on(account: Account, rules: Rules) -> date | None:
    invoice_level = {workflow.name for workflow in rules.workflows if workflow.carried_by == "invoice"}
    dates = [c.contacted_on for c in _looked_at(account) if c.workflow not in invoice_level]
    return max(dates, default=None)


def _allowed_from(last_contact_on: date | None, workflow: Workflow, as_of: date) -> date:
    """The first day on which the minimum contact delay allows a reminder."""
    if last_contact_on is None:
        return date.min
    delay = workflow.minimum_contact_delay
    if last_contact_on == as_of:
        delay = max(1, delay)
    return last_contact_on + timedelta(days=delay)


def _reminded_today(account: Account) -> set[str | None]:
    """Reminders of the day itself: one that was perhaps accepted holds another like one that surely was (5.2, 5.4)."""
    return {
        contact.reminder_id
        for contact in account.contacts
        if contact.kind != "recorded" and contact.contacted_on == account.as_of
    }


def _paused_by(account: Account, invoice: Invoice) -> str | None:
    """Pauses and promises of the invoice or of its customer (6.1, 6.2); the organisation's pause no invoice."""
    if any(_is_paused(pause, invoice) for pause in _active_pauses(account)):
        return "pause"
    if any(promise.invoice_id in {None, invoice.invoice_id} for promise in _running_promises(account)):
        return "promise"
    return None


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


def _pause_reason(account: Account, rules: Rules) -> str | None:
    scopes = {pause.scope for pause in _active_pauses(account)}
    holders = [row.paused_by for row in _unpaid(account, rules)]
    if rules.organisation_paused or "organisation" in scopes:
        return "organisation_paused"
    if all(holder == "pause" for holder in holders):
        return "customer_paused"
    if all(holder is not None for holder in holders):
        return "promise_to_pay"
    return None


def _balance_reason(account: Account, rules: Rules) -> str | None:
    if not _owing_currencies(account, rules):
        return "net_balance_not_positive"
    if not _chaseable_currencies(account, rules):
        return "below_minimum_amount"
    return None


def _has_contact_address(customer: Customer, rules: Rules) -> bool:
    """Section 6.4."""
    values = {name: getattr(customer, name) or "" for name in rules.identify_by}
    return any(_VALID[name].fullmatch(value) for name, value in values.items())


def _standing_reason(account: Account, workflow: Workflow | None, rules: Rules) -> str | None:
    """The first reason that holds whatever action is next."""
    if not _unpaid(account, rules):
        return "source_unclear"
    if workflow is None:
        return "no_workflow"
    if not workflow.actions:
        return "empty_workflow"
    reason = _pause_reason(account, rules) or _balance_reason(account, rules)
    if reason is None and not _has_contact_address(account.customer, rules):
        return "no_contact_address"
    return reason


def _timing_reason(step: Step, allowed_from: date, as_of: date, calendar: Calendar) -> str | None:
    if step.trigger_on > as_of:
        return "waiting_for_trigger"
    if allowed_from > as_of:
        return "minimum_contact_delay"
    if not calendar.includes(as_of):
        return "non_working_day"
    return None


def _decide_account(account: Account, rules: Rules) -> Decision | None:
    if not _unpaid(account, rules) and not _has_vanished(account, rules):
        return None
    workflow, assigned_by = _workflow(account, rules)
    carrier = _carrying(account, rules)
    step = _next_step(account, workflow, carrier.invoice, rules) if workflow and carrier else None
    row = Decision(
        as_of=account.as_of,
        customer_id=account.customer.customer_id,
        level="customer",
        carrying_invoice_id=carrier.invoice.invoice_id if carrier else None,
        workflow=workflow.name if workflow else None,
        assigned_by=assigned_by,
        action=step.action.name if step else None,
        action_position=step.position if step else None,
        occurrence=step.occurrence if step else None,
        trigger_on=step.trigger_on if step else None,
        last_contact_on=_last_contact_on(account, rules),
        next_due_on=None,
        decision="skip",
        reason="",
        reminder_id=None,
    )
    reason = _standing_reason(account, workflow, rules)
    if reason is not None:
        return replace(row, reason=reason)
    if step is None:
        return replace(row, reason="workflow_completed")
    return _time(account, row, workflow, step, rules)


def _time(account: Account, row: Decision, workflow: Workflow, step: Step, rules: Rules) -> Decision:
    as_of, calendar = account.as_of, _calendar(account.customer, rules)
    allowed_from = _allowed_from(row.last_contact_on, workflow, as_of)
    reason = _timing_reason(step, allowed_from, as_of, calendar)
    if reason is None:
        identity = reminder_id(
            row.customer_id,
            workflow.name,
            row.carrying_invoice_id,
            step.action.name,
            repetition=step.occurrence,
        )
        sent = _reminded_today(account)
        if not sent or identity in sent:
            return replace(row, decision="remind", reason="remind", next_due_on=as_of, reminder_id=identity)
        reason, row = "minimum_contact_delay", replace(row, last_contact_on=as_of)
        allowed_from = _allowed_from(as_of, workflow, as_of)
    next_due_on = calendar.forward(max(step.trigger_on, allowed_from, as_of))
    return replace(row, reason=reason, next_due_on=next_due_on)
