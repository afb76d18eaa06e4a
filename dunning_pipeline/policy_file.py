"""How the policy file is read: YAML text to plain data with lines, values to Python, errors to sentences.

What the settings are and mean belongs in `policy.py`, which is also what other modules import.
"""

from __future__ import annotations

import codecs
import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar
from zoneinfo import available_timezones

import yaml
from babel import Locale, UnknownLocaleError
from iso4217 import Currency as IsoCurrency
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from dunning_pipeline.errors import DunningError
from dunning_pipeline.presets import erp

Location = tuple[str | int, ...]
Finding = tuple[Location, str]
Entries = TypeVar("Entries", tuple[Any, ...], dict[str, Any])

MAX_NODES = 100_000
MAX_AMOUNT = Decimal(10) ** 12
UNASSIGNED = "unassigned"
HIDDEN = "this text"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the policy: where it is written, and what is allowed instead."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.path, self.message) if part)


class PolicyError(DunningError):
    """The policy cannot be used. Holds every problem found; its text is one line per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass
class Document:
    """The plain data of a policy text, the line of every key and list item, and what is wrong as YAML."""

    file: str
    data: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, location: Location) -> int:
        """The line of a key or list item, or of the nearest one around it that is written in the file."""
        around = (location[:length] for length in range(len(location), 0, -1))
        return next((self.lines[part] for part in around if part in self.lines), 1)

    def refuse(self, location: Location, message: str, line: int | None = None) -> None:
        self.problems.append(Problem(self.file, line or self.line(location), dotted(location), message))


class _Loader(yaml.SafeLoader):
    """The scalars of YAML 1.2, so that `no` is Norway, 21:00 a time of day and 2024-01-31 text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - as PyYAML declares it


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)

# Decimal, so that an amount written without quotes stays exact.
_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": Decimal,
}
_TAGS = {_TAG + name for name in (*_SCALARS, "map", "seq")}


class _TooLargeError(Exception):
    pass


def read_document(text: str, file: str) -> Document:
    """Plain data from YAML text. Never raises: see the document's problems; without any data it is None."""
    document = Document(file)
    try:
        node = yaml.compose(text, Loader=_Loader)
        _Builder(document).fill(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        document.refuse((), f"is not YAML: {_yaml_sentence(error)}", mark.line + 1 if mark else 1)
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        document.refuse((), "holds a character that is not allowed in YAML", line)
    except RecursionError:
        document.refuse((), "is nested too deeply", 1)
    except _TooLargeError:
        document.refuse((), f"has more than {MAX_NODES} values", 1)
    return document


def _yaml_sentence(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "it cannot be read"
    if "'\\t'" in problem:
        return "a tab is not allowed here: indent with spaces"
    if "but found another document" in problem:
        return "a second document begins here: the policy is one document"
    return problem


class _Builder:
    """Makes plain data of a node tree, noting lines and refusing duplicate keys and unknown tags."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0

    def fill(self, node: yaml.Node | None) -> None:
        if node is None:
            return self.document.refuse((), "is empty: a policy needs at least organisation and workflows", 1)
        data = self.value(node, ())
        if not isinstance(data, dict):
            message = f"{shown(data)} is not allowed: the policy is a mapping of keys, such as organisation:"
            return self.document.refuse((), message, node.start_mark.line + 1)
        self.document.data = data
        return None

    def value(self, node: yaml.Node, location: Location) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _TooLargeError
        if node.tag not in _TAGS:
            message = f"the tag {node.tag.replace(_TAG, '!!')} is not allowed: plain values only"
            self.document.refuse(location, message, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return self.sequence(node, location)
        return _scalar(node.tag, node.value)

    def mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.refuse(location, "a key must be text", line)
                continue
            key = str(key_node.value)
            here = (*location, key)
            if key in data:
                first = self.document.lines[here]
                self.document.refuse(here, f"is written twice: the first is in line {first}", line)
                continue
            self.document.lines[here] = line
            data[key] = self.value(value_node, here)
        return data

    def sequence(self, node: yaml.SequenceNode, location: Location) -> list[Any]:
        for index, item in enumerate(node.value):
            self.document.lines[*location, index] = item.start_mark.line + 1
        return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]


def _scalar(tag: str, text: str) -> Any:
    try:
        return _SCALARS[tag.removeprefix(_TAG)](text)
    except (KeyError, ValueError, ArithmeticError):
        return text


def shown(value: Any) -> str:
    """A value as an error shows it: text in quotes and shortened, containers by name."""
    if isinstance(value, str):
        short = " ".join(value.split())
        return json.dumps(short if len(short) <= 60 else short[:57] + "...", ensure_ascii=False)
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if value is None:
        return "an empty value"
    return str(value).lower() if isinstance(value, bool) else str(value)


def suggestion(value: str, names: Iterable[str]) -> str:
    """`; did you mean …?` when a name is close to the value, else nothing."""
    close = difflib.get_close_matches(value, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def dotted(location: Location) -> str:
    """A location as it is written in errors: `workflows[0].minimum_contact_delay`."""
    text = ""
    for step in location:
        plain = isinstance(step, str) and re.fullmatch(r"[\w-]+", step)
        text += f".{step}" if plain else f"[{json.dumps(step, ensure_ascii=False)}]"
    return text.removeprefix(".")


@dataclass(frozen=True, eq=False)
class Scalar:
    """How one kind of value is read: a function raising ValueError, what is allowed, its JSON Schema."""

    parse: Callable[[Any], Any]
    allowed: str
    schema: dict[str, Any]
    secret: bool = False
    write: Callable[[Any], Any] | None = None

    def read(self, value: Any) -> Any:
        try:
            return self.parse(value)
        except (ValueError, TypeError, ArithmeticError) as error:
            context = {
                "shown": HIDDEN if self.secret and isinstance(value, str) else shown(value),
                "allowed": self.allowed,
                "hint": str(error) if isinstance(error, HintedError) else "",
            }
            raise PydanticCustomError("house", "{shown} is not allowed: {allowed}{hint}", context) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        write = self.write
        return core_schema.no_info_plain_validator_function(
            self.read,
            serialization=core_schema.plain_serializer_function_ser_schema(write, when_used="json") if write else None,
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(self.schema)


class HintedError(ValueError):
    """A refusal with something to add, such as `; did you mean …?`."""


def text(value: Any) -> str:
    """Text that is not blank. Raises ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def workflow_name(value: Any) -> str:
    if text(value) == UNASSIGNED:
        raise ValueError
    return str(value)


def text_like(pattern: str, allowed: str, **options: Any) -> Scalar:
    """Text that matches a pattern as a whole."""

    def parse(value: Any) -> str:
        if not re.fullmatch(pattern, text(value)):
            raise ValueError
        return str(value)

    return Scalar(parse, allowed, {"type": "string", "pattern": f"^(?:{pattern})$"}, **options)


def whole_number(low: int, high: int, allowed: str) -> Scalar:
    """A whole number with inclusive bounds; true and false are none."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return Scalar(parse, allowed, {"type": "integer", "minimum": low, "maximum": high})


def number(low: float, high: float, allowed: str) -> Scalar:
    """A number with inclusive bounds that is a measure, not money."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not low <= value <= high:
            raise ValueError
        return float(value)

    return Scalar(parse, allowed, {"type": "number", "minimum": low, "maximum": high})


def exact(value: Any) -> Decimal:
    """A number without rounding, written as a number or in quotes. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError
    written = format(value, "f") if isinstance(value, Decimal) else str(value)
    # 25 digits at most: the default decimal context rounds from 28 on.
    if not re.fullmatch(r"[-+]?(\d{1,13}(\.\d{1,12})?|\.\d{1,12})", written, re.ASCII):
        raise ValueError
    return Decimal(written)


def amount(value: Any) -> Decimal:
    """An amount of money in major units, 0 to 10^12. Raises ValueError."""
    if not 0 <= (read := exact(value)) <= MAX_AMOUNT:
        raise ValueError
    return read


def positive(value: Any) -> Decimal:
    if not 0 < (read := exact(value)) <= MAX_AMOUNT:
        raise ValueError
    return read


def switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def day(value: Any) -> date:
    """A calendar day from `2024-01-31`. Raises ValueError."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError
    return date.fromisoformat(value)


def time_of_day(value: Any) -> time:
    """A time of day from `08:30`. Raises ValueError."""
    if isinstance(value, time):
        return value
    if not re.fullmatch(r"\d{2}:\d{2}", value, re.ASCII):
        raise ValueError
    return time.fromisoformat(value)


def moment(value: Any) -> datetime:
    """A point in time with its offset. Raises ValueError."""
    read = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if read.tzinfo is None:
        raise ValueError
    return read


def duration(value: Any) -> timedelta:
    """A time span from `30m`, `36h` or `2d`. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([1-9]\d{0,4})([mhd])", value, re.ASCII)
    if not match:
        raise ValueError
    return int(match[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[match[2]]


@cache
def decimals(currency: str) -> int | None:
    """Decimals of an ISO 4217 currency (RULES 1.5); None for an unknown one, or one without a minor unit."""
    try:
        exponent: int | None = IsoCurrency(currency).exponent
    except ValueError:
        return None
    return exponent


def currency(value: Any) -> str:
    if decimals(text(value)) is None:
        raise ValueError
    return str(value)


def minor_units(value: Decimal, code: str) -> int:
    """An amount of money in minor units of its currency (RULES 1.5). Raises ValueError when not whole."""
    places = decimals(code)
    if places is None or (scaled := value.scaleb(places)) != scaled.to_integral_value():
        raise ValueError(f"{value} {code} has no whole number of minor units")
    return int(scaled)


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})


def time_zone(value: Any) -> str:
    if text(value) not in _time_zones():
        raise HintedError(suggestion(value, _time_zones()))
    return str(value)


def language(value: Any) -> str:
    try:
        return str(Locale.parse(text(value).replace("-", "_")))
    except UnknownLocaleError:
        raise ValueError from None


@cache
def holiday_countries() -> dict[str, list[str]]:
    """Subdivisions by two-letter country code, of the countries whose holidays are known."""
    import holidays  # noqa: PLC0415 - slow to import and seldom needed

    return {code: names for code, names in holidays.list_supported_countries().items() if len(code) == 2}


def holiday_country(value: Any) -> str:
    if text(value) not in holiday_countries():
        raise ValueError
    return str(value)


def constant(value: Any) -> str | int | Decimal | bool:
    """A value that a column is compared with as it is. Raises ValueError."""
    if isinstance(value, bool | int | Decimal):
        return value
    return text(value)


def constants(value: Any) -> tuple[str | int | Decimal | bool, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError
    return tuple(constant(item) for item in value)


def orderable(value: Any) -> Decimal | date:
    """A value that can be smaller or larger: a number or a day. Raises ValueError."""
    try:
        return exact(value)
    except ValueError:
        return day(value)


def bounds(value: Any) -> tuple[Decimal | date, Decimal | date]:
    """Two inclusive bounds of one kind, the lower first. Raises ValueError or TypeError."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError
    low, high = orderable(value[0]), orderable(value[1])
    if low > high:  # type: ignore[operator]  # a number beside a day raises the TypeError that refuses it
        raise ValueError
    return low, high


VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_REFERENCE = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"
SECRET_NAMES = "pass|pwd|token|secret|odbc_connect"
"""What in the name of a URL's parameter tells that its value is, or holds, a secret."""

_URL_PASSWORD = re.compile(
    rf"://[^/@:]*:(?!{_REFERENCE}@)[^@/]+@|[?&;][^=&;]*(?:{SECRET_NAMES})[^=&;]*=(?!{_REFERENCE})", re.I
)
_TABLE_PART = r'(?:"[^"]+"|`[^`]+`|\[[^\]]+\]|[\w$-]+)'
_TABLE = re.compile(rf"{_TABLE_PART}(?:\.{_TABLE_PART})*")
_SQL_PREFIX = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.S)


def with_variables(value: Any) -> str:
    """Text that may hold `${VAR}` or `${VAR:-fallback}`, as written. Raises ValueError when malformed."""
    if "${" in VARIABLE.sub("", text(value)):
        raise ValueError
    return str(value)


def address(value: Any) -> str:
    """A URL that holds no password: the policy text is kept in the warehouse. Raises ValueError."""
    if _URL_PASSWORD.search(with_variables(value)) or not ("://" in value or "${" in value):
        raise ValueError
    return str(value)


def web_address(value: Any) -> str:
    """An address of the web without a secret in it, or one from the environment. Raises ValueError."""
    if not re.match(r"(?:https?://|\$\{)[^?#]*$", address(value)):
        raise ValueError
    return str(value)


def is_table_name(value: str) -> bool:
    return bool(_TABLE.fullmatch(value.strip()))


def table_name(value: Any) -> str:
    if not is_table_name(text(value)):
        raise ValueError
    return str(value.strip())


def select_statement(value: Any) -> str:
    """SQL that begins with select or with, comments left aside. Raises ValueError."""
    prefix = _SQL_PREFIX.match(text(value))
    if not re.match(r"(?:select|with)\b", value[prefix.end() if prefix else 0 :], re.I):
        raise ValueError
    return str(value)


def expression(value: Any) -> str:
    """SQL of one value, to be put into parentheses. Raises ValueError."""
    if re.search(r";|--|/\*|#", text(value)):
        raise ValueError
    return str(value.strip())


UNIX_SECONDS, UNIX_MILLISECONDS, JSON_DATE = "unix_seconds", "unix_milliseconds", "/Date(ms)/"
NUMBERED_DATES = (UNIX_SECONDS, UNIX_MILLISECONDS, JSON_DATE)
"""Formats of times as numbers: seconds or milliseconds since 1970, or `/Date(1539993600000+0000)/`."""


def date_format(value: Any) -> str:
    if text(value) not in NUMBERED_DATES and "%" not in value:
        raise ValueError
    return str(value)


def time_format(value: Any) -> str:
    return str(value) if value in ("iso", "http") else date_format(value)


def parameter(value: Any) -> str | tuple[str, ...]:
    """The text of a query parameter, or of each of several of one name. Raises ValueError."""
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError
        return tuple(_parameter(item) for item in value)
    return _parameter(value)


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | Decimal) else with_variables(value)


def encoding(value: Any) -> str:
    """The name of a text encoding, as Python calls it. Raises ValueError."""
    try:
        return codecs.lookup(text(value).strip()).name
    except LookupError:
        raise ValueError from None


def not_empty(values: Entries) -> Entries:
    """The same entries. Raises when there are none."""
    if not values:
        raise PydanticCustomError("house", f"{shown(values)} is not allowed: at least one entry")
    return values


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values. Raises when there are none, or one stands there twice."""
    not_empty(values)
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise PydanticCustomError("house", "{shown} is not allowed twice: each value once", {"shown": shown(twice)})
    return values


def field_problems(error: ValidationError, document: Document, schema: dict[str, Any]) -> list[Problem]:
    """What pydantic refused, in our words: the bad value and what is allowed."""
    return [_field_problem(dict(detail), document, schema) for detail in error.errors(include_url=False)]


def _field_problem(detail: dict[str, Any], document: Document, schema: dict[str, Any]) -> Problem:
    kind = detail["type"]
    location = _written(detail["loc"], document.data, keep_last=kind in ("missing", "extra_forbidden"))
    message = _sentence(detail, location, document.data, schema)
    return Problem(document.file, document.line(location), dotted(location), message)


def _written(loc: Location, data: Any, *, keep_last: bool) -> Location:
    """The location in the file, without the steps that validation adds for a union or a normalised value."""
    location: Location = ()
    for place, step in enumerate(loc):
        inside = isinstance(data, dict) and step in data
        inside = inside or (isinstance(data, list) and isinstance(step, int) and step < len(data))
        if inside:
            location, data = (*location, step), data[step]
        elif keep_last and place == len(loc) - 1:
            location = (*location, step)
    return location


def _sentence(detail: dict[str, Any], location: Location, data: Any, schema: dict[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "house":
        return str(detail["msg"])
    if kind == "missing":
        return _missing(location, data, schema)
    if kind == "extra_forbidden":
        return _unknown_key(location, data, schema)
    if kind == "union_tag_not_found":
        return f"the key kind is missing: one of {', '.join(_kinds(location, data, schema))}"
    if kind == "union_tag_invalid":
        tag, kinds = str(context["tag"]), _kinds(location, data, schema)
        return f"kind {shown(tag)} is not allowed: one of {', '.join(kinds)}{suggestion(tag, kinds)}"
    value = detail["input"]
    may_be_secret = location[:1] == ("sources",) and isinstance(value, str) and kind != "literal_error"
    bad = HIDDEN if may_be_secret else shown(value)
    return f"{bad} is not allowed: {_allowed(kind, context, value)}"


def _allowed(kind: str, context: dict[str, Any], value: Any) -> str:
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        return " or ".join(names) + (suggestion(value, names) if isinstance(value, str) else "")
    if kind in ("list_type", "tuple_type"):
        return "a list, such as [a, b]"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "a mapping of keys (or leave the key out)"
    return "see the comment in dunning.yaml or the schema"


def _missing(location: Location, data: Any, schema: dict[str, Any]) -> str:
    around = _schema_at(schema, location[:-1], data)
    description = around.get("properties", {}).get(location[-1], {}).get("description", "")
    return f"is missing: {description}".rstrip(": ")


def _unknown_key(location: Location, data: Any, schema: dict[str, Any]) -> str:
    keys = list(_schema_at(schema, location[:-1], data).get("properties", {}))
    return f"is not an allowed key: one of {', '.join(keys)}{suggestion(str(location[-1]), keys)}"


def _kinds(location: Location, data: Any, schema: dict[str, Any]) -> list[str]:
    around = _schema_at(schema, location[:-1], data)
    inner = around.get("properties", {}).get(location[-1]) or around.get("additionalProperties", {})
    options = [inner, *inner.get("anyOf", [])]
    return next(list(option["discriminator"]["mapping"]) for option in options if "discriminator" in option)


def _schema_at(schema: dict[str, Any], location: Location, data: Any) -> dict[str, Any]:
    """The part of the JSON Schema that describes the value at a location of the data."""
    part = _opened(schema, schema, data)
    for step in location:
        data = data[step]
        inner = part.get("properties", {}).get(step) or part.get("additionalProperties") or part.get("items") or {}
        part = _opened(inner, schema, data)
    return part


def _opened(part: dict[str, Any], schema: dict[str, Any], data: Any) -> dict[str, Any]:
    """The schema itself behind a reference, a source's kind or `null or …`."""
    if "$ref" in part:
        return _opened(schema["$defs"][part["$ref"].rpartition("/")[2]], schema, data)
    if "oneOf" in part:
        reference = part["discriminator"]["mapping"].get(data.get("kind"))
        return _opened({"$ref": reference}, schema, data) if reference else {}
    opened = [_opened(option, schema, data) for option in part.get("anyOf", [])]
    return next((option for option in opened if "properties" in option or "items" in option), part)


def cross_findings(data: dict[str, Any]) -> Iterator[Finding]:
    """What is wrong between keys that are fine on their own (CONTRACT, Settings), with its location.

    Looks at the plain data, so that a mistake elsewhere in the file hides none of it.
    """
    for check in (_workflows, _rules, _money, _rates, _holidays, _quiet_hours, _mappings, _requests, _credentials):
        yield from check(data)


FIGURES = ("open_balance", "overdue_balance", "oldest_days_overdue", "open_invoices")
NUMBERS = {"customer": FIGURES, "invoice": (*FIGURES, "total", "outstanding", "days_overdue")}
"""What is always a number in rules for customers and in those for invoices (RULES 3.2)."""

_EQUALITY, _ORDER = ("is", "is_not", "in", "not_in"), ("at_least", "more_than", "at_most", "less_than", "between")


def futile_findings(data: dict[str, Any]) -> Iterator[Finding]:
    """Conditions on numbers that hold always or never, whatever is owed, with their locations."""
    for i, rule in _items(data.get("smart_rules")):
        for column, condition in _entries(rule.get("when")):
            if column in NUMBERS.get(str(rule.get("for", "customer")), ()):
                for operator, constant in _entries(condition):
                    allowed = _why_futile(operator, constant)
                    if allowed:
                        here = ("smart_rules", i, "when", column, operator)
                        yield here, f"{shown(constant)} is not allowed: {column} is a number, {allowed}"


def _why_futile(operator: str, constant: Any) -> str | None:
    """What is allowed instead of a condition on a number, if it asks nothing of one."""
    if operator == "contains":
        return f"and has no tags: one of {', '.join((*_EQUALITY, *_ORDER))}"
    if operator == "is_empty":
        return "which is never empty: compare it with 0" if constant is True else None
    constants = constant if isinstance(constant, list) else [constant]
    if operator in _EQUALITY and not all(map(_is_number, constants)):
        return "to be compared with numbers, without quotes"
    if operator in _ORDER and any(isinstance(one, str) and _is_day(one) for one in constants):
        return "to be compared with numbers"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _is_day(value: str) -> bool:
    try:
        day(value)
    except ValueError:
        return False
    return True


def _at(data: Any, *steps: str) -> Any:
    for step in steps:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def _items(data: Any) -> list[tuple[int, dict[str, Any]]]:
    """The mappings in a list, each with its place."""
    return (
        [(place, item) for place, item in enumerate(data) if isinstance(item, dict)] if isinstance(data, list) else []
    )


def _entries(data: Any) -> list[tuple[str, Any]]:
    return list(data.items()) if isinstance(data, dict) else []


def _repeated(places: Iterable[tuple[Location, Any]], allowed: str) -> Iterator[Finding]:
    seen: list[Any] = []
    for location, value in places:
        if isinstance(value, str | int) and value in seen:
            yield location, f"{shown(value)} is not allowed again: {allowed}"
        seen.append(value)


def _workflows(data: dict[str, Any]) -> Iterator[Finding]:
    workflows = _items(data.get("workflows"))
    names: list[tuple[Location, Any]] = [(("workflows", i, "name"), flow.get("name")) for i, flow in workflows]
    yield from _repeated(names, "each workflow has its own name")
    defaults = [(i, flow) for i, flow in workflows if flow.get("default") is True]
    for i, _ in defaults[1:]:
        first = shown(defaults[0][1].get("name"))
        yield (
            ("workflows", i, "default"),
            f"true is not allowed again: one workflow is the default, and {first} is it",
        )
    for i, flow in defaults:
        if flow.get("carried_by") == "invoice":
            message = '"invoice" is not allowed: the default workflow is carried by customer'
            yield ("workflows", i, "carried_by"), message
    for i, flow in workflows:
        yield from _actions(("workflows", i, "actions"), _items(flow.get("actions")))


def _actions(here: Location, actions: list[tuple[int, dict[str, Any]]]) -> Iterator[Finding]:
    names: list[tuple[Location, Any]] = []
    for i, action in actions:
        names.append(((*here, i, "name"), action.get("name")))
        former = action.get("was")
        names += [((*here, i, "was", j), name) for j, name in enumerate(former if isinstance(former, list) else [])]
    yield from _repeated(names, "each action of a workflow has its own name, former names (was) included")
    days = [(i, d) for i, action in actions if isinstance(d := action.get("day"), int) and not isinstance(d, bool)]
    yield from _repeated((((*here, i, "day"), d) for i, d in days), "each action of a workflow has its own day")
    for (_, before), (i, d) in pairwise(days):
        if d < before:
            yield (
                (*here, i, "day"),
                f"{d} is not allowed after {before}: actions stand in ascending order of day",
            )


def _rules(data: dict[str, Any]) -> Iterator[Finding]:
    rules = _items(data.get("smart_rules"))
    names: list[tuple[Location, Any]] = [(("smart_rules", i, "name"), rule.get("name")) for i, rule in rules]
    yield from _repeated(names, "each smart rule has its own name")
    levels = {str(flow.get("name")): flow.get("carried_by", "customer") for _, flow in _items(data.get("workflows"))}
    for i, rule in rules:
        allowed = _rule_workflow(rule.get("workflow"), rule.get("for", "customer"), levels)
        if allowed:
            yield ("smart_rules", i, "workflow"), f"{shown(rule['workflow'])} is not allowed: {allowed}"


def _rule_workflow(name: Any, level: Any, levels: dict[str, Any]) -> str | None:
    """What is allowed, if a rule for customers or for invoices may not name this workflow (RULES 2.4)."""
    if not isinstance(name, str) or not name:
        return None
    if name not in levels:
        return f"the name of a workflow, one of {', '.join(levels) or 'none so far'}{suggestion(name, levels)}"
    if (level, levels[name]) in (("customer", "invoice"), ("invoice", "customer")):
        return f"a smart rule for: {level} names a workflow with carried_by: {level}"
    return None


def _money(data: dict[str, Any]) -> Iterator[Finding]:
    for here in (
        ("receivables", "tolerance"),
        ("receivables", "minimum_amount"),
        ("order_reminders", "tolerance"),
    ):
        for code, value in _entries(_at(data, *here)):
            places = decimals(code)
            try:
                fits = places is None or amount(value).scaleb(places) % 1 == 0
            except (ValueError, ArithmeticError):
                continue
            if not fits:
                yield (*here, code), f"{shown(value)} is not allowed: {code} has {places} decimals"


def _rates(data: dict[str, Any]) -> Iterator[Finding]:
    base = _at(data, "organisation", "base_currency")
    if isinstance(base, str) and base in dict(_entries(_at(data, "organisation", "exchange_rates"))):
        message = f"a rate for {base} is not allowed: it is the base currency, rates are of the others"
        yield ("organisation", "exchange_rates", base), message


def _holidays(data: dict[str, Any]) -> Iterator[Finding]:
    holidays = _at(data, "calendar", "holidays")
    subdivision, country = _at(holidays, "subdivision"), _at(holidays, "country")
    if not isinstance(subdivision, str):
        return
    here = ("calendar", "holidays", "subdivision")
    if country is None:
        yield here, f"{shown(subdivision)} is not allowed without a country"
    elif isinstance(country, str) and country in holiday_countries():
        known = holiday_countries()[country]
        if subdivision not in known:
            yield (
                here,
                f"{shown(subdivision)} is not allowed: one of {', '.join(known) or 'none'} for {country}",
            )


def _quiet_hours(data: dict[str, Any]) -> Iterator[Finding]:
    hours = _at(data, "order_reminders", "quiet_hours")
    start, end = _at(hours, "from"), _at(hours, "to")
    if isinstance(start, str) and start == end:
        message = f"{shown(end)} is not allowed: quiet hours end at another time than they begin"
        yield ("order_reminders", "quiet_hours", "to"), message


def with_preset(source: Any) -> Any:
    """The settings of a database with the tables of its preset beside its own, which go before."""
    if not isinstance(source, dict) or source.get("preset") not in erp.NAMES:
        return source
    own = source.get("tables", {})
    return {**source, "tables": {**erp.load(source["preset"]), **own}} if isinstance(own, dict) else source


def _mappings(data: dict[str, Any]) -> Iterator[Finding]:
    for source, settings in _entries(data.get("sources")):
        if _at(settings, "kind") == "sql" and not {"tables", "preset"} & settings.keys():
            yield ("sources", source), "either tables or preset is needed"
        for table, mapping in _entries(_at(settings, "tables")):
            if not isinstance(mapping, dict):
                continue
            here = ("sources", source, "tables", table)
            if settings.get("kind") == "sql" and ("query" in mapping) == ("table" in mapping):
                yield here, "either query or table is needed, and not both"
            if mapping.get("complete") is True and "watermark" in mapping and settings.get("kind") != "rest":
                yield (*here, "complete"), "true is not allowed beside a watermark: only changes are pulled then"
            if mapping.get("complete") is True and mapping.get("only_new") is True:
                yield (*here, "complete"), "true is not allowed beside only_new: only new files are read then"
            yield from _repeated(_targets(here, mapping), "each column of the table is filled once")


def _requests(data: dict[str, Any]) -> Iterator[Finding]:
    for source, settings in _entries(data.get("sources")):
        if _at(settings, "kind") != "rest":
            continue
        for table, request in _entries(_at(settings, "tables")):
            yield from _request(("sources", source, "tables", table), table, request)


def _request(here: Location, table: str, request: Any) -> Iterator[Finding]:
    since, pagination = _at(request, "since"), _at(request, "pagination")
    if isinstance(since, dict) and ("parameter" in since) == ("header" in since):
        yield (*here, "since"), "either parameter or header is needed, and not both"
    if (_at(request, "watermark") is None) != (since is None):
        yield (
            here,
            "watermark and since go together: where a record tells when it changed, and how changes are asked for",
        )
    if _at(pagination, "kind") == "cursor" and ("cursor" in pagination) == ("last_record" in pagination):
        yield (*here, "pagination"), "either cursor or last_record is needed, and not both"
    if _at(request, "look_up") is not None and table != "invoices":
        yield (*here, "look_up"), "is allowed for invoices only"


CREDENTIAL_NAMES = rf"{SECRET_NAMES}|authorization|auth$|api.?key|\bkey$|cookie"
"""What in the name of a header or parameter tells that its value is a secret."""


def _credentials(data: dict[str, Any]) -> Iterator[Finding]:
    """Secrets that are written into the policy, whose text is kept in the warehouse; and ways to prove oneself."""
    for source, settings in _entries(data.get("sources")):
        here: Location = ("sources", source)
        if _at(settings, "kind") == "rest":
            named = [((*here, "headers"), _at(settings, "headers"))]
            for table, request in _entries(_at(settings, "tables")):
                for around in ((), ("since",), ("look_up",)):
                    steps = (*around, "params")
                    named.append(((*here, "tables", table, *steps), _at(request, *steps)))
            for location, values in named:
                yield from _plain_secrets(location, values)
            auth = _at(settings, "auth")
            if isinstance(auth, dict) and len(auth) != 1:
                yield (*here, "auth"), "one of bearer, basic, client_credentials is needed, and not several"
        if _at(settings, "kind") == "xero":
            client = ["client_id" in settings, "client_secret" in settings]
            if ("token" in settings) == any(client) or any(client) != all(client):
                yield here, "either token, or client_id and client_secret are needed, and not both"


def _plain_secrets(here: Location, values: Any) -> Iterator[Finding]:
    for name, value in _entries(values):
        if re.search(CREDENTIAL_NAMES, name, re.I) and not VARIABLE.search(str(value)):
            yield (
                (*here, name),
                f"{HIDDEN} is not allowed: a secret only as ${{VAR}}, since the policy is kept in the warehouse",
            )


def _targets(here: Location, mapping: dict[str, Any]) -> Iterator[tuple[Location, Any]]:
    for column, names in _entries(mapping.get("columns")):
        for name in names if isinstance(names, list) else [names]:
            yield (*here, "columns", column), name
    for name, _ in _entries(mapping.get("values")):
        yield (*here, "values", name), name
