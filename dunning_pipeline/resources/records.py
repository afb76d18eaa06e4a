"""JSON records to rows of text: fields by dotted path, every number exactly as it was written.

How records are fetched belongs in rest_source.py, what the texts mean to staging.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

MOST_DIGITS = 60
"""Digits up to which a number with an exponent is written out; a longer one stays as it came, and is no amount."""


def parse(body: bytes) -> Any:
    """The data of a JSON text, without binary floats. Raises ValueError."""
    return json.loads(body, parse_float=_decimal, parse_constant=str)


def _decimal(written: str) -> Decimal | str:
    number = Decimal(written)
    return number if abs(number.adjusted()) <= MOST_DIGITS else written


def field(record: Any, path: str) -> Any:
    """What stands at a path such as `customer.email` or `phones.0.number`; None where nothing does."""
    for step in path.split("."):
        if isinstance(record, dict):
            record = record.get(step)
        elif isinstance(record, list) and step.isdecimal() and int(step) < len(record):
            record = record[int(step)]
        else:
            return None
    return record


def text(value: Any) -> str | None:
    """A value as text: numbers plainly, true and false, lists and mappings as JSON; None for null."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)


def texts(record: Any, paths: Sequence[str]) -> dict[str, str | None]:
    """The texts of a record by path."""
    return {path: text(field(record, path)) for path in paths}


def holds(record: Any, conditions: Mapping[str, Sequence[str]]) -> bool:
    """Whether each field has one of the texts given for it."""
    return all(text(field(record, path)) in allowed for path, allowed in conditions.items())


def paths(record: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all fields of a record, those around others included; lists are not looked into."""
    if isinstance(record, dict):
        for name, value in record.items():
            yield prefix + name
            yield from paths(value, f"{prefix}{name}.")


def columns(rows: Sequence[Mapping[str, str | None]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as columns of text. Halves of surrogate pairs, which are no characters, become `?`."""
    arrays = [[row[name] for row in rows] for name in schema.names]
    try:
        return pa.record_batch([pa.array(values, pa.string()) for values in arrays], schema=schema)
    except UnicodeEncodeError:
        cleaned = [[value and value.encode("utf-8", "replace").decode() for value in values] for values in arrays]
        return pa.record_batch([pa.array(values, pa.string()) for values in cleaned], schema=schema)
