"""Reads tables of any database that SQLAlchemy knows into Parquet files, a batch at a time.

Exact on purpose: NUMERIC and large integers never pass through floats. What the text means is staging.py's.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
import tenacity
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dunning_pipeline.errors import SourceError
from dunning_pipeline.masking import masked
from dunning_pipeline.policy import TableQuery
from dunning_pipeline.policy_file import SECRET_NAMES
from dunning_pipeline.resources import postgres_arrow
from dunning_pipeline.resources.clock import Clock, system_clock
from dunning_pipeline.resources.exact_texts import exact_texts
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, Raw
from dunning_pipeline.resources.watermarks import Watermark, highest

BATCH_ROWS = 50_000
ATTEMPTS, MOST_SECONDS_BETWEEN = 3, 10
"""How often a database is asked whose connection fails or breaks, and how long is waited in between."""

WATERMARK = "dunning_watermark"
"""Name of the column that the watermark's expression is read into."""

LOWEST = "dunning_lowest"
"""Stands for the parameter of a statement until the colons of the user's SQL are escaped."""

Batches = Iterator[Sequence[sa.Row[Any]]]


@dataclass(frozen=True)
class SqlSourceReader:
    """A database named `name` in the policy. `url` is a SQLAlchemy URL and may hold a password.

    `time_zone`: of times without one. `statement_timeout`: how long one statement may take. `clock`: watermarks do not
    go beyond its now. `sleep`: how to wait before a broken connection is made again. `arrow`: whether PostgreSQL is
    read by ADBC where its driver is installed.
    """

    name: str
    url: SecretStr
    time_zone: str = "UTC"
    statement_timeout: timedelta = timedelta(minutes=10)
    clock: Clock = system_clock
    sleep: Callable[[float], None] = time.sleep
    arrow: bool = True

    def read(self, query: TableQuery, target: Path, since: Watermark | None = None) -> Raw:
        """Writes the rows of a query or table to `target`, from a watermark on where there is one.

        Columns are text, or of types that staging.py writes as the same text.

        A connection that breaks is made again, and the rows are read from the beginning. Rows whose watermark is empty
        are read every time.

        Raises:
            SourceError: the database is unreachable, or refuses the query.
        """
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ConnectionLost),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential_jitter(max=MOST_SECONDS_BETWEEN),
            sleep=self.sleep,
            reraise=True,
        ):
            with attempt:
                return self._read(query, target, since)
        raise AssertionError  # tenacity returns or raises

    def _read(self, query: TableQuery, target: Path, since: Watermark | None) -> Raw:
        reached = self._read_arrow(query, target, since) or self._read_rows(query, target, since)
        return Raw(REJECTS_SCHEMA.empty_table(), reached.mark and reached.mark.capped(self.clock(), self.time_zone))

    def _read_arrow(self, query: TableQuery, target: Path, since: Watermark | None) -> "_Reached | None":
        """The same as `_read_rows` with less work; None where a database or a type is not made for it."""
        with self._in_words():
            url = sa.make_url(self.url.get_secret_value())
            if not (self.arrow and postgres_arrow.serves(url)):
                return None
            lowest = postgres_arrow.literal_value(since.less(query.overlap)) if since and query.watermark else None
            statement = _select(query, sa.create_engine(url), lowest)
            with postgres_arrow.record_batches(url, statement, self.statement_timeout) as reader:
                return reader and self._write_arrow(query, reader, target, since)

    def _write_arrow(
        self, query: TableQuery, reader: pa.RecordBatchReader, target: Path, since: Watermark | None
    ) -> "_Reached":
        self._refuse_twice(reader.schema.names)
        kept = reader.schema.names[:-1] if query.watermark else reader.schema.names
        schema = postgres_arrow.plain_schema(pa.schema([reader.schema.field(name) for name in kept]))
        reached = since if query.watermark else None
        with pq.ParquetWriter(target, schema, compression="none", use_dictionary=False) as writer:
            for batch in reader:
                writer.write_batch(postgres_arrow.plain_batch(batch.select(kept)))
                if query.watermark:
                    reached = highest([postgres_arrow.highest_value(batch.column(WATERMARK))], reached)
        return _Reached(reached)

    def _read_rows(self, query: TableQuery, target: Path, since: Watermark | None) -> "_Reached":
        reached = since
        with self._rows(query, since) as (columns, batches):
            kept = columns[:-1] if query.watermark else columns
            schema = pa.schema([(column, pa.string()) for column in kept])
            with pq.ParquetWriter(target, schema) as writer:
                for batch in batches:
                    values = list(zip(*batch, strict=True))
                    texts = [exact_texts(value) for value in values[: len(kept)]]
                    writer.write_batch(pa.record_batch(texts, schema=schema))
                    reached = highest(values[-1], reached) if query.watermark else None
        return _Reached(reached)

    def columns(self, query: TableQuery) -> tuple[str, ...]:
        """Names of the columns that a query or table yields. Raises SourceError like `read`."""
        with self._rows(query) as (columns, _):
            return columns[:-1] if query.watermark else columns

    def newest(self, query: TableQuery) -> Watermark | None:
        """The highest watermark there is now, in one statement; None without rows, or where the query has none.

        Raises:
            SourceError: like `read`, but nothing is tried twice.
        """
        if not query.watermark:
            return None
        with self._in_words():
            engine = sa.create_engine(self.url.get_secret_value(), poolclass=sa.NullPool)
            statement = f"select max({WATERMARK}) from ({_select(query, engine)}) newest"
            with _connection(engine) as connection:
                self._prepare(connection)
                return highest([connection.execute(sa.text(_literally(statement))).scalar()], None)

    @contextmanager
    def _rows(self, query: TableQuery, since: Watermark | None = None) -> Iterator[tuple[tuple[str, ...], Batches]]:
        with self._in_words():
            engine = sa.create_engine(self.url.get_secret_value(), poolclass=sa.NullPool)
            with _connection(engine) as connection:
                self._prepare(connection)
                streaming = connection.execution_options(yield_per=BATCH_ROWS)
                result = streaming.execute(*_statement(query, engine, since))
                columns = tuple(result.keys())
                self._refuse_twice(columns)
                yield columns, result.partitions(BATCH_ROWS)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """What goes wrong with a database as a SourceError."""
        try:
            yield
        except ModuleNotFoundError as error:
            raise SourceError(
                f"source {self.name}: its database driver is not installed: pip install {error.name}"
            ) from None
        except (SQLAlchemyError, TypeError, ValueError) as error:
            kind = ConnectionLost if getattr(error, "connection_invalidated", False) else SourceError
            raise kind(f"source {self.name}: {self._without_secrets(error)}") from None
        except postgres_arrow.errors() as error:
            if not postgres_arrow.tells_of_the_database(error):
                raise
            kind = ConnectionLost if postgres_arrow.connection_is_lost(error) else SourceError
            raise kind(f"source {self.name}: {self._without_secrets(error)}") from None

    def _refuse_twice(self, columns: Sequence[str]) -> None:
        for column in columns:
            if columns.count(column) > 1:
                raise SourceError(f"source {self.name}: the query yields column '{column}' twice")

    def _prepare(self, connection: sa.Connection) -> None:
        """Nothing is written there, and no statement waits for ever."""
        dialect = "mariadb" if getattr(connection.dialect, "is_mariadb", False) else connection.dialect.name
        for statement in _PREPARATIONS.get(dialect, ()):
            milliseconds = self.statement_timeout // timedelta(milliseconds=1)
            connection.execute(sa.text(statement.format(milliseconds=milliseconds, seconds=milliseconds / 1000)))

    def _without_secrets(self, error: Exception) -> str:
        """The driver's words in one line, without the secrets of the URL and without addresses."""
        words = " ".join(str(getattr(error, "orig", None) or error).split())
        try:
            secrets = _secrets_of(self.url.get_secret_value())
        except (SQLAlchemyError, ValueError):
            return "the URL is not a SQLAlchemy URL such as postgresql+psycopg://user:password@host/database"
        for secret in secrets:
            words = words.replace(secret, "***")
        return masked(words)


def _secrets_of(url: str) -> list[str]:
    """The password and other secrets of a URL in every form in which a driver may quote them, the longest first.

    Raises:
        SQLAlchemyError, ValueError: it is no URL.
    """
    parsed = sa.make_url(url)
    plain = [str(parsed.password or "")]
    plain += [str(value) for name, value in parsed.query.items() if re.search(SECRET_NAMES, name, re.IGNORECASE)]
    written = [urlsplit(url).password or ""]
    written += [value for name, value in _raw_query(url) if re.search(SECRET_NAMES, name, re.IGNORECASE)]
    forms = {form for text in plain for form in (text, quote(text), quote(text, safe=""), quote_plus(text))}
    return sorted(filter(None, forms.union(written)), key=len, reverse=True)


def _raw_query(url: str) -> Iterator[tuple[str, str]]:
    """Names and values of a URL's query as they are written in it."""
    for part in re.split("[&;]", urlsplit(url).query):
        name, _, value = part.partition("=")
        yield name, value


@dataclass(frozen=True)
class _Reached:
    """The watermark that a reading came to, if there is any."""

    mark: Watermark | None


class ConnectionLost(SourceError):
    """The connection to a database could not be made, or broke."""


_PREPARATIONS = {
    "sqlite": ("pragma query_only = on",),
    "postgresql": ("set transaction read only", "set local statement_timeout = {milliseconds}"),
    "mariadb": ("set session max_statement_time = {seconds}", "start transaction read only"),
    "mysql": ("set session max_execution_time = {milliseconds}", "start transaction read only"),
}


@contextmanager
def _connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection. One that cannot be made to a server may be made later; a file that is not there, not."""
    try:
        connection = engine.connect()
    except DBAPIError as error:
        error.connection_invalidated = engine.dialect.name != "sqlite"
        raise
    with connection:
        yield connection


def _statement(query: TableQuery, engine: sa.Engine, since: Watermark | None) -> tuple[sa.TextClause, dict[str, Any]]:
    """The statement that yields the rows, with the watermark as last column where the query has one."""
    if since is None or not query.watermark:
        return sa.text(_literally(_select(query, engine))), {}
    statement = _literally(_select(query, engine, LOWEST)).replace(LOWEST, ":since")
    return sa.text(statement), {"since": since.less(query.overlap)}


def _select(query: TableQuery, engine: sa.Engine, lowest: str | None = None) -> str:
    """SQL of the rows; `lowest` is SQL of the watermark to begin with."""
    rows = query.query or f"select * from {_quoted(str(query.table), engine)}"
    if not query.watermark:
        return rows
    pulled = f"select pulled.*, ({query.watermark}) as {WATERMARK} from ({rows}) pulled"
    if lowest is None:
        return pulled
    return f"{pulled} where ({query.watermark}) >= {lowest} or ({query.watermark}) is null"


def _quoted(table: str, engine: sa.Engine) -> str:
    return ".".join(engine.dialect.identifier_preparer.quote(part) for part in table.split("."))


def _literally(statement: str) -> str:
    """Colons are part of the user's SQL (casts, times), never bind parameters of ours."""
    return statement.replace(":", r"\:")
