"""The policy file (dunning.yaml) as typed, frozen models: every setting once, with meaning, unit and default.

How the text is read and errors are worded belongs in `policy_file.py`; what the settings decide, in `rules/`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from collections.abc import Mapping as Environment
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, core_schema

from dunning_pipeline import policy_file as read
from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy_file import PolicyError, Problem, Scalar, number, text_like, whole_number

__all__ = [
    "SCHEMA_FILE",
    "SOURCE_TABLES",
    "UNASSIGNED",
    "WEEKDAYS",
    "Action",
    "Calendar",
    "Condition",
    "ContactCap",
    "FileSource",
    "Holidays",
    "Klaviyo",
    "Level",
    "Mapping",
    "MissingVariable",
    "OrderReminders",
    "Organisation",
    "Policy",
    "PolicyError",
    "Problem",
    "Quality",
    "QuietHours",
    "Receivables",
    "RepeatLast",
    "Sending",
    "ShopifySource",
    "SmartRule",
    "SqlSource",
    "StripeSource",
    "TableFile",
    "TableQuery",
    "Workflow",
    "json_schema",
    "load_policy",
    "parse_policy",
    "policy_hash",
    "resolve",
    "resolve_secret",
    "unused_settings",
    "write_schema",
]

SOURCE_TABLES = (
    "customers",
    "invoices",
    "payments",
    "pauses",
    "promises",
    "assignments",
    "contacts",
    "customer_links",
    "orders",
    "order_edits",
)
UNASSIGNED = read.UNASSIGNED
"""The workflow of an assignment that takes a customer out of every workflow (RULES 3.1)."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SCHEMA_FILE = Path(__file__).with_name("policy.schema.json")

T = TypeVar("T")

_STRING = {"type": "string", "minLength": 1}
_AMOUNT = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\+?\d+(\.\d+)?$"}]}
_ORDERABLE = {"anyOf": [{"type": "number"}, {"type": "string"}]}
_CONSTANT = {"type": ["string", "number", "boolean"]}

Text = Annotated[str, Scalar(read.text, "text (in quotes where it looks like a number)", _STRING)]
Switch = Annotated[bool, Scalar(read.switch, "true or false", {"type": "boolean"})]
Day = Annotated[date, Scalar(read.day, "a day such as 2024-01-31", {"type": "string", "format": "date"})]
TimeOfDay = Annotated[
    time,
    Scalar(
        read.time_of_day,
        'a time of day from "00:00" to "23:59"',
        {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d$"},
        write=lambda value: value.strftime("%H:%M"),
    ),
]
Moment = Annotated[
    datetime,
    Scalar(
        read.moment,
        'a point in time with its offset, such as "2024-01-31T09:00:00+01:00"',
        {"type": "string", "format": "date-time"},
    ),
]
Duration = Annotated[
    timedelta,
    Scalar(
        read.duration,
        "a time span in minutes, hours or days, such as 30m, 36h or 2d",
        {"type": "string", "pattern": r"^[1-9]\d{0,4}[mhd]$"},
    ),
]
Currency = Annotated[
    str,
    Scalar(read.currency, "an ISO 4217 currency code such as EUR", {"type": "string", "pattern": "^[A-Z]{3}$"}),
]
Amount = Annotated[Decimal, Scalar(read.amount, 'an amount of money of 0 or more, such as "10.00"', _AMOUNT, write=str)]
Rate = Annotated[Decimal, Scalar(read.positive, "a number greater than 0, such as 0.92", _AMOUNT, write=str)]
TimeZone = Annotated[
    str, Scalar(read.time_zone, "an IANA time zone such as Europe/Paris", {"type": "string", "minLength": 1})
]
Language = Annotated[str, Scalar(read.language, "a language such as en, fr or pt-BR", _STRING)]
Country = Annotated[
    str,
    Scalar(
        read.holiday_country,
        "a two-letter country code such as FR, of a country whose holidays are known",
        {"type": "string", "pattern": "^[A-Z]{2}$"},
    ),
]
WorkflowName = Annotated[
    str,
    Scalar(
        read.workflow_name,
        f"a name; {UNASSIGNED} means that a customer has no workflow",
        {**_STRING, "not": {"const": UNASSIGNED}},
    ),
]
MetricName = Annotated[str, text_like(r"\S(?:[\s\S]{0,125}\S)?", "a name of 1 to 127 characters")]
SourceName = Annotated[
    str,
    text_like(
        r"(?!manual$)[A-Za-z][A-Za-z0-9_-]*",
        "a name of letters, digits, _ and -; manual is for what people record by hand",
    ),
]
Variables = Annotated[
    str,
    Scalar(read.with_variables, "text, with ${VAR} or ${VAR:-fallback} where needed", _STRING, secret=True),
]
Secret = Annotated[
    str,
    text_like(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", "the name of an environment variable, as ${VAR}", secret=True),
]
Address = Annotated[
    str,
    Scalar(
        read.address,
        "a database URL, or ${VAR}; a password only as ${VAR}, since the policy is kept in the warehouse",
        _STRING,
        secret=True,
    ),
]
Select = Annotated[str, Scalar(read.select_statement, "a table name, or a select statement", _STRING)]
TableName = Annotated[str, Scalar(read.table_name, "a table name such as billing.invoices", _STRING)]
DateFormat = Annotated[str, Scalar(read.date_format, 'a date format such as "%m/%d/%Y"', _STRING)]
Delimiter = Annotated[str, text_like(r"[\s\S]", 'one character, such as ";" or "\\t"')]
Constant = str | int | Decimal | bool
Orderable = Annotated[
    Decimal | date, Scalar(read.orderable, 'a number, or a day such as "2024-01-31"', _ORDERABLE, write=str)
]

Distinct = Annotated[
    tuple[T, ...],
    AfterValidator(read.distinct),
    Field(json_schema_extra={"minItems": 1, "uniqueItems": True}),
]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Level = Literal["customer", "invoice"]
SourceTable = Literal[
    "customers",
    "invoices",
    "payments",
    "pauses",
    "promises",
    "assignments",
    "contacts",
    "customer_links",
    "orders",
    "order_edits",
]
TargetColumns = Annotated[
    Distinct[Text],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1}]}),
]


class MissingVariable(DunningError):
    """An environment variable that the policy's sources name is not set, or is empty. Holds its `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the environment variable {name}, which the policy's sources name, is not set or empty")


class Section(BaseModel):
    """A mapping of the policy file: frozen, and without keys of one's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Organisation(Section):
    """Whose invoices these are."""

    time_zone: TimeZone = Field(
        description="IANA time zone, such as Europe/Paris, in which days begin and reminders leave."
    )
    base_currency: Currency = Field(description="ISO 4217 currency in which totals of several currencies are compared.")
    language: Language = Field(
        default="en", description="Language of amounts and dates for customers that have none of their own."
    )
    first_day: Day = Field(default=date(2020, 1, 1), description="First day that can be derived.")
    exchange_rates: dict[Currency, Rate] = Field(
        default_factory=dict, description="What one unit of another currency is worth in the base currency."
    )
    paused: Switch = Field(default=False, description="true: nobody is reminded of anything.")

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def rates(self) -> dict[str, Decimal]:
        """What one unit of a currency is worth in the base currency, its own unit included."""
        return {**self.exchange_rates, self.base_currency: Decimal(1)}


class Holidays(Section):
    """Days off beside the weekly ones (RULES 5.3)."""

    country: Country | None = Field(
        default=None, description="Country of the organisation, two letters; none: no holidays."
    )
    subdivision: Text | None = Field(
        default=None, description="State or region of the country with holidays of its own."
    )
    by_customer_country: Switch = Field(
        default=False, description="true: the holidays of each customer's country count instead."
    )


class Calendar(Section):
    """When people work, and so may be written to (RULES 5.3, 5.6)."""

    working_days: Distinct[Weekday] = Field(
        default=("mon", "tue", "wed", "thu", "fri"), description="Days of the week on which reminders leave."
    )
    holidays: Holidays = Field(default_factory=Holidays, description="Days off; none by default.")
    send_at: TimeOfDay = Field(
        default=time(8, 30),
        description="Time of day of the daily decision, in the organisation's time zone.",
        json_schema_extra={"default": "08:30"},
    )

    @property
    def working_weekdays(self) -> frozenset[int]:
        """The working days as numbers, Monday being 0."""
        return frozenset(map(WEEKDAYS.index, self.working_days))


class Receivables(Section):
    """From which amount on something is owed, and chased. Amounts in major units per currency."""

    tolerance: dict[Currency, Amount] = Field(
        default_factory=dict,
        description="Largest open amount of an invoice that counts as paid, per currency; 0 by default.",
    )
    minimum_amount: dict[Currency, Amount] = Field(
        default_factory=dict,
        description="Open total of a customer from which on reminders are sent, per currency; 0 by default.",
    )

    @property
    def tolerance_minor(self) -> dict[str, int]:
        """Minor units per currency (RULES 1.3)."""
        return _minor(self.tolerance)

    @property
    def minimum_amount_minor(self) -> dict[str, int]:
        """Minor units per currency (RULES 6.3)."""
        return _minor(self.minimum_amount)


class Action(Section):
    """One step of a workflow (RULES 4.1)."""

    name: Text = Field(description="Name of the action, which Klaviyo flows can branch on.")
    day: Annotated[int, whole_number(-365, 3650, "a whole number of days from -365 to 3650")] = Field(
        description="Calendar days after the anchor; negative: before it."
    )
    was: tuple[Text, ...] = Field(default=(), description="Former names, so that renaming the action restarts nobody.")


class RepeatLast(Section):
    """The last action again and again (RULES 4.6)."""

    every: Annotated[int, whole_number(1, 3650, "a number of days from 1 to 3650")] = Field(
        description="Days between two repetitions."
    )
    limit: Annotated[int, whole_number(1, 1000, "a number of repetitions from 1 to 1000")] | None = Field(
        default=None, description="Most repetitions; none: for as long as the invoice is unpaid."
    )


class Workflow(Section):
    """An ordered list of reminders (RULES 2 to 5)."""

    name: WorkflowName = Field(description="Name of the workflow.")
    default: Switch = Field(default=False, description="true: for every customer without another workflow.")
    carried_by: Level = Field(
        default="customer",
        description="customer: one reminder for all invoices; invoice: each invoice has its own.",
    )
    anchor: Literal["due_date", "issue_date"] = Field(
        default="due_date", description="Date of the carrying invoice from which the days of actions count."
    )
    logic: Literal["standard", "contextual"] = Field(
        default="standard",
        description="standard: every action in turn; contextual: start at the latest one reached.",
    )
    minimum_contact_delay: Annotated[int, whole_number(0, 30, "a number of days from 0 to 30")] = Field(
        default=5, description="Least number of calendar days between two contacts of a customer, 0 to 30."
    )
    actions: tuple[Action, ...] = Field(
        description="Actions such as {name: reminder_1, day: 1}, in ascending order of day; [] for none."
    )
    repeat_last: RepeatLast | None = Field(default=None, description="Repetition of the last action; none by default.")

    @property
    def action_names(self) -> dict[str, str]:
        """The present name of every action, by present and former names (RULES 4.2)."""
        return {name: action.name for action in self.actions for name in (action.name, *action.was)}


class Condition(Section):
    """What a smart rule asks of one column (RULES 3.2). Several operators: all must hold."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    is_: Annotated[Constant | None, Scalar(read.constant, "text, a number, true or false", _CONSTANT)] = Field(
        default=None, alias="is", description="Equals this value; text is matched exactly."
    )
    is_not: Annotated[Constant | None, Scalar(read.constant, "text, a number, true or false", _CONSTANT)] = Field(
        default=None, description="Does not equal this value, or is empty."
    )
    in_: Annotated[
        tuple[Constant, ...] | None,
        Scalar(read.constants, "a list of values", {"type": "array", "items": _CONSTANT, "minItems": 1}),
    ] = Field(default=None, alias="in", description="Equals one of these values.")
    not_in: Annotated[
        tuple[Constant, ...] | None,
        Scalar(read.constants, "a list of values", {"type": "array", "items": _CONSTANT, "minItems": 1}),
    ] = Field(default=None, description="Equals none of these values, or is empty.")
    contains: Annotated[str | None, Scalar(read.text, "a tag, as text", _STRING)] = Field(
        default=None, description="Is a list of tags with this one in it."
    )
    at_least: Orderable | None = Field(default=None, description="This number or day, or above.")
    more_than: Orderable | None = Field(default=None, description="Above this number or day.")
    at_most: Orderable | None = Field(default=None, description="This number or day, or below.")
    less_than: Orderable | None = Field(default=None, description="Below this number or day.")
    between: Annotated[
        tuple[Decimal | date, Decimal | date] | None,
        Scalar(
            read.bounds,
            "a list of two numbers or two days, the lower one first",
            {"type": "array", "items": _ORDERABLE, "minItems": 2, "maxItems": 2},
        ),
    ] = Field(default=None, description="Between these two numbers or days, bounds included.")
    is_empty: Annotated[bool | None, Scalar(read.switch, "true or false", {"type": "boolean"})] = Field(
        default=None, description="true: has no value; false: has one."
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Condition:
        read.not_empty(self.operators)
        return self

    @property
    def operators(self) -> dict[str, Any]:
        """The operators in use with their values, by their names in the file."""
        fields = type(self).model_fields
        written = [name for name in fields if name in self.model_fields_set]
        return {fields[name].alias or name: getattr(self, name) for name in written}


class SmartRule(Section):
    """Which customers, or invoices, come under a workflow (RULES 3.1, 3.2)."""

    name: Text = Field(description="Name of the rule, shown where it decided.")
    for_: Level = Field(default="customer", alias="for", description="What the rule assigns: customer or invoice.")
    when: Annotated[dict[Text, Condition], AfterValidator(read.not_empty)] = Field(
        description="Conditions by column, such as {country: {is: FR}}; all must hold.",
        json_schema_extra={"minProperties": 1},
    )
    workflow: Text = Field(description="Name of the workflow.")


class ContactCap(Section):
    """One limit for invoice and order reminders together (RULES 5.4)."""

    days: Annotated[int, whole_number(1, 365, "a number of days from 1 to 365")] = Field(
        description="Days after an order event on which invoice reminders wait."
    )
    max_deferral: Annotated[int, whole_number(0, 365, "a number of days from 0 to 365")] = Field(
        default=5, description="Most days that a reminder is deferred."
    )


class QuietHours(Section):
    """Hours in which nothing leaves; over midnight when `to` is earlier than `from`."""

    from_: TimeOfDay = Field(alias="from", description="Time of day at which they begin.")
    to: TimeOfDay = Field(description="Time of day at which they end.")


class OrderReminders(Section):
    """Reminders of the balance left by an order's edit (RULES 8)."""

    enabled: Switch = Field(default=True, description="false: no order events.")
    metric: MetricName = Field(
        default="Cleverific Order Outstanding Balance Reminder", description="Name of the event in Klaviyo."
    )
    every_hours: Annotated[int, whole_number(1, 8760, "a number of hours from 1 to 8760")] = Field(
        default=24, description="Hours between two events of an order."
    )
    edited_by: Distinct[Text] = Field(
        default=("customer_portal",), description="Parties whose edits count; any for all of them."
    )
    start_at: Moment | None = Field(
        default=None,
        description="Edits before this point in time do not count; none: since first switched live.",
    )
    stop_on: Literal["fulfilled", "partially_fulfilled"] = Field(
        default="fulfilled", description="Fulfilment at which reminders end."
    )
    tolerance: dict[Currency, Amount] = Field(
        default_factory=dict, description="Largest balance that counts as paid, per currency; 0 by default."
    )
    max_reminders: Annotated[int, whole_number(1, 1000, "a number from 1 to 1000")] | None = Field(
        default=None, description="Most events of a series; none: no limit."
    )
    stop_after_days: Annotated[int, whole_number(1, 3650, "a number of days from 1 to 3650")] | None = Field(
        default=None, description="Days after which a series ends; none: no limit."
    )
    quiet_hours: QuietHours | None = Field(
        default=None, description="Hours in which events wait, in the organisation's time zone."
    )

    @property
    def tolerance_minor(self) -> dict[str, int]:
        """Minor units per currency (RULES 8.3)."""
        return _minor(self.tolerance)


class Klaviyo(Section):
    """What Klaviyo gets."""

    metric: MetricName = Field(default="Invoice Reminder", description="Name of the event, on which flows trigger.")
    invoices_listed: Annotated[int, whole_number(1, 4000, "a number from 1 to 4000")] = Field(
        default=50, description="Most invoices listed in an event; the number left out is told."
    )
    identify_by: Distinct[Literal["email", "phone", "external_id"]] = Field(
        default=("email",), description="What identifies a profile: email, phone, external_id."
    )


class Sending(Section):
    """Whether and how much is sent."""

    live: Switch = Field(default=False, description="true: reminders are really sent.")
    allow_list: tuple[Text, ...] = Field(
        default=(), description="Only these e-mail addresses get anything; empty: everybody."
    )
    max_batch: Annotated[int, whole_number(1, 10_000_000, "a number from 1 to 10000000")] = Field(
        default=10_000, description="A larger batch is not sent but reported."
    )
    max_growth: Annotated[float, number(1, 1000, "a number from 1 to 1000")] = Field(
        default=3, description="A batch more than so many times the usual size is not sent but reported."
    )


class Quality(Section):
    """How bad the data may be."""

    max_rejected: Annotated[float, number(0, 1, "a share from 0 to 1, such as 0.01")] = Field(
        default=0.01, description="Largest share of a table's rows that may be unreadable."
    )
    max_source_age: dict[SourceTable, Duration] = Field(
        default_factory=dict,
        description="Age of a table's newest pull from which on the run stops: 30m, 36h, 2d.",
    )


class Mapping(Section):
    """How what a source yields becomes the columns of a table (CONTRACT, Source tables)."""

    bare: ClassVar[Callable[[str], str]]

    columns: dict[Text, TargetColumns] = Field(
        default_factory=dict, description="Column of the table, or list of them, by the source's own column."
    )
    values: dict[Text, Text] = Field(
        default_factory=dict, description="Constant text by column of the table, such as {currency: EUR}."
    )
    date_format: DateFormat | None = Field(
        default=None, description='Format of dates, such as "%m/%d/%Y"; ISO dates by default.'
    )
    minor_units: Switch = Field(default=False, description="true: amounts are in minor units (cents).")

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, data: Any) -> Any:
        return {cls.bare(data): data} if isinstance(data, str) else data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [dict(_STRING), handler(schema)]}


class TableQuery(Mapping):
    """A table of a database: a table or view there, or a select statement. Text alone is either of them."""

    bare: ClassVar[Callable[[str], str]] = lambda text: "table" if read.is_table_name(text) else "query"

    query: Select | None = Field(default=None, description="Select statement that yields the rows.")
    table: TableName | None = Field(default=None, description="Table or view that holds the rows.")


class TableFile(Mapping):
    """A table in CSV or Parquet files. Text alone is the path."""

    bare: ClassVar[Callable[[str], str]] = lambda _: "path"

    path: Variables = Field(description="Path of the file or files; * and ** match several.")
    delimiter: Delimiter | None = Field(default=None, description="Character between columns; detected by default.")


class _Source(Section):
    id_prefix: Text | None = Field(
        default=None, description="Put before every id, for sources whose ids would collide."
    )
    time_zone: TimeZone | None = Field(
        default=None, description="Time zone of times without one; the organisation's by default."
    )


class SqlSource(_Source):
    """A database."""

    kind: Literal["sql"] = Field(description="sql: a database.")
    url: Address = Field(description="SQLAlchemy URL of the database, such as ${BILLING_DATABASE_URL}.")
    tables: dict[SourceTable, TableQuery] = Field(
        description="Table name or select statement by table; columns named as in the contract, or mapped."
    )


class FileSource(_Source):
    """CSV or Parquet files."""

    kind: Literal["files"] = Field(description="files: CSV or Parquet files.")
    tables: dict[SourceTable, TableFile] = Field(
        description="File by table; its columns are named as in the contract, or mapped."
    )


class ShopifySource(_Source):
    """A Shopify shop."""

    kind: Literal["shopify"] = Field(description="shopify: a Shopify shop.")
    shop: Variables = Field(description="Domain of the shop, such as acme.myshopify.com.")
    token: Secret = Field(description="Access token, as ${VAR}.")
    edited_by_apps: dict[Text, Distinct[Text]] = Field(
        default_factory=dict, description="Titles of apps by the party that edits through them."
    )


class StripeSource(_Source):
    """A Stripe account."""

    kind: Literal["stripe"] = Field(description="stripe: a Stripe account.")
    key: Secret = Field(description="Secret or restricted key, as ${VAR}.")


Source = Annotated[SqlSource | FileSource | ShopifySource | StripeSource, Field(discriminator="kind")]


class Policy(Section):
    """The whole policy. Made by `load_policy` or `parse_policy`, which also check across keys."""

    organisation: Organisation = Field(description="Whose invoices these are: time_zone and base_currency at least.")
    calendar: Calendar = Field(default_factory=Calendar, description="Working days, holidays, time of sending.")
    receivables: Receivables = Field(default_factory=Receivables, description="Amounts too small to chase.")
    workflows: Annotated[tuple[Workflow, ...], AfterValidator(read.not_empty)] = Field(
        description="Lists of reminders; at most one is the default.", json_schema_extra={"minItems": 1}
    )
    smart_rules: tuple[SmartRule, ...] = Field(
        default=(), description="Rules that choose another workflow; the first that holds decides."
    )
    smart_rules_override_manual: Switch = Field(
        default=False, description="true: smart rules go before assignments made by hand."
    )
    max_invoice_reminders_per_customer_and_day: Annotated[int, whole_number(1, 100, "a number from 1 to 100")] = Field(
        default=3, description="Most reminders of invoice-level workflows per customer and day."
    )
    contact_cap: ContactCap | None = Field(
        default=None, description="Limit over invoice and order side; none by default."
    )
    order_reminders: OrderReminders = Field(
        default_factory=OrderReminders, description="Reminders about edited orders."
    )
    klaviyo: Klaviyo = Field(default_factory=Klaviyo, description="What Klaviyo gets.")
    sending: Sending = Field(default_factory=Sending, description="Whether and how much is sent.")
    quality: Quality = Field(default_factory=Quality, description="How bad the data may be.")
    sources: dict[SourceName, Source] = Field(
        default_factory=dict, description="Where the data comes from, by a name of your own."
    )

    _text: str = PrivateAttr(default="")

    @property
    def text(self) -> str:
        """The text that the policy was read from; empty for one made otherwise."""
        return self._text

    @property
    def hash(self) -> str:
        return policy_hash(self._text)

    def rules_for(self, level: Level) -> tuple[SmartRule, ...]:
        """The smart rules for customers, or for invoices, in order."""
        return tuple(rule for rule in self.smart_rules if rule.for_ == level)

    def workflow(self, name: str) -> Workflow | None:
        return next((workflow for workflow in self.workflows if workflow.name == name), None)


def load_policy(path: Path) -> Policy:
    """The policy in a file. Raises PolicyError with everything that is wrong."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _unreadable(
            path, "does not exist: name the policy file with DUNNING_POLICY, or start where it is"
        ) from None
    except UnicodeDecodeError:
        raise _unreadable(path, "is not UTF-8 text") from None
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from None
    return parse_policy(text, str(path))


def parse_policy(text: str, file: str = "dunning.yaml") -> Policy:
    """The policy in a text; `file` names it in errors. Raises PolicyError with everything that is wrong."""
    document = read.read_document(text, file)
    if document.data is None:
        raise PolicyError(document.problems)
    policy, problems = _validated(document)
    problems += document.problems
    problems += [
        Problem(file, document.line(location), read.dotted(location), message)
        for location, message in read.cross_findings(document.data)
    ]
    if policy is None or problems:
        raise PolicyError(problems)
    policy._text = text
    return policy


def _validated(document: read.Document) -> tuple[Policy | None, list[Problem]]:
    try:
        return Policy.model_validate(document.data), []
    except ValidationError as error:
        return None, read.field_problems(error, document, _cached_schema())


def _unreadable(path: Path, message: str) -> PolicyError:
    return PolicyError([Problem(str(path), None, "", message)])


def _minor(amounts: dict[str, Decimal]) -> dict[str, int]:
    return {currency: read.minor_units(amount, currency) for currency, amount in amounts.items()}


def policy_hash(text: str) -> str:
    """SHA-256 of the text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def resolve(text: str, environment: Environment[str, str]) -> str:
    """The text with `${VAR}` and `${VAR:-fallback}` replaced. Raises MissingVariable, also if it is empty."""

    def value(match: Any) -> str:
        name, fallback = match.groups()
        found = environment.get(name) or fallback
        if found is None:
            raise MissingVariable(name)
        return str(found)

    return read.VARIABLE.sub(value, text)


def resolve_secret(text: str, environment: Environment[str, str]) -> SecretStr:
    """Like `resolve`, for what must not be printed or logged."""
    return SecretStr(resolve(text, environment))


def _reads(table: str) -> Callable[[Policy], bool]:
    return lambda policy: any(table in getattr(source, "tables", ()) for source in policy.sources.values())


def _kind(kind: str) -> Callable[[Policy], bool]:
    return lambda policy: any(source.kind == kind for source in policy.sources.values())


# What is accepted and does nothing yet. A line goes when the feature arrives.
_NOT_YET_DECIDING: dict[str, Callable[[Policy], bool]] = {
    "sending.max_growth": lambda policy: policy.sending.max_growth != Sending().max_growth,
    "quality.max_source_age": lambda policy: bool(policy.quality.max_source_age),
}
"""Settings that are to change who is reminded, or when, and do not yet."""

_NOT_YET_USED: dict[str, Callable[[Policy], bool]] = {
    "order_reminders": lambda policy: policy.order_reminders != OrderReminders(),
    "sources.id_prefix": lambda policy: any(source.id_prefix for source in policy.sources.values()),
    "sources.kind: shopify": _kind("shopify"),
    "sources.kind: stripe": _kind("stripe"),
    "sources.tables.customer_links": _reads("customer_links"),
    "sources.tables.orders": _reads("orders"),
    "sources.tables.order_edits": _reads("order_edits"),
}
"""Settings of parts that do not exist yet."""


def undecided_settings(policy: Policy) -> list[str]:
    """Paths of settings that ask for other decisions than are made: with one of them nothing is sent live."""
    return [path for path, is_set in _NOT_YET_DECIDING.items() if is_set(policy)]


def unused_settings(policy: Policy) -> list[str]:
    """A sentence for each setting that differs from its default and does nothing yet."""
    unused = undecided_settings(policy) + [path for path, is_set in _NOT_YET_USED.items() if is_set(policy)]
    return [f"{path} is accepted but has no effect yet" for path in unused]


class _SchemaGenerator(GenerateJsonSchema):
    def dict_schema(self, schema: core_schema.DictSchema) -> dict[str, Any]:
        made = super().dict_schema(schema)
        # Under patternProperties alone, an entry whose key matches no pattern would pass unseen.
        for pattern, values in made.pop("patternProperties", {}).items():
            made |= {"additionalProperties": values, "propertyNames": {"pattern": pattern}}
        return made


def json_schema() -> dict[str, Any]:
    """JSON Schema of the policy file, for editors and error sentences."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Policy.model_json_schema(schema_generator=_SchemaGenerator),
    }


_cached_schema = cache(json_schema)


def _schema_text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path = SCHEMA_FILE) -> None:
    path.write_text(_schema_text(), encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(_schema_text())
