"""Reads PostgreSQL through ADBC, whose rows arrive as Arrow: the same rows as by SQLAlchemy for a fraction of the work.

Used where its driver is installed and every column is of a type that both give alike; what is read when, and what
errors say, is sql_source.py's.
"""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from dunning_pipeline.resources.exact_texts import exact_texts
from dunning_pipeline.resources.watermarks import Value

DRIVER = "adbc_driver_postgresql"
LIBPQ_DRIVERS = ("psycopg", "psycopg2")
"""Drivers whose URLs mean the same to ADBC: all of them hand the query of a URL to libpq."""

ALIKE = frozenset(
    ["bool", "int2", "int4", "int8", "float4", "float8", "numeric"]
    + ["date", "timestamp", "timestamptz", "json", "jsonb", "uuid"]
)
"""PostgreSQL's types, beside those that are text, whose values staging writes as SQLAlchemy's driver would."""

_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def serves(url: sa.URL) -> bool:
    """Whether a database can be read by ADBC here."""
    return url.get_backend_name() == "postgresql" and url.get_driver_name() in LIBPQ_DRIVERS and bool(find_spec(DRIVER))


@contextmanager
def record_batches(url: sa.URL, statement: str, timeout: timedelta) -> Iterator[pa.RecordBatchReader | None]:
    """The rows of a statement as batches, read-only and streamed; None where a column's type is not in ALIKE.

    Raises:
        adbc_driver_manager.Error, OSError: the database is unreachable, refuses the statement or breaks off.
    """
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415 - an optional dependency

    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(dbapi.connect(address)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("set transaction read only")
        cursor.execute(f"set local statement_timeout = {timeout // timedelta(milliseconds=1)}")
        if not all(map(_is_alike, cursor.adbc_execute_schema(statement))):
            yield None
            return
        cursor.execute(statement)
        yield cursor.fetch_record_batch()


def _is_alike(field: pa.Field) -> bool:
    kind = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    # PostgreSQL's "char" is one byte that ADBC takes for text: of some bytes it makes others.
    return kind in ALIKE or (pa.types.is_string(field.type) and kind != "char")


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch without extension types: decimals and JSON as text, all else in the types that staging writes as text."""
    columns = [_plain(column) for column in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the batches that `plain_batch` makes."""
    return plain_batch(pa.RecordBatch.from_pylist([], schema=schema)).schema


def _plain(column: pa.Array) -> pa.Array:
    match getattr(column.type, "extension_name", ""):
        case "arrow.json":
            # Parsed, as SQLAlchemy's driver does: a text in JSON is the text itself.
            return exact_texts([None if text is None else json.loads(text) for text in column.storage.to_pylist()])
        case "arrow.opaque":
            return _with_plain_names(column.storage)
        case _:
            return column


def _with_plain_names(numbers: pa.Array) -> pa.Array:
    """Numbers as text, with the names that Python's decimals have for those that are none."""
    odd = pc.is_in(numbers, value_set=pa.array([*_NOT_FINITE]))
    if not pc.any(odd).as_py():
        return numbers
    return pa.array([_NOT_FINITE.get(text, text) for text in numbers.to_pylist()], type=pa.string())


def highest_value(column: pa.Array) -> Any:
    """The highest value of a column as Python has it; None where all are empty."""
    match getattr(column.type, "extension_name", ""):
        case "arrow.opaque":
            return max((Decimal(text) for text in column.storage.to_pylist() if text is not None), default=None)
        case "":
            return pc.max(column).as_py()
        case _:
            return next((value for value in column.to_pylist() if value is not None), None)


def literal_value(value: Value) -> str:
    """A watermark's value in PostgreSQL's SQL: rows are only streamed by statements without parameters."""
    match value:
        case datetime() as moment:
            return f"{'timestamptz' if moment.tzinfo else 'timestamp'} '{moment.isoformat()}'"
        case date() as day:
            return f"date '{day.isoformat()}'"
        case str() as text:
            return "'" + text.replace("'", "''") + "'"
        case number:
            return format(number, "f") if isinstance(number, Decimal) else str(number)


def errors() -> tuple[type[Exception], ...]:
    """What ADBC raises: errors of its own at the start, those of the operating system in the middle of the rows."""
    if not find_spec(DRIVER):
        return ()
    from adbc_driver_manager import Error  # noqa: PLC0415 - an optional dependency

    return Error, OSError


def tells_of_the_database(error: Exception) -> bool:
    """Whether an error of those is the database's: a full disk of ours is none."""
    return not isinstance(error, OSError) or "[libpq]" in str(error)


def connection_is_lost(error: Exception) -> bool:
    """Whether an error of ADBC tells of the connection rather than of the statement."""
    state = getattr(error, "sqlstate", None)
    if state:
        return str(state).startswith(("08", "57P"))
    return "ERROR:" not in str(error)
