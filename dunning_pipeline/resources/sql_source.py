"""Reads tables of any database that SQLAlchemy knows into Parquet files of text, a batch at a time.

Exact on purpose: NUMERIC and large integers never pass through floats. What the text means is staging.py's.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import TableQuery
from dunning_pipeline.policy_file import SECRET_NAMES
from dunning_pipeline.resources.staging import REJECTS_SCHEMA

BATCH_ROWS = 50_000


@dataclass(frozen=True)
class SqlSourceReader:
    """A database named `name` in the policy. `url` is a SQLAlchemy URL and may hold a password."""

    name: str
    url: SecretStr

    def read(self, query: TableQuery, target: Path) -> pa.Table:
        """Writes the rows of a query or table to `target` as text; returns what could not be read: nothing here.

        Raises:
            SourceError: the database is unreachable, or refuses the query.
        """
        with self._rows(query) as (columns, batches):
            schema = pa.schema([(column, pa.string()) for column in columns])
            with pq.ParquetWriter(target, schema) as writer:
                for batch in batches:
                    texts = [_texts(values) for values in zip(*batch, strict=True)]
                    writer.write_batch(pa.record_batch(texts, schema=schema))
        return REJECTS_SCHEMA.empty_table()

    def columns(self, query: TableQuery) -> tuple[str, ...]:
        """Names of the columns that a query or table yields. Raises SourceError like `read`."""
        with self._rows(query) as (columns, _):
            return columns

    @contextmanager
    def _rows(self, query: TableQuery) -> Iterator[tuple[tuple[str, ...], Iterator[Sequence[sa.Row[Any]]]]]:
        try:
            engine = sa.create_engine(self.url.get_secret_value(), poolclass=sa.NullPool)
            with engine.connect() as connection:
                streaming = connection.execution_options(yield_per=BATCH_ROWS)
                result = streaming.execute(_statement(query, engine))
                columns = tuple(result.keys())
                for column in columns:
                    if columns.count(column) > 1:
                        raise SourceError(f"source {self.name}: the query yields column '{column}' twice")
                yield columns, result.partitions(BATCH_ROWS)
        except ModuleNotFoundError as error:
            raise SourceError(
                f"source {self.name}: its database driver is not installed: pip install {error.name}"
            ) from None
        except (SQLAlchemyError, TypeError, ValueError) as error:
            raise SourceError(f"source {self.name}: {self._without_secrets(error)}") from None

    def _without_secrets(self, error: Exception) -> str:
        """The driver's words in one line, without the secrets of the URL."""
        words = " ".join(str(getattr(error, "orig", None) or error).split())
        try:
            url = sa.make_url(self.url.get_secret_value())
        except SQLAlchemyError:
            return "the URL is not a SQLAlchemy URL such as postgresql+psycopg://user:password@host/database"
        named = [value for name, value in url.query.items() if re.search(SECRET_NAMES, name, re.IGNORECASE)]
        for secret in filter(None, [url.password, *named]):
            words = words.replace(str(secret), "***")
        return words


def _statement(query: TableQuery, engine: sa.Engine) -> sa.Executable:
    if query.query:
        # Colons are part of the user's SQL (casts, times), never bind parameters of ours.
        return sa.text(query.query.replace(":", r"\:"))
    names = [engine.dialect.identifier_preparer.quote(part) for part in str(query.table).split(".")]
    return sa.text(f"select * from {'.'.join(names)}")


def _texts(values: Sequence[object]) -> pa.Array:
    """One column of a batch as text; each kind of value in its exact and unambiguous form."""
    kinds = {type(value) for value in values}
    if kinds <= {str, type(None)}:
        return pa.array(values, type=pa.string())
    writers = {kind: _WRITERS.get(kind, str) for kind in kinds}
    return pa.array([writers[type(value)](value) for value in values], type=pa.string())


def _plain_decimal(value: Decimal) -> str:
    return format(value, "f")


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _bytes(value: bytes) -> str:
    return bytes(value).decode("utf-8", errors="replace")


_WRITERS: dict[type, Callable[..., str | None]] = {
    type(None): lambda _: None,
    Decimal: _plain_decimal,
    bool: _boolean,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    float: repr,
    list: _json,
    dict: _json,
}
