"""Values of any kind as exact, unambiguous text, for the Parquet files that staging.py reads."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa


def exact_texts(values: Sequence[object]) -> pa.Array:
    """One column of a batch as text; each kind of value in its exact and unambiguous form, empty ones empty."""
    kinds = {type(value) for value in values}
    if kinds <= {str, type(None)}:
        return pa.array(values, type=pa.string())
    writers = {kind: _WRITERS.get(kind, str) for kind in kinds}
    return pa.array([writers[type(value)](value) for value in values], type=pa.string())


def _plain_decimal(value: Decimal) -> str:
    return format(value, "f")


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _time(value: datetime) -> str:
    """A time with a zone is written in UTC, whatever zone the session of a database has."""
    return str(value.astimezone(UTC) if value.tzinfo else value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _bytes(value: bytes) -> str:
    return bytes(value).decode("utf-8", errors="replace")


_WRITERS: dict[type, Callable[..., str | None]] = {
    type(None): lambda _: None,
    Decimal: _plain_decimal,
    bool: _boolean,
    datetime: _time,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    float: repr,
    list: _json,
    dict: _json,
}
