"""The policy file (dunning.yaml) as typed, frozen models: every setting once, with meaning, unit and default.

How the text is read and errors are worded belongs in `policy_file.py`; what the settings decide, in `rules/`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Environment
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
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
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from dunning_pipeline import policy_file as read
from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy_file import PolicyError, Problem, Scalar, number, text_like, whole_number

__all__ = [
    "SCHEMA_FILE",
    "SOURCE_TABLES",
    "UNASSIGNED",
    "WEEKDAYS",
    "Action",
    "Authentication",
    "Basic",
    "Calendar",
    "ClientCredentials",
    "Condition",
    "ContactCap",
    "CursorPages",
    "EditsSource",
    "FileSource",
    "Holidays",
    "Klaviyo",
    "LeftOut",
    "Level",
    "LinkPages",
    "LookUp",
    "Mapping",
    "MissingVariable",
    "NumberedPages",
    "OffsetPages",
    "OrderReminders",
    "Organisation",
    "Pagination",
    "Policy",
    "PolicyError",
    "Problem",
    "Quality",
    "QuietHours",
    "Receivables",
    "RepeatLast",
    "RestSource",
    "Sending",
    "ShopifySource",
    "Since",
    "SmartRule",
    "SqlSource",
    "StripeSource",
    "TableFile",
    "TableQuery",
    "TableRequest",
    "Workflow",
    "XeroSource",
    "json_schema",
    "load_policy",
    "parse_policy",
    "policy_hash",
    "resolve",
    "resolve_secret",
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
ApiVersion = Annotated[str, text_like(r"20\d\d-(?:01|04|07|10)", "a version such as 2026-10")]
Select = Annotated[str, Scalar(read.select_statement, "a table name, or a select statement", _STRING)]
Expression = Annotated[str, Scalar(read.expression, "a column or an SQL expression, without ; and comments", _STRING)]
TableName = Annotated[str, Scalar(read.table_name, "a table name such as billing.invoices", _STRING)]
WebAddress = Annotated[
    str,
    Scalar(
        read.web_address,
        "an address such as https://api.example.com/v1, or ${VAR}; passwords and tokens elsewhere, and only as ${VAR}",
        _STRING,
        secret=True,
    ),
]
RequestPath = Annotated[
    str,
    text_like(r"/(?!/)[^\s?#]*", 'a path that begins with one "/", such as /v1/invoices; parameters go into params'),
]
LookUpPath = Annotated[
    str, text_like(r"/(?!/)[^\s?#]*\{id\}[^\s?#]*", "a path with {id} in it, such as /v1/invoices/{id}")
]
Parameter = Annotated[
    str | tuple[str, ...],
    Scalar(
        read.parameter,
        "text, a number, true or false, or a list of these, with ${VAR} where needed",
        {"anyOf": [_CONSTANT, {"type": "array", "items": _CONSTANT, "minItems": 1}]},
        secret=True,
    ),
]
FieldPath = Annotated[
    str,
    text_like(
        r"[^\s.]+(?: [^\s.]+)*(?:\.[^\s.]+(?: [^\s.]+)*)*", "names with dots between them, such as customer.email"
    ),
]
DateFormat = Annotated[
    str,
    Scalar(read.date_format, f'a date format such as "%m/%d/%Y", or one of {", ".join(read.NUMBERED_DATES)}', _STRING),
]
TimeFormat = Annotated[
    str,
    Scalar(
        read.time_format, f'iso, http, a format such as "%Y-%m-%d", or one of {", ".join(read.NUMBERED_DATES)}', _STRING
    ),
]
Encoding = Annotated[str, Scalar(read.encoding, "an encoding such as utf-8, latin-1 or cp1252", _STRING)]
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
        description="Age of a table's newest content above which no batch is made: 30m, 36h, 2d.",
    )
    max_jump: Annotated[float, number(1, 1000, "a number from 1 to 1000")] | None = Field(
        default=3,
        description="How many times as much or as little as usual may be owed, or by as many; null: never compared.",
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
    translate: dict[Text, dict[Text, Text]] = Field(
        default_factory=dict,
        description="Our text by theirs, by column of the table, such as {status: {PAID: open}}; others stay.",
    )
    date_format: DateFormat | None = Field(
        default=None,
        description='Format of dates, such as "%m/%d/%Y", unix_seconds or /Date(ms)/; ISO dates by default.',
    )
    date_formats: dict[Text, DateFormat] = Field(
        default_factory=dict,
        description="Format by column of the table, where it differs from date_format; for times too.",
    )
    minor_units: Switch = Field(default=False, description="true: amounts are in minor units (cents).")
    minor_unit_decimals: dict[Currency, Annotated[int, whole_number(0, 6, "a number of decimals from 0 to 6")]] = Field(
        default_factory=dict,
        description="Decimals of the source's minor units by currency, where they are not those of ISO 4217.",
    )
    decimal_comma: Switch = Field(default=False, description="true: amounts are written as 1.234,56.")
    complete: Switch | None = Field(
        default=None,
        description="Whether each pull yields all rows there are; true by default where not only changes are pulled.",
    )

    @property
    def lists_all(self) -> bool:
        """Whether a row that a pull does not yield has vanished from the source (RULES 1.1)."""
        return self.complete is not False

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
    watermark: Expression | None = Field(
        default=None,
        description="Column, or expression over the columns, that grows when a row changes: only changes are pulled.",
    )
    overlap: Duration = Field(
        default=timedelta(hours=1),
        description="How far before the watermark a pull begins, for changes that were committed late.",
    )

    @property
    def lists_all(self) -> bool:
        """Whether a row that a pull does not yield has vanished from the source (RULES 1.1): never with a watermark."""
        return self.watermark is None and super().lists_all


class TableFile(Mapping):
    """A table in CSV or Parquet files. Text alone is the path."""

    bare: ClassVar[Callable[[str], str]] = lambda _: "path"

    path: Variables = Field(description="Path of the file or files; * and ** match several.")
    delimiter: Delimiter | None = Field(default=None, description="Character between columns; detected by default.")
    encoding: Encoding = Field(default="utf-8", description="How the text of CSV files is encoded, such as cp1252.")
    only_new: Switch = Field(
        default=False, description="true: a file is read once, and again when it changes; false: all, every time."
    )

    @property
    def lists_all(self) -> bool:
        """Whether a row that a pull does not yield has vanished from the source (RULES 1.1): not if files add up."""
        return not self.only_new and super().lists_all


class CursorPages(Section):
    """Pages after a cursor, which stands in the answer or is a field of its last record."""

    kind: Literal["cursor"] = Field(description="cursor: the next page begins after a cursor.")
    parameter: Text = Field(description="Query parameter that takes the cursor, such as starting_after.")
    cursor: FieldPath | None = Field(default=None, description="Path of the cursor in the answer; none there: the end.")
    last_record: FieldPath | None = Field(default=None, description="Path, in the last record, of what is the cursor.")
    more: FieldPath | None = Field(
        default=None, description="Path in the answer of true or false: whether there is another page."
    )


class OffsetPages(Section):
    """Pages from an offset on."""

    kind: Literal["offset"] = Field(description="offset: the next page begins so many records further on.")
    parameter: Text = Field(default="offset", description="Query parameter that takes the offset.")
    next: FieldPath | None = Field(
        default=None, description="Path of the next offset in the answer, as it is; none there: the end."
    )
    total: FieldPath | None = Field(
        default=None, description="Path of the number of records in the answer; without it an empty page is the end."
    )


class NumberedPages(Section):
    """Pages by number, from 1."""

    kind: Literal["page"] = Field(description="page: pages have numbers.")
    parameter: Text = Field(default="page", description="Query parameter that takes the number.")
    first: Annotated[int, whole_number(0, 1, "0 or 1")] = Field(
        default=1, description="Number of the first page: 1 or 0."
    )
    pages: FieldPath | None = Field(
        default=None, description="Path of the number of pages in the answer; without it an empty page is the end."
    )


class LinkPages(Section):
    """Pages by the address of the next one, followed on the source's own host only."""

    kind: Literal["link"] = Field(description="link: each page has the address of the next one.")
    next: FieldPath | None = Field(
        default=None, description="Path of the address in the answer; by default the header Link with rel=next."
    )


Pagination = Annotated[CursorPages | OffsetPages | NumberedPages | LinkPages, Field(discriminator="kind")]
Fields = Annotated[
    dict[FieldPath, TargetColumns],
    AfterValidator(read.not_empty),
]
"""Texts by the path of the field that holds one of them."""


class Since(Section):
    """How the source is asked for what changed from a time on."""

    parameter: Text | None = Field(default=None, description='Query parameter that takes the time, such as "since".')
    header: Text | None = Field(default=None, description="Header that takes the time, such as If-Modified-Since.")
    format: TimeFormat = Field(
        default="iso",
        description='How it is written, in UTC: iso, http, unix_seconds, or a format such as "%Y-%m-%dT%H:%M:%S".',
    )
    params: dict[Text, Parameter] = Field(
        default_factory=dict, description="Query parameters that differ from those of a pull of everything."
    )


class LookUp(Section):
    """How single invoices are asked for that a list of all open ones no longer shows (RULES 1.1)."""

    path: LookUpPath = Field(description="Path with {id} in it, such as /v1/invoices/{id}.")
    params: dict[Text, Parameter] = Field(default_factory=dict, description="Query parameters.")
    record: FieldPath | None = Field(
        default=None, description="Path of the record in the answer, such as Invoices.0; the answer itself by default."
    )


class LeftOut(Section):
    """Records that are not taken over."""

    when: Fields = Field(
        description="Texts by field, such as {collection_method: charge_automatically}; all must hold."
    )
    reason: Text = Field(description="Why, as source.rejected_rows tells it.")


class TableRequest(Mapping):
    """A table behind a REST API; fields are named by their dotted path in the record."""

    bare: ClassVar[Callable[[str], str]] = lambda _: "path"

    path: RequestPath = Field(description="Path below the source's url, such as /v1/invoices.")
    params: dict[Text, Parameter] = Field(default_factory=dict, description="Query parameters of every request.")
    records: FieldPath | None = Field(
        default=None, description="Path of the list of records in the answer; by default the answer is the list."
    )
    pagination: Pagination | None = Field(default=None, description="How the next page is asked for; none: one page.")
    columns: Fields = Field(description="Column of the table, or list of them, by the dotted path of the field.")
    watermark: FieldPath | None = Field(
        default=None, description="Path of the time at which a record changed last: only changes are pulled."
    )
    watermark_format: DateFormat | None = Field(
        default=None, description="Format of that time, such as unix_seconds; ISO by default."
    )
    overlap: Duration = Field(
        default=timedelta(hours=1),
        description="How far before the watermark a pull begins, for changes that were committed late.",
    )
    since: Since | None = Field(default=None, description="How changes since the watermark are asked for.")
    settled: Fields | None = Field(
        default=None, description="Texts by field that tell that nothing is left to pay, such as {status: paid}."
    )
    leave_out: tuple[LeftOut, ...] = Field(default=(), description="Records that are not taken over, with the reason.")
    look_up: LookUp | None = Field(
        default=None, description="How invoices are asked for that are missing from a list of all open ones."
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema)


class _Source(Section):
    id_prefix: Text | None = Field(
        default=None, description="Put before every id, for sources whose ids would collide."
    )
    time_zone: TimeZone | None = Field(
        default=None, description="Time zone of times without one; the organisation's by default."
    )


class EditsSource(_Source):
    """A source that may feed edits of orders."""

    edited_by_apps: dict[Text, Distinct[Text]] = Field(
        default_factory=dict, description="Titles of apps by the party that edits through them."
    )

    @model_validator(mode="after")
    def _one_party_of_an_app(self) -> Self:
        titles = [title.strip().lower() for named in self.edited_by_apps.values() for title in named]
        for title in titles:
            if titles.count(title) > 1:
                raise PydanticCustomError("house", f"edited_by_apps names the app {title} twice")
        return self

    @property
    def parties(self) -> dict[str, str]:
        """The party by each app's title in lower case."""
        return {title.strip().lower(): party for party, titles in self.edited_by_apps.items() for title in titles}


class SqlSource(EditsSource):
    """A database."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["tables"]}, {"required": ["preset"]}]})

    kind: Literal["sql"] = Field(description="sql: a database.")
    url: Address = Field(description="SQLAlchemy URL of the database, such as ${BILLING_DATABASE_URL}.")
    statement_timeout: Duration = Field(
        default=timedelta(minutes=10), description="After how long a statement of ours is given up: 10m."
    )
    preset: Literal["odoo", "erpnext", "tryton"] | None = Field(
        default=None, description="A system whose tables are known: odoo, erpnext, tryton; those in `tables` go before."
    )
    tables: dict[SourceTable, TableQuery] = Field(
        default_factory=dict,
        description="Table name or select statement by table; columns named as in the contract, or mapped.",
    )

    @model_validator(mode="before")
    @classmethod
    def _add_preset(cls, data: Any) -> Any:
        return read.with_preset(data)


class FileSource(EditsSource):
    """CSV or Parquet files."""

    kind: Literal["files"] = Field(description="files: CSV or Parquet files.")
    tables: dict[SourceTable, TableFile] = Field(
        description="File by table; its columns are named as in the contract, or mapped."
    )


class ShopifySource(EditsSource):
    """A Shopify shop."""

    kind: Literal["shopify"] = Field(description="shopify: a Shopify shop.")
    shop: Variables = Field(description="Domain of the shop, such as acme.myshopify.com.")
    token: Secret | None = Field(default=None, description="Access token, as ${VAR}; or client_id and client_secret.")
    client_id: Variables | None = Field(
        default=None, description="Id of an app that is given a token of its own each day, beside client_secret."
    )
    client_secret: Secret | None = Field(default=None, description="Secret of that app, as ${VAR}.")
    api_version: ApiVersion = Field(default="2026-10", description="Version of Shopify's Admin API, such as 2026-10.")
    since: Day | None = Field(
        default=None, description="Orders that last changed before this day are not pulled; none: all that are visible."
    )
    overlap: Duration = Field(
        default=timedelta(minutes=5), description="How far before the newest change seen a pull begins: 5m."
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> ShopifySource:
        static, granted = self.token is not None, (self.client_id is not None, self.client_secret is not None)
        if static == any(granted) or any(granted) != all(granted):
            raise PydanticCustomError("house", "needs either token, or client_id and client_secret")
        return self


class Basic(Section):
    """A user with a password."""

    user: Variables = Field(description="Name of the user, or a key, as ${VAR}.")
    password: Secret | None = Field(default=None, description="Password, as ${VAR}; none: an empty one.")


class ClientCredentials(Section):
    """An OAuth 2.0 client that gets itself tokens (RFC 6749, 4.4)."""

    token_url: WebAddress = Field(description="Address that gives tokens.")
    client_id: Variables = Field(description="Id of the client.")
    client_secret: Secret = Field(description="Secret of the client, as ${VAR}.")
    scope: Text | None = Field(default=None, description="Scopes to ask for, with spaces between them.")


class Authentication(Section):
    """How requests prove who sends them: one of these. For a key in a header of its own see headers."""

    bearer: Secret | None = Field(default=None, description="Token, as ${VAR}.")
    basic: Basic | None = Field(default=None, description="User and password.")
    client_credentials: ClientCredentials | None = Field(default=None, description="OAuth 2.0 client credentials.")


class RestSource(EditsSource):
    """A REST API that answers in JSON."""

    kind: Literal["rest"] = Field(description="rest: a REST API that answers in JSON.")
    url: WebAddress = Field(description="Address below which the paths are, such as https://api.example.com.")
    headers: dict[Text, Variables] = Field(
        default_factory=dict, description="Headers of every request; keys and tokens as ${VAR}."
    )
    auth: Authentication | None = Field(
        default=None, description="bearer, basic or client_credentials; none by default."
    )
    tables: dict[SourceTable, TableRequest] = Field(description="What is asked for, by table.")


class StripeSource(_Source):
    """A Stripe account."""

    kind: Literal["stripe"] = Field(description="stripe: a Stripe account.")
    key: Secret = Field(description="Secret or restricted key, as ${VAR}.")
    include_automatic: Switch = Field(
        default=False, description="true: invoices that Stripe charges automatically are reminded of too."
    )
    url: WebAddress = Field(default="https://api.stripe.com", description="Address of Stripe's API.")


class XeroSource(_Source):
    """A Xero organisation."""

    kind: Literal["xero"] = Field(description="xero: a Xero organisation.")
    token: Secret | None = Field(default=None, description="Access token, as ${VAR}; or client_id and client_secret.")
    client_id: Variables | None = Field(default=None, description="Id of a custom connection.")
    client_secret: Secret | None = Field(default=None, description="Secret of the custom connection, as ${VAR}.")
    scope: Text = Field(
        default="accounting.transactions.read accounting.contacts.read",
        description="Scopes that the custom connection asks for.",
    )
    tenant: Variables | None = Field(
        default=None, description="Id of the organisation (tenant); not needed with a custom connection."
    )
    url: WebAddress = Field(default="https://api.xero.com/api.xro/2.0", description="Address of Xero's accounting API.")
    token_url: WebAddress = Field(
        default="https://identity.xero.com/connect/token", description="Address that gives tokens."
    )


Source = Annotated[
    SqlSource | FileSource | RestSource | ShopifySource | StripeSource | XeroSource, Field(discriminator="kind")
]


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
    """The policy in a file. Raises PolicyError with everything that is wrong or cannot be meant."""
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
    return _policy_of(text, str(path), (read.cross_findings, read.futile_findings))


def parse_policy(text: str, file: str = "dunning.yaml") -> Policy:
    """The policy in a text; `file` names it in errors. Raises PolicyError with everything that is wrong.

    Conditions that can never hold are taken: a policy that was in use stays readable beside its batches.
    """
    return _policy_of(text, file, (read.cross_findings,))


def _policy_of(text: str, file: str, checks: Sequence[Callable[[dict[str, Any]], Iterator[read.Finding]]]) -> Policy:
    document = read.read_document(text, file)
    if document.data is None:
        raise PolicyError(document.problems)
    policy, problems = _validated(document)
    problems += document.problems
    problems += [
        Problem(file, document.line(location), read.dotted(location), message)
        for check in checks
        for location, message in check(document.data)
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
