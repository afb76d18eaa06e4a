"""The facts of an explanation, as plain values, read from a scratch warehouse in which the day was derived.

No rule is applied and no sentence made here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import duckdb

from dunning_pipeline import sql
from dunning_pipeline.policy import Policy, Workflow
from dunning_pipeline.tables import BALANCES, CARRYING_INVOICES, CUSTOMER_KEYS, CUSTOMERS, OPEN_INVOICES, Table

Record = TypeVar("Record")


@dataclass(frozen=True)
class Customer:
    """The customer; all but id and key empty where no source has it any more."""

    customer_id: str
    customer_key: int
    name: str | None
    email: str | None
    phone: str | None
    external_id: str | None
    country: str | None


@dataclass(frozen=True)
class Invoice:
    """An invoice of the customer, whether it counts or not; `open_minor` by what was known on the day."""

    invoice_id: str
    number: str
    issued_on: date
    due_on: date | None
    currency: str
    total_minor: int
    status: str
    recorded_on: date
    voided_on: date | None
    written_off_on: date | None
    disputed_on: date | None
    dispute_resolved_on: date | None
    missing_since: date | None
    source: str
    open_minor: int


@dataclass(frozen=True)
class OpenInvoice:
    """A row of `dunning.open_invoices`."""

    invoice_id: str
    number: str
    issued_on: date
    due_on: date
    currency: str
    total_minor: int
    open_minor: int
    days_overdue: int
    level: str
    paused: bool
    paused_by: str | None
    broken_promise: bool


@dataclass(frozen=True)
class Balance:
    """A row of `dunning.balances`."""

    currency: str
    net_minor: int
    unpaid_minor: int
    net_positive: bool
    chaseable: bool
    unclear: bool


@dataclass(frozen=True)
class Carrying:
    """A row of `dunning.carrying_invoices`."""

    as_of: date
    level: str
    invoice_id: str
    carrying_change: str | None
    previous_invoice_id: str | None


@dataclass(frozen=True)
class Payment:
    """Money received, credited or returned, known on the day; `unapplied` if it belongs to no invoice."""

    payment_id: str
    kind: str
    currency: str
    amount_minor: int
    paid_on: date
    invoice_id: str | None
    number: str | None
    unapplied: bool


@dataclass(frozen=True)
class Pause:
    """A pause in force on the day; without an end it is for ever."""

    pause_id: str
    source: str
    scope: str
    invoice_id: str | None
    paused_from: date
    paused_until: date | None


@dataclass(frozen=True)
class Promise:
    """A promise that stands on the day; without an invoice it covers everything."""

    promise_id: str
    source: str
    invoice_id: str | None
    promised_on: date
    pay_by: date
    pauses: bool


@dataclass(frozen=True)
class Assignment:
    """An assignment of the customer or of one of its invoices."""

    assignment_id: str
    source: str
    invoice_id: str | None
    workflow: str
    assigned_from: date
    assigned_until: date | None


@dataclass(frozen=True)
class Contact:
    """A contact up to the day. `kind`: accepted, unknown, rejected, not_delivered or recorded (by hand)."""

    contact_on: date
    kind: str
    level: str | None
    invoice_id: str | None
    number: str | None
    workflow: str | None
    action: str | None
    channel: str | None
    reminder_id: str | None
    error_detail: str | None
    lifted: bool


@dataclass(frozen=True)
class Decision:
    """A row of `dunning.decisions` or `dunning.batch_decisions`."""

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
    reason: str | None
    reminder_id: str | None

    @property
    def outcome(self) -> str:
        """`remind`, or the reason why not."""
        return self.reason or self.decision


@dataclass(frozen=True)
class Facts:
    """What was known on `day`, and what is derived of it.

    Open invoices have the oldest due date first; so do decisions, after the one of the customer level.
    """

    day: date
    policy: Policy
    customer: Customer
    invoices: tuple[Invoice, ...]
    open_invoices: tuple[OpenInvoice, ...]
    balances: tuple[Balance, ...]
    carrying: tuple[Carrying, ...]
    decisions: tuple[Decision, ...]
    payments: tuple[Payment, ...]
    pauses: tuple[Pause, ...]
    promises: tuple[Promise, ...]
    assignments: tuple[Assignment, ...]
    contacts: tuple[Contact, ...]
    last_order_event: date | None

    def invoice(self, invoice_id: str) -> Invoice | None:
        """The customer's invoice with this id."""
        return next((invoice for invoice in self.invoices if invoice.invoice_id == invoice_id), None)

    def number(self, invoice_id: str) -> str:
        """What to call an invoice: the number printed on it."""
        invoice = self.invoice(invoice_id)
        return invoice.number if invoice else invoice_id

    def workflow(self, decision: Decision) -> Workflow | None:
        """The workflow that a decision is under."""
        return self.policy.workflow(decision.workflow) if decision.workflow else None


def read_facts(connection: duckdb.DuckDBPyConnection, policy: Policy, customer: Customer, day: date) -> Facts:
    """Everything that is told of a customer's day, which must be derived already."""
    known = {"day": day, "customer_key": customer.customer_key}
    open_invoices = _derived(connection, OpenInvoice, OPEN_INVOICES, known, "due_on, invoice_id")
    decisions = read_decisions(connection, "dunning.decisions where as_of = $day", known)
    of_customer = {"day": day, "customer_id": customer.customer_id}
    return Facts(
        day=day,
        policy=policy,
        customer=customer,
        invoices=records(connection, Invoice, sql.load("explained_invoices"), known),
        open_invoices=open_invoices,
        balances=_derived(connection, Balance, BALANCES, known, "currency"),
        carrying=_derived(connection, Carrying, CARRYING_INVOICES, known, "level, due_on, invoice_id"),
        decisions=_by_due_date(decisions, open_invoices),
        payments=records(connection, Payment, sql.load("explained_payments"), known),
        pauses=records(connection, Pause, sql.load("explained_pauses"), known),
        promises=records(connection, Promise, sql.load("explained_promises"), known),
        assignments=records(connection, Assignment, sql.load("explained_assignments"), of_customer),
        contacts=records(connection, Contact, sql.load("explained_contacts"), of_customer),
        last_order_event=_last_order_event(connection, known),
    )


def _by_due_date(decisions: Sequence[Decision], open_invoices: Sequence[OpenInvoice]) -> tuple[Decision, ...]:
    place = {invoice.invoice_id: at for at, invoice in enumerate(open_invoices)}
    return tuple(sorted(decisions, key=lambda one: (one.level, place.get(one.carrying_invoice_id or "", -1))))


def read_customer(connection: duckdb.DuckDBPyConnection, customer_id: str) -> Customer:
    """What is known of a customer now: these columns have no dates (RULES 6)."""
    query = f"""
        select k.customer_id, k.customer_key, c.name, c.email, c.phone, c.external_id, c.country
        from {CUSTOMER_KEYS.qualified} as k left join {CUSTOMERS.qualified} as c using (customer_key)
        where k.customer_id = $customer_id
    """
    (customer,) = records(connection, Customer, query, {"customer_id": customer_id})
    return customer


def read_decisions(
    connection: duckdb.DuckDBPyConnection, stored: str, parameters: Mapping[str, object]
) -> tuple[Decision, ...]:
    """The customer's rows of a table of decisions, the customer-level one first; `stored` is table and condition."""
    columns = ", ".join(Decision.__dataclass_fields__)
    query = f"select {columns} from {stored} and customer_key = $customer_key order by level, carrying_invoice_id"
    return tuple(Decision(**row) for row in rows(connection, query, parameters))


def records(
    connection: duckdb.DuckDBPyConnection, record: type[Record], query: str, parameters: Mapping[str, object]
) -> tuple[Record, ...]:
    """The rows of a query as records whose fields are its columns."""
    return tuple(record(**row) for row in rows(connection, query, parameters))


def rows(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object]
) -> Sequence[dict[str, Any]]:
    """The rows of a query as plain values."""
    found: Sequence[dict[str, Any]] = connection.sql(query, params=dict(parameters)).to_arrow_table().to_pylist()
    return found


def _derived(
    connection: duckdb.DuckDBPyConnection, record: Any, table: Table, known: Mapping[str, object], order: str
) -> tuple[Any, ...]:
    columns = ", ".join(record.__dataclass_fields__)
    query = f"select {columns} from {table.qualified} where as_of = $day and customer_key = $customer_key"
    return records(connection, record, f"{query} order by {order}", known)


def _last_order_event(connection: duckdb.DuckDBPyConnection, known: Mapping[str, object]) -> date | None:
    query = f"select max(contact_on) as day from ({sql.load('order_events')}) where customer_key = $customer_key"
    (found,) = rows(connection, query, {"last": known["day"], "customer_key": known["customer_key"]})
    last: date | None = found["day"]
    return last
