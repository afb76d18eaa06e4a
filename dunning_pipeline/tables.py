"""Every table of the warehouse, declared once: columns, types, keys, meaning.

DDL, Arrow schemas, pandera models and the metadata shown in Dagster's UI are made from these declarations.
No SQL is run and no rule is applied here.
"""

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, partial

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa


class Kind(Enum):
    """The kinds of value a column can hold."""

    TEXT = "text"
    DATE = "date"
    INSTANT = "instant"
    MONEY = "money"
    INTEGER = "integer"
    BOOLEAN = "boolean"

    @property
    def sql(self) -> str:
        """The DuckDB type."""
        return _SQL_TYPES[self]

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type."""
        return _ARROW_TYPES[self]


_SQL_TYPES = {
    Kind.TEXT: "VARCHAR",
    Kind.DATE: "DATE",
    Kind.INSTANT: "TIMESTAMPTZ",
    Kind.MONEY: "BIGINT",
    Kind.INTEGER: "BIGINT",
    Kind.BOOLEAN: "BOOLEAN",
}

_ARROW_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.DATE: pa.date32(),
    Kind.INSTANT: pa.timestamp("us", tz="UTC"),
    Kind.MONEY: pa.int64(),
    Kind.INTEGER: pa.int64(),
    Kind.BOOLEAN: pa.bool_(),
}


@dataclass(frozen=True)
class Column:
    """One column. `incoming` columns are what a source mapping yields; the others are filled by the pipeline.

    Money columns are int64 minor units named `…_minor`; the mapping yields them as `…` in decimals. `default` is
    an SQL expression over the table's columns that fills the column where it is empty. `id_of` names the key column
    whose id this is: derived rows come without ids, which the warehouse looks up when it writes them. `compression` is
    DuckDB's where its own choice is a bad one.
    """

    kind: Kind
    name: str
    meaning: str
    required: bool = False
    allowed: tuple[str, ...] = ()
    default: str | None = None
    incoming: bool = False
    id_of: str | None = None
    compression: str | None = None

    @property
    def incoming_name(self) -> str:
        """The name under which a mapping yields this column: `total` for `total_minor`."""
        return self.name.removesuffix("_minor") if self.kind is Kind.MONEY else self.name


@dataclass(frozen=True)
class RowRule:
    """A row for which `broken` (SQL over the table's columns) holds is rejected with `reason`."""

    broken: str
    reason: str


@dataclass(frozen=True)
class Table:
    """One table: `schema.name`, its columns in order and the columns that identify a row."""

    schema: str
    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    custom_columns: bool = False
    row_rules: tuple[RowRule, ...] = ()

    @property
    def qualified(self) -> str:
        """The name to use in SQL: `dunning.decisions`."""
        return f"{self.schema}.{self.name}"

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns in declared order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column with this name. Raises KeyError when there is none."""
        return {column.name: column for column in self.columns}[name]

    @cached_property
    def incoming(self) -> tuple[Column, ...]:
        """The columns that a source mapping yields."""
        return tuple(column for column in self.columns if column.incoming)

    @cached_property
    def keyed(self) -> "Table":
        """The table as rows are derived: known by integer keys, without the ids that these stand for."""
        ids = {column.name: column.id_of for column in self.columns if column.id_of}
        return replace(
            self,
            key=tuple(ids.get(name) or name for name in self.key),
            columns=tuple(column for column in self.columns if column.name not in ids),
        )

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema in which frames are written."""
        return pa.schema([(column.name, column.kind.arrow) for column in self.columns])

    @cached_property
    def frame_schema(self) -> pandera.DataFrameSchema:
        """The pandera schema that frames are checked with before they are written."""
        return pandera.DataFrameSchema(
            {
                column.name: pandera.Column(
                    dtype=None,
                    nullable=not column.required,
                    checks=[pandera.Check.isin(column.allowed)] if column.allowed else [],
                )
                for column in self.columns
            },
            unique=list(self.key),
            strict="filter",
            name=self.qualified,
        )

    def ddl(self) -> str:
        """`create table if not exists …` with the declared types."""
        columns = ", ".join(f'"{column.name}" {column.kind.sql}{_compression(column)}' for column in self.columns)
        return f"create table if not exists {self.qualified} ({columns})"

    def empty_frame(self) -> pd.DataFrame:
        """A frame with the declared columns and no rows."""
        return self.arrow_schema.empty_table().to_pandas(date_as_object=False)


def _compression(column: Column) -> str:
    return f" using compression {column.compression}" if column.compression else ""


_text = partial(Column, Kind.TEXT)
_date = partial(Column, Kind.DATE)
_instant = partial(Column, Kind.INSTANT)
_money = partial(Column, Kind.MONEY)
_integer = partial(Column, Kind.INTEGER)
_boolean = partial(Column, Kind.BOOLEAN)


def _incoming(*columns: Column) -> tuple[Column, ...]:
    return tuple(replace(column, incoming=True) for column in columns)


MANUAL = "manual"
"""The `source` of rows that people recorded by hand."""

_SOURCE = _text("source", "name of the source in the policy, or `manual`", required=True)
_CUSTOMER_KEY = _integer("customer_key", "integer stand-in for customer_id; rules join on it", required=True)
_INVOICE_KEY = _integer("invoice_key", "integer stand-in for invoice_id; rules join on it", required=True)
_INVOICE_KEY_OPTIONAL = _integer("invoice_key", "integer stand-in for invoice_id; empty without an invoice")
_ORDER_KEY = _integer("order_key", "integer stand-in for order_id; rules join on it", required=True)
_AS_OF = _date("as_of", "the day the row was derived for", required=True)
_RUN_ID = _text("run_id", "the run that derived the row", required=True)
_LEVEL = _text("level", "customer or invoice", required=True, allowed=("customer", "invoice"))

CUSTOMERS = Table(
    "source",
    "customers",
    "Who is billed, and where they can be reached.",
    ("customer_id",),
    _incoming(
        _text("customer_id", "id in the billing system", required=True),
        _text("name", "name to address the customer by"),
        _text("email", "e-mail address"),
        _text("phone", "telephone number in E.164 form"),
        _text("external_id", "the customer's external_id in Klaviyo"),
        _text("country", "ISO 3166 country code"),
        _text("language", "language for display texts, e.g. `de` or `fr_CA`"),
        _text("currency", "ISO 4217 code the customer is usually billed in"),
        _text("tags", "JSON list or comma-separated"),
        _instant("created_at", "when the customer was created"),
        _instant("updated_at", "when the customer last changed"),
    )
    + (_SOURCE, _CUSTOMER_KEY),
    custom_columns=True,
)

INVOICES = Table(
    "source",
    "invoices",
    "What was billed; amounts in minor units of the currency.",
    ("invoice_id",),
    _incoming(
        _text("invoice_id", "id in the billing system", required=True),
        _text("customer_id", "who owes it", required=True),
        _text("number", "the number printed on it; invoice_id when empty"),
        _date("issued_on", "date of issue", required=True),
        _date("due_on", "date due; the issue date stands in when empty"),
        _text("currency", "ISO 4217 code", required=True),
        _money("total_minor", "original total", required=True),
        _money("outstanding_minor", "what is left, of systems that tell no payments; a change becomes an observed one"),
        _text(
            "status",
            "state in the billing system",
            allowed=("draft", "open", "void", "written_off"),
            default="'open'",
        ),
        _date("recorded_on", "day it became known; issued_on when empty", default="issued_on"),
        _date("voided_on", "day it was voided"),
        _date("written_off_on", "day it was written off"),
        _date("disputed_on", "day the customer disputed it"),
        _date("dispute_resolved_on", "day the dispute ended"),
        _text("pay_url", "where it can be paid"),
        _instant("updated_at", "when it last changed"),
    )
    + (
        _date("missing_since", "day from which a source that lists all open invoices no longer showed it"),
        _SOURCE,
        _CUSTOMER_KEY,
        _INVOICE_KEY,
    ),
)

PAYMENTS = Table(
    "source",
    "payments",
    "Money received, credited or returned; refunds and chargebacks are negative.",
    ("payment_id",),
    _incoming(
        _text("payment_id", "id in the billing system", required=True),
        _text("customer_id", "who paid", required=True),
        _text("invoice_id", "what it was applied to; empty: unapplied"),
        _text(
            "kind",
            "payment, credit_note, refund or chargeback",
            allowed=("payment", "credit_note", "refund", "chargeback"),
            default="'payment'",
        ),
        _text("currency", "ISO 4217 code", required=True),
        _money("amount_minor", "amount, negative for refunds and chargebacks", required=True),
        _date("paid_on", "value date", required=True),
        _date("recorded_on", "day it became known; paid_on when empty", default="paid_on"),
        _instant("updated_at", "when it last changed"),
    )
    + (_SOURCE, _CUSTOMER_KEY, _INVOICE_KEY_OPTIONAL),
    row_rules=(
        RowRule("kind in ('refund', 'chargeback') and amount_minor > 0", "refunds and chargebacks are negative"),
    ),
)

PAUSES = Table(
    "source",
    "pauses",
    "Nobody is reminded from paused_from up to the day before paused_until.",
    ("pause_id",),
    _incoming(
        _text("pause_id", "id of the pause", required=True),
        _text("scope", "what is paused", required=True, allowed=("organisation", "customer", "invoice")),
        _text("customer_id", "who is paused"),
        _text("invoice_id", "which invoice is paused"),
        _date("paused_from", "first day", required=True),
        _date("paused_until", "day on which work resumes; empty: for ever"),
        _date("recorded_on", "day it became known; paused_from when empty", default="paused_from"),
    )
    + (
        _SOURCE,
        _integer("customer_key", "integer stand-in for customer_id"),
        _INVOICE_KEY_OPTIONAL,
    ),
    row_rules=(
        RowRule("scope = 'customer' and customer_id is null", "a pause of a customer needs a customer_id"),
        RowRule("scope = 'invoice' and invoice_id is null", "a pause of an invoice needs an invoice_id"),
        RowRule("paused_until <= paused_from", "paused_until must be later than paused_from"),
    ),
)

PROMISES = Table(
    "source",
    "promises",
    "Promises to pay; what they cover is paused up to and including pay_by.",
    ("promise_id",),
    _incoming(
        _text("promise_id", "id of the promise", required=True),
        _text("customer_id", "who promised", required=True),
        _text("invoice_id", "what was promised; empty: everything"),
        _date("promised_on", "day of the promise", required=True),
        _date("pay_by", "last day the promise can be kept", required=True),
        _boolean("pauses", "whether reminders stop meanwhile", default="true"),
        _date("withdrawn_on", "day it was withdrawn"),
        _date("recorded_on", "day it became known; promised_on when empty", default="promised_on"),
    )
    + (_SOURCE, _CUSTOMER_KEY, _INVOICE_KEY_OPTIONAL),
    row_rules=(RowRule("pay_by < promised_on", "pay_by must not be before promised_on"),),
)

ASSIGNMENTS = Table(
    "source",
    "assignments",
    "Workflows assigned to customers by name, from a day on.",
    ("assignment_id",),
    _incoming(
        _text("assignment_id", "id of the assignment", required=True),
        _text("customer_id", "who is assigned", required=True),
        _text("invoice_id", "which invoice is assigned; empty: the customer"),
        _text("workflow", "name of a workflow, or `unassigned`", required=True),
        _date("assigned_from", "first day", required=True),
        _date("assigned_until", "day on which it ends; empty: for ever"),
        _date("recorded_on", "day it became known; assigned_from when empty", default="assigned_from"),
    )
    + (_SOURCE, _CUSTOMER_KEY, _INVOICE_KEY_OPTIONAL),
)

CONTACTS = Table(
    "source",
    "contacts",
    "Contacts made outside this pipeline: a call, a letter, history of another system.",
    ("contact_id",),
    _incoming(
        _text("contact_id", "id of the contact", required=True),
        _text("customer_id", "who was contacted", required=True),
        _date("contacted_on", "day of the contact", required=True),
        _text("invoice_id", "which invoice it was about"),
        _text("workflow", "the workflow whose action it executes"),
        _text("action", "the action it executes"),
        _text("channel", "call, letter, e-mail …"),
        _date("recorded_on", "day it became known; contacted_on when empty", default="contacted_on"),
    )
    + (_SOURCE, _CUSTOMER_KEY, _INVOICE_KEY_OPTIONAL),
)

CUSTOMER_LINKS = Table(
    "source",
    "customer_links",
    "Customers of billing and of the shop who are the same person (RULES 8.9).",
    ("customer_id",),
    _incoming(
        _text("customer_id", "id in the billing system or in the shop", required=True),
        _text("person_id", "the person; the same for all of its customers", required=True),
    )
    + (_SOURCE, _CUSTOMER_KEY),
)

ORDERS = Table(
    "source",
    "orders",
    "Orders of the shop as they were seen last; amounts in minor units of what the customer pays in.",
    ("order_id",),
    _incoming(
        _text("order_id", "id in the shop", required=True),
        _text("name", "the name shown to the customer, such as #1031", required=True),
        _text("customer_id", "who ordered; empty: a guest"),
        _text("customer_name", "name to address the customer by"),
        _text("email", "e-mail address of the order"),
        _text("phone", "telephone number in E.164 form"),
        _text("language", "language for display texts, e.g. `de` or `fr_CA`"),
        _text("currency", "ISO 4217 code the customer pays in", required=True),
        _money("total_minor", "total after all edits", required=True),
        _money("outstanding_minor", "what the customer still owes; negative: a refund is owed", required=True),
        _money("received_minor", "what was paid so far"),
        _text("financial_status", "payment, such as paid or partially_paid"),
        _text("fulfillment_status", "fulfilment, such as unfulfilled, partially_fulfilled or fulfilled"),
        _instant("created_at", "when it was placed"),
        _instant("paid_at", "when it was paid"),
        _instant("fulfilled_at", "when it was fulfilled wholly"),
        _instant("cancelled_at", "when it was cancelled"),
        _text("replaces_order_id", "the order that it was created in place of"),
        _text("pay_url", "where what is outstanding can be paid"),
        _text("status_url", "where the customer sees the order"),
        _instant("updated_at", "when it last changed"),
    )
    + (
        _date("missing_since", "day from which a source that lists all orders no longer showed it"),
        _SOURCE,
        _integer("customer_key", "integer stand-in for customer_id; empty without a customer"),
        _ORDER_KEY,
    ),
)

ORDER_EDITS = Table(
    "source",
    "order_edits",
    "What was done to orders after they were placed, and by whom (RULES 8.1).",
    ("edit_id",),
    _incoming(
        _text("edit_id", "id of the edit", required=True),
        _text("order_id", "the order", required=True),
        _instant("edited_at", "when it was made", required=True),
        _text("edited_by", "the party that made it, such as customer_portal, or other"),
        _text("app_title", "what the source tells of who made it: the title of an app, or a party"),
        _text("kind", "such as order_edit, refund, return or replacement"),
        _text("changes", "what it changed: JSON list of {title, quantity, amount}, less than 0 if taken out"),
        _text("currency", "ISO 4217 code of outstanding_after"),
        _money("outstanding_after_minor", "what was outstanding after it"),
    )
    + (_instant("seen_at", "when a pull saw it first; never before it was made"), _SOURCE, _ORDER_KEY),
)

ORDER_OBSERVATIONS = Table(
    "source",
    "order_observations",
    "What pulls saw of each order, whenever it had changed or been edited since (RULES 8.1). Append-only.",
    ("order_id", "observed_at"),
    (
        _text("order_id", "the order", required=True),
        _instant("observed_at", "when it was seen so: never before what was seen had happened", required=True),
        _text("currency", "ISO 4217 code", required=True),
        _money("outstanding_minor", "what was outstanding", required=True),
        _text("financial_status", "payment"),
        _text("fulfillment_status", "fulfilment"),
        _instant("cancelled_at", "when it had been cancelled"),
        _SOURCE,
        _ORDER_KEY,
        _text("run_id", "the run that saw it", required=True),
    ),
)

CUSTOMER_KEYS = Table(
    "source",
    "customer_keys",
    "Integer keys of customer ids, given once and never reused.",
    ("customer_id",),
    (_text("customer_id", "id in the billing system", required=True), _CUSTOMER_KEY),
)

INVOICE_KEYS = Table(
    "source",
    "invoice_keys",
    "Integer keys of invoice ids, given once and never reused.",
    ("invoice_id",),
    (_text("invoice_id", "id in the billing system", required=True), _INVOICE_KEY),
)

ORDER_KEYS = Table(
    "source",
    "order_keys",
    "Integer keys of order ids, given once and never reused.",
    ("order_id",),
    (_text("order_id", "id in the shop", required=True), _ORDER_KEY),
)

REJECTED_ROWS = Table(
    "source",
    "rejected_rows",
    "Rows of the newest pull that could not be taken over, each with its reason.",
    (),
    (
        _SOURCE,
        _text("table", "the source table they were meant for", required=True),
        _text("row", "the row as JSON, as it came", required=True),
        _text("reason", "why it was rejected", required=True),
        _text("run_id", "the run that pulled it", required=True),
        _instant("pulled_at", "when it was pulled", required=True),
    ),
)

WATERMARKS = Table(
    "source",
    "watermarks",
    "How far each table of each source was pulled last.",
    ("source", "table"),
    (
        _text("source", "name of the source in the policy", required=True),
        _text("table", "the source table", required=True),
        _text("watermark", "kind and value from which the next pull goes on; empty: everything is pulled each time"),
        _text("settings_hash", "of the settings it was read by; others make the next pull a full one", required=True),
        _text("columns", "columns that the source yielded, a line each", required=True),
        _instant("pulled_at", "when it was pulled", required=True),
        _instant("newest_at", "of when what it yielded is: the time of the pull, or of the newest file", required=True),
        _text("run_id", "the run that pulled it", required=True),
    ),
)

OPEN_INVOICES = Table(
    "dunning",
    "open_invoices",
    "Unpaid invoices of a day that count (RULES 1.1 to 1.3), paused ones included.",
    ("as_of", "invoice_id"),
    (
        _AS_OF,
        _text("customer_id", "who owes it", required=True, id_of="customer_key"),
        _text("invoice_id", "the invoice", required=True, id_of="invoice_key"),
        _text("number", "the number printed on it", required=True, id_of="invoice_key"),
        _date("issued_on", "date of issue", required=True),
        _date("due_on", "date due, or the issue date", required=True),
        _text("currency", "ISO 4217 code", required=True),
        _money("total_minor", "original total", required=True),
        _money("open_minor", "open balance on the day", required=True),
        _integer("days_overdue", "days since the due date; 0 up to it", required=True),
        _LEVEL,
        _text("workflow", "the invoice's own workflow; empty at the customer level, or when it has none"),
        _text("assigned_by", "`rule:<name>` or `assignment:<id>`; empty at the customer level"),
        _boolean("paused", "whether a pause or a promise keeps it out", required=True),
        _text("paused_by", "what keeps it out", allowed=("pause", "promise")),
        _boolean("broken_promise", "whether the promise that covered it was broken (RULES 6.2)", required=True),
        _CUSTOMER_KEY,
        _INVOICE_KEY,
        _RUN_ID,
    ),
)

BALANCES = Table(
    "dunning",
    "balances",
    "What a customer owes per currency with an unpaid invoice on a day (RULES 1.4, 6.3).",
    ("as_of", "customer_id", "currency"),
    (
        _AS_OF,
        _text("customer_id", "who owes", required=True, id_of="customer_key"),
        _text("currency", "ISO 4217 code", required=True),
        _money("net_minor", "open balances of all counting invoices less unapplied payments", required=True),
        _money("unpaid_minor", "open balances of unpaid, unpaused invoices", required=True),
        _boolean("net_positive", "whether something can be chased: net > 0 and an unpaused invoice", required=True),
        _boolean("chaseable", "net_positive, and the minimum amount is reached", required=True),
        _boolean("unclear", "only vanished invoices are left (RULES 1.1)", required=True),
        _CUSTOMER_KEY,
        _RUN_ID,
    ),
)

CARRYING_INVOICES = Table(
    "dunning",
    "carrying_invoices",
    "The invoice whose due date times reminders on a day: one a customer, or each of its own workflow (RULES 2).",
    ("as_of", "customer_id", "level", "invoice_id"),
    (
        _AS_OF,
        _text("customer_id", "who owes it", required=True, id_of="customer_key"),
        _LEVEL,
        _text("invoice_id", "the carrying invoice", required=True, id_of="invoice_key"),
        _date("issued_on", "its date of issue", required=True),
        _date("due_on", "its due date, or issue date", required=True),
        _text("currency", "ISO 4217 code", required=True),
        _money("total_minor", "original total", required=True),
        _money("open_minor", "open balance on the day", required=True),
        _text(
            "carrying_change",
            "why it carries and did not the day before; empty: unchanged",
            allowed=("first", "paid", "excluded", "older_invoice", "reopened"),
        ),
        _text(
            "previous_invoice_id", "what carried the day before, where that was another", id_of="previous_invoice_key"
        ),
        _CUSTOMER_KEY,
        _INVOICE_KEY,
        _integer("previous_invoice_key", "integer stand-in for previous_invoice_id"),
        _RUN_ID,
    ),
)

REASONS = (
    "source_unclear",
    "no_workflow",
    "empty_workflow",
    "organisation_paused",
    "customer_paused",
    "promise_to_pay",
    "net_balance_not_positive",
    "below_minimum_amount",
    "no_contact_address",
    "workflow_completed",
    "waiting_for_trigger",
    "minimum_contact_delay",
    "contact_cap",
    "non_working_day",
    "rejected",
)

_DECISION_COLUMNS = (
    _AS_OF,
    _text("customer_id", "whom the decision is about", required=True, id_of="customer_key"),
    _LEVEL,
    _text("carrying_invoice_id", "the carrying invoice; empty when none carries", id_of="invoice_key"),
    _text("workflow", "the workflow in force; empty when none"),
    _text("assigned_by", "`default`, `rule:<name>` or `assignment:<id>`"),
    _text("action", "the next action; empty when the workflow is completed"),
    _integer("action_position", "its place in the ladder, from 1"),
    _integer("occurrence", "how often the action comes up for this invoice, from 1"),
    _date("trigger_on", "day from which the action is reached"),
    _date("last_contact_on", "day of the latest contact before this decision"),
    _date("next_due_on", "day on which the action will be due if nothing changes"),
    _text("decision", "remind or skip", required=True, allowed=("remind", "skip")),
    _text("reason", "why not; empty for remind", allowed=REASONS),
    _text("reminder_id", "id of the reminder; Klaviyo's unique_id"),
    _CUSTOMER_KEY,
    _integer("invoice_key", "integer stand-in for carrying_invoice_id"),
    _RUN_ID,
)

DECISIONS = Table(
    "dunning",
    "decisions",
    "Who is reminded on a day, and why everybody else who owes is not (RULES 3 to 6).",
    ("as_of", "customer_id", "level", "carrying_invoice_id"),
    _DECISION_COLUMNS,
)

_REMINDER_IDENTITY = (
    _text("reminder_id", "UUIDv5; Klaviyo's unique_id (RULES 7.2)", required=True),
    _text("stream", "invoice or order", required=True, allowed=("invoice", "order")),
    _text("batch_id", "the run that decided it", required=True),
    _text("customer_id", "who is reminded"),
    _text("level", "customer or invoice; empty on the order side", allowed=("customer", "invoice")),
    _text("carrying_invoice_id", "the invoice that timed it"),
    _text("order_id", "the order, on the order side"),
    _text("first_edit_id", "the edit that began the order's series, on the order side"),
    _text("workflow", "the workflow"),
    _text("action", "the action"),
    _integer("occurrence", "repetition of the action, from 1", required=True),
    _integer("customer_key", "integer stand-in for customer_id; always there on the invoice side"),
    _integer("invoice_key", "integer stand-in for carrying_invoice_id"),
)

REMINDERS = Table(
    "dunning",
    "reminders",
    "Reminders of a batch with the exact body that is sent. Append-only.",
    ("batch_id", "reminder_id"),
    (
        *_REMINDER_IDENTITY,
        _AS_OF,
        _text("metric", "name of the Klaviyo metric", required=True),
        _text("body", "the frozen event as JSON: one entry of a bulk request", required=True, compression="zstd"),
        _instant("planned_at", "when it was frozen", required=True),
    ),
)

OUTCOMES = (
    "attempting",
    "accepted",
    "rejected",
    "unknown",
    "not_delivered",
    "superseded",
    "dropped",
)

SENT_HISTORY = Table(
    "dunning",
    "sent_history",
    "What was tried and what came of it. Append-only; the only table that cannot be derived again.",
    ("reminder_id", "attempt", "outcome"),
    (
        *_REMINDER_IDENTITY,
        _integer("attempt", "number of the attempt over all batches, from 1", required=True),
        _text(
            "outcome",
            "what came of it; `attempting` is written before each call",
            required=True,
            allowed=OUTCOMES,
        ),
        _integer("http_status", "status of Klaviyo's answer"),
        _text("error_code", "Klaviyo's error code"),
        _text("error_detail", "Klaviyo's error in words"),
        _instant("attempted_at", "when the request left", required=True),
        _date("contact_on", "that day in the organisation's time zone", required=True),
    ),
)

ORDER_SERIES = Table(
    "dunning",
    "order_series",
    "Series of reminders about edited orders, each from the edit that began it to what ended it (RULES 8).",
    ("order_id", "series"),
    (
        _text("order_id", "the order", required=True, id_of="order_key"),
        _integer("series", "which series of the order it is, from 1", required=True),
        _text("first_edit_id", "the edit that began it", required=True),
        _instant("started_at", "when a balance was first seen after that edit", required=True),
        _money("outstanding_minor", "what was outstanding when the order was seen last", required=True),
        _text("currency", "ISO 4217 code", required=True),
        _instant("last_sent_at", "when its last event was sent; empty: none yet"),
        _integer("occurrences", "number of its last event that Klaviyo accepted; 0: none", required=True),
        _instant("next_due_at", "when the next event is due if nothing changes; empty: never"),
        _text(
            "state",
            "open, or what ended it; stopped: it gets no more events",
            required=True,
            allowed=("open", "paid", "refunded", "fulfilled", "cancelled", "replaced", "stopped"),
        ),
        _ORDER_KEY,
        _RUN_ID,
    ),
)

ORDER_REASONS = (
    "no_qualifying_edit",
    "before_start",
    "no_balance",
    "fulfilled",
    "cancelled",
    "replaced",
    "waiting",
    "quiet_hours",
    "max_reminders",
    "stopped",
    "no_contact_address",
    "source_unclear",
    "rejected",
)

ORDER_DECISIONS = Table(
    "dunning",
    "order_decisions",
    "Whether an event goes about an edited order, and why not; a row whenever that changes. Append-only.",
    ("order_id", "decided_at"),
    (
        _instant("decided_at", "when it was decided", required=True),
        _text("order_id", "the order", required=True, id_of="order_key"),
        _integer("series", "which series of the order it is, from 1; 0: none has begun", required=True),
        _text("decision", "remind or skip", required=True, allowed=("remind", "skip")),
        _text("reason", "why not; empty for remind", allowed=ORDER_REASONS),
        _instant("next_due_at", "when the next event is due if nothing changes; empty: never"),
        _integer("occurrence", "which event of the series it is or would be, from 1"),
        _text("reminder_id", "id of the event; Klaviyo's unique_id"),
        _ORDER_KEY,
        _RUN_ID,
    ),
)

STREAM_STARTS = Table(
    "dunning",
    "stream_starts",
    "When a stream was first run, dry and live: edits of orders before that start no series (RULES 8.1).",
    ("stream", "live"),
    (
        _text("stream", "invoice or order", required=True, allowed=("invoice", "order")),
        _boolean("live", "whether sending was switched on", required=True),
        _instant("started_at", "when it was first run so", required=True),
    ),
)

BATCHES = Table(
    "dunning",
    "batches",
    "Every batch of reminders; only the newest live one of a stream is ever sent.",
    ("batch_id",),
    (
        _text("batch_id", "id of the run that made it", required=True),
        _text("stream", "invoice or order", required=True, allowed=("invoice", "order")),
        _AS_OF,
        _text("run_id", "the Dagster run", required=True),
        _integer("size", "number of reminders", required=True),
        _boolean("live", "whether it may be sent", required=True),
        _text(
            "state",
            "how far it is",
            required=True,
            allowed=("dry_run", "planned", "sending", "sent", "superseded"),
        ),
        _text("policy_hash", "hash of the policy text it was decided by", required=True),
        _instant("created_at", "when it was frozen", required=True),
    ),
)

BATCH_DECISIONS = Table(
    "dunning",
    "batch_decisions",
    "The decisions of each live batch as they were made. Append-only.",
    ("batch_id", "customer_id", "level", "carrying_invoice_id"),
    (_text("batch_id", "the batch", required=True), *_DECISION_COLUMNS),
)

POLICIES = Table(
    "dunning",
    "policies",
    "Each policy text that a batch or a replay was decided by.",
    ("policy_hash",),
    (
        _text("policy_hash", "sha256 of the text", required=True),
        _text("text", "the policy file as it was", required=True),
        _instant("first_used_at", "when it was first used", required=True),
    ),
)

RETRIES = Table(
    "dunning",
    "retries",
    "Rejected reminders that may be decided again (RULES 6.5). Append-only.",
    (),
    (
        _text("reminder_id", "the rejected reminder", required=True),
        _instant("retried_at", "when somebody said so; rejections before it no longer hold", required=True),
    ),
)

HISTORY_FILES = Table(
    "dunning",
    "history_files",
    "What of the history is in files under history/, so that the next run finds what is not.",
    (),
    (
        _text("name", "a file whose rows this warehouse knows; empty where rows are counted"),
        _text("table", "the table of which rows are counted"),
        _integer("covered", "how many rows of that table are in files"),
        _instant("kept_at", "when the files were written or compared", required=True),
    ),
)

CHANGES = Table(
    "dunning",
    "changes",
    "Each pull and each recording by hand, in order: whether a batch may not know something (RULES 9.4). Append-only.",
    ("number",),
    (
        _integer("number", "its place in the order, from 1", required=True),
        _text("cause", "what was written", required=True),
        _text("run_id", "the Dagster run that pulled it; empty when it was recorded by hand"),
    ),
)

REPLAYS = Table(
    "dunning",
    "replays",
    "Every replay of a policy over past days; what it would have sent is in dunning.replay_reminders.",
    ("replay_id",),
    (
        _text("replay_id", "id of the replay", required=True),
        _date("first_day", "first day that was replayed", required=True),
        _date("last_day", "last day that was replayed", required=True),
        _text("policy_hash", "hash of the policy text that was replayed", required=True),
        _integer("reminders", "number of reminders", required=True),
        _integer("chaseable_customers", "customers that had something chaseable on one of the days", required=True),
        _integer("never_reached", "those of them that got no reminder", required=True),
        _instant("created_at", "when it was made", required=True),
        _text("run_id", "the Dagster run; empty when the command made it"),
    ),
)

REPLAY_REMINDERS = Table(
    "dunning",
    "replay_reminders",
    "What a policy would have sent over past days, each reminder counting as a contact from then on.",
    ("replay_id", "remind_on", "customer_id", "level", "carrying_invoice_id"),
    (
        _text("replay_id", "the replay", required=True),
        _date("remind_on", "day on which it would have been sent", required=True),
        _text("customer_id", "who would have been reminded", required=True),
        _LEVEL,
        _text("carrying_invoice_id", "the invoice that timed it", required=True),
        _text("workflow", "the workflow", required=True),
        _text("action", "the action", required=True),
        _integer("action_position", "its place in the ladder, from 1", required=True),
        _integer("occurrence", "repetition of the action, from 1", required=True),
    ),
)

SOURCE_TABLES = (
    CUSTOMERS,
    INVOICES,
    PAYMENTS,
    PAUSES,
    PROMISES,
    ASSIGNMENTS,
    CONTACTS,
    CUSTOMER_LINKS,
    ORDERS,
    ORDER_EDITS,
)

ALL_TABLES = (
    *SOURCE_TABLES,
    ORDER_OBSERVATIONS,
    CUSTOMER_KEYS,
    INVOICE_KEYS,
    ORDER_KEYS,
    WATERMARKS,
    REJECTED_ROWS,
    OPEN_INVOICES,
    BALANCES,
    CARRYING_INVOICES,
    DECISIONS,
    REMINDERS,
    SENT_HISTORY,
    ORDER_SERIES,
    ORDER_DECISIONS,
    STREAM_STARTS,
    BATCHES,
    BATCH_DECISIONS,
    POLICIES,
    RETRIES,
    HISTORY_FILES,
    CHANGES,
    REPLAYS,
    REPLAY_REMINDERS,
)
