"""The DuckDB file: one writer at a time, short flat transactions, declared tables, a published copy for readers.

Which rows are written, and why, is decided elsewhere. Nothing slow (HTTP, a source's stream, pandas) belongs
inside a transaction, because the lock is held for as long as it is open.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from math import inf
from pathlib import Path
from typing import TypeVar

import duckdb
import pandas as pd
import pandera.errors
import pyarrow as pa
import pyarrow.compute as pc
import tenacity
from filelock import FileLock, Timeout

from dunning_pipeline.errors import InvalidRows, OutOfMemory, WarehouseError, first_line
from dunning_pipeline.private_files import PRIVATE_FILE, make_private_folder, private_umask, sync_file
from dunning_pipeline.sql import literal, load, quoted
from dunning_pipeline.tables import ALL_TABLES, CUSTOMER_KEYS, INVOICE_KEYS, ORDER_KEYS, Column, Table

SCHEMA_VERSION = 4
"""Raised whenever a declared table gains a column or MIGRATIONS gains an entry."""

READER_WAIT_SECONDS = 0.2
_ATTACHED = "warehouse"

ROWS_TOGETHER = 10_240
"""Rows that DuckDB packs together, for all tables of a file. As many added at once are packed once, straight into the
file, and take that much memory; fewer go through its log, and are packed again with whatever follows. Frozen bodies are
large: with three times as many, freezing them takes more than half a gigabyte; with fewer, reading ledgers takes longer
and files grow.
"""

FRUGAL_BYTES, LITTLE_BYTES = 512 * 1024**2, 128 * 1024**2
"""What DuckDB may keep in memory in a frugal transaction about a whole table, and in one about a piece."""

Result = TypeVar("Result")

CANNOT_WRITE = (duckdb.IOException, duckdb.FatalException, duckdb.OutOfMemoryException)
"""What DuckDB raises when a disk is full or a file read-only, be it its temporary one."""

MIGRATIONS: dict[int, str] = {2: load("migration_2"), 4: load("migration_4")}
"""SQL that leads an older file to a version, where adding the declared tables and columns does not suffice."""


@dataclass
class Warehouse:
    """The warehouse file at `path`, guarded by a lock on `path` + `.lock`.

    The operating system frees the lock of a killed process, so a killed run never blocks the next one.
    `lock_timeout` is in seconds. `memory_limit`, in bytes, is for the process; DuckDB gets a quarter of it.
    """

    path: Path
    lock_timeout: float = 60.0
    memory_limit: int | None = None
    _longest_hold: float = field(default=0.0, init=False, repr=False)
    _checked_file: int | None = field(default=None, init=False, repr=False)
    _engine: duckdb.DuckDBPyConnection | None = field(default=None, init=False, repr=False, compare=False)
    """DuckDB without a file, kept from one transaction to the next: starting it costs ten times what a file costs."""
    _threads: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)
    """Threads of this process take turns here, because whoever waits for the file's lock looks only now and then."""

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yields a connection inside one transaction: committed at the end, rolled back on any exception.

        The lock is not re-entrant, so transactions cannot be nested.

        Raises:
            WarehouseError: the lock was not to be had within `lock_timeout`, the file was written by newer
                software, DuckDB cannot open it, or it cannot be written: then nothing of the transaction was.
        """
        with self._locked(), self._connection() as connection:
            connection.begin()
            try:
                yield connection
            except BaseException as error:
                _roll_back(connection)
                if isinstance(error, CANNOT_WRITE):
                    raise self._cannot_be_written(error) from error
                raise
            try:
                connection.commit()
            except duckdb.Error as error:
                raise self._cannot_be_written(error) from error

    @contextmanager
    def frugal_transaction(self, most: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction in which DuckDB keeps to so many bytes, and spills what it can of the rest to disk.

        Raises:
            OutOfMemory: it could not; nothing was written.
        """
        try:
            with self.transaction() as connection:
                connection.execute(f"set memory_limit = '{most} bytes'")
                yield connection
        finally:
            self.give_memory_back()

    @contextmanager
    def only_one(self, name: str, who: str = "") -> Iterator[None]:
        """Something that takes many transactions and that one process does at a time. Raises WarehouseError.

        `who` does it is kept, so that a run that was killed at it is told from one that has not got so far.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_of(name), timeout=self.lock_timeout)
        try:
            lock.acquire()
        except Timeout as timeout:
            message = f"another process has been {name} for {self.lock_timeout:g} s; try again when it is done"
            raise WarehouseError(message) from timeout
        try:
            if who:
                self._latest_of(name).write_text(who, encoding="utf-8")
            yield
        finally:
            lock.release()

    def is_taken(self, name: str) -> bool:
        """Whether a process is at what `only_one` lets one do; the file itself is not opened."""
        lock = FileLock(self._lock_of(name), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        return False

    def latest_at(self, name: str) -> str:
        """Who did last what `only_one` lets one do, or does it now; empty before the first."""
        latest = self._latest_of(name)
        return latest.read_text(encoding="utf-8") if latest.exists() else ""

    def _latest_of(self, name: str) -> Path:
        return self._lock_of(name).with_suffix(".latest")

    def _lock_of(self, name: str) -> Path:
        return self.path.with_name(f"{name.replace(' ', '-')}.lock")

    def fetch(self, query: str, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
        """The rows of `query`: dates as datetime64, money as int64, text as str, never floats for money."""
        with self.transaction() as connection:
            return fetch(connection, query, parameters)

    def frugally(self, work: Callable[[duckdb.DuckDBPyConnection], Result], most: int = LITTLE_BYTES) -> Result:
        """What some work makes of a connection in a transaction: within so many bytes if they suffice, else with more.

        By default for one of many pieces, so that DuckDB leaves the memory to what is made of them.
        """
        try:
            with self.frugal_transaction(most) as connection:
                return work(connection)
        except OutOfMemory:
            # DuckDB cannot spill all that it changes, which for wide rows may be much.
            with self.transaction() as connection:
                return work(connection)

    def look(self, query: str, parameters: Mapping[str, object] | None = None) -> pd.DataFrame:
        """The rows of `query` on the file as it is: nothing is created or migrated. Raises WarehouseError."""
        with self._locked():
            try:
                with self._attached("read_only") as connection:
                    return fetch(connection, query, parameters)
            except duckdb.Error as error:
                raise WarehouseError(f"the warehouse {self.path} cannot be read: {first_line(error)}") from error

    def append(self, table: Table, frame: pd.DataFrame) -> int:
        """Adds the rows of `frame` to `table`, all or none. Raises InvalidRows."""
        rows = declared_rows(table, frame)
        with self.transaction() as connection:
            append(connection, table, rows)
        return int(rows.num_rows)

    def publish(self) -> Path:
        """Puts a copy of the file, and its newest day as Parquet, under `published/` for readers.

        They never meet a half-written file.
        """
        target = self._published
        make_private_folder(target.parent)
        partial = target.with_suffix(f".{os.getpid()}.partial")
        partial.touch(mode=PRIVATE_FILE)
        with self._locked():
            with self._connection() as connection:
                connection.execute("checkpoint")
            shutil.copyfile(self.path, partial)
        sync_file(partial)
        partial.replace(target)
        _publish_newest_day(target)
        return target

    def published_for(self) -> float:
        """For how many seconds the copy for readers has been as it is; infinite without one."""
        return time.time() - self._published.stat().st_mtime if self._published.exists() else inf

    @property
    def _published(self) -> Path:
        return self.path.parent / "published" / self.path.name

    def longest_hold(self) -> float:
        """Seconds for which the lock was held at most since the last call of this method."""
        longest, self._longest_hold = self._longest_hold, 0.0
        return longest

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with private_umask():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self.path}.lock", timeout=self.lock_timeout)
        with self._turn():
            try:
                lock.acquire()
            except Timeout as timeout:
                raise self._in_use("another process") from timeout
            taken = time.monotonic()
            try:
                with private_umask():
                    yield
            finally:
                lock.release()
                self._longest_hold = max(self._longest_hold, time.monotonic() - taken)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._threads.acquire(timeout=self.lock_timeout):
            raise self._in_use("this process itself")
        try:
            yield
        finally:
            self._threads.release()

    def _in_use(self, by: str) -> WarehouseError:
        return WarehouseError(
            f"the warehouse {self.path} has been in use by {by} for {self.lock_timeout:g} s; try again when it is done"
        )

    def _cannot_be_written(self, error: BaseException) -> WarehouseError:
        kind, advice = WarehouseError, "look for a full disk or a file that is read-only"
        if isinstance(error, duckdb.OutOfMemoryException):
            kind, advice = OutOfMemory, "look for a full disk, or give it more memory"
        return kind(
            f"the warehouse {self.path} cannot be written, and nothing of this was: {first_line(error)}; {advice}"
        )

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            self._checked_file = None
        with self._attached() as connection:
            self._bring_up_to_date(connection)
            yield connection

    @contextmanager
    def _attached(self, option: str = f"row_group_size {ROWS_TOGETHER}") -> Iterator[duckdb.DuckDBPyConnection]:
        # Whatever an exception leaves behind, the next one starts without it.
        engine, self._engine = self._engine or self._start_engine(), None
        try:
            self._attach(engine, option)
            with engine.cursor() as connection:
                connection.execute(f"use {_ATTACHED}; set TimeZone = 'UTC'")
                yield connection
        except BaseException:
            engine.close()
            raise
        try:
            engine.execute(f"detach {_ATTACHED}")
        except duckdb.Error:
            # What was committed is in the log beside the file, from where whoever opens it next takes it over.
            engine.close()
        else:
            self._engine = engine

    def _start_engine(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(config={"temp_directory": f"{self.path}.tmp", **self._limit})

    @property
    def _limit(self) -> dict[str, str]:
        return {} if self.memory_limit is None else {"memory_limit": f"{self.memory_limit // 4} bytes"}

    def give_memory_back(self) -> None:
        """Between transactions: gives back what DuckDB keeps for its next query, before others need much memory."""
        with self._turn():
            if self._engine is None:
                return
            # DuckDB hands free pages to the system whenever its limit is set, be it to what it was.
            limits = [f"set {name} = {literal(value)}" for name, value in self._limit.items()]
            self._engine.execute("; ".join(limits or ["reset memory_limit"]))

    def _attach(self, engine: duckdb.DuckDBPyConnection, option: str) -> None:
        """Opens the file as soon as no reader has it, until it is detached."""
        patient = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_held_by_a_reader),
            stop=tenacity.stop_after_delay(self.lock_timeout),
            wait=tenacity.wait_fixed(READER_WAIT_SECONDS),
            reraise=True,
        )
        try:
            patient(engine.execute, f"attach {literal(self.path)} as {_ATTACHED} ({option})")
        except duckdb.Error as error:
            raise WarehouseError(f"the warehouse {self.path} cannot be opened: {first_line(error)}") from error

    def _bring_up_to_date(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Looks at the schema version once for each file that this object meets."""
        file = self.path.stat().st_ino
        if file == self._checked_file:
            return
        if _stored_version(connection, self.path) < SCHEMA_VERSION:
            _migrate(connection)
            self.path.chmod(PRIVATE_FILE)
        self._checked_file = file


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """Rolls back, unless DuckDB did so itself, as it does when a file cannot be written."""
    with suppress(duckdb.Error):
        connection.rollback()


def _held_by_a_reader(error: BaseException) -> bool:
    """Whether somebody opened the file past our lock, with a shell or a viewer; they may be gone in a moment."""
    return isinstance(error, duckdb.IOException) and "lock" in str(error).lower()


def _publish_newest_day(copy: Path) -> None:
    """Writes the newest day of each derived table beside the copy, as Parquet."""
    with private_umask(), duckdb.connect(copy, read_only=True) as connection:
        for table in ALL_TABLES:
            if "as_of" in table.column_names and table.schema == "dunning":
                target = copy.parent / f"{table.name}.parquet"
                partial = target.with_suffix(f".{os.getpid()}.partial")
                partial.touch(mode=PRIVATE_FILE)
                newest = f"select * from {table.qualified} where as_of = (select max(as_of) from {table.qualified})"
                connection.execute(f"copy ({newest}) to {literal(partial)} (format parquet)")
                partial.replace(target)


def fetch(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object] | None = None
) -> pd.DataFrame:
    """Like `Warehouse.fetch`, inside a transaction that is already open."""
    arrow = connection.sql(query, params=dict(parameters or {})).to_arrow_table()
    # Columns of a kind put together in one block would be copied.
    frame: pd.DataFrame = arrow.to_pandas(date_as_object=False, types_mapper=_exact_integers(arrow), split_blocks=True)
    return frame


def _exact_integers(arrow: pa.Table) -> Callable[[pa.DataType], pd.Int64Dtype | None] | None:
    """pandas turns int64 with empty values into floats, which lose cents above 2^53; Int64 keeps them."""
    if any(pa.types.is_int64(column.type) and column.null_count for column in arrow.columns):
        return {pa.int64(): pd.Int64Dtype()}.get
    return None


def declared_rows(table: Table, frame: pd.DataFrame) -> pa.Table:
    """`frame` as an Arrow table of exactly the declared columns and types.

    Raises:
        InvalidRows: a column is missing, a required value is empty, a value is not allowed, a key is double.
    """
    try:
        checked = table.frame_schema.validate(frame.reset_index(drop=True), lazy=True)[list(table.column_names)]
        return pa.Table.from_pandas(checked, schema=_arrow_schema(table, checked), preserve_index=False)
    except pandera.errors.SchemaErrors as errors:
        raise InvalidRows(f"{table.qualified}: {_sentences(errors)}") from errors
    except (pa.ArrowException, OverflowError, KeyError) as error:
        raise InvalidRows(f"{table.qualified}: {error}") from error


def declared_columns(table: Table, columns: Mapping[str, object], rows: int) -> pa.Table:
    """Like `declared_rows`, of columns (pandas Series) and of values that are the same in all `rows`.

    It costs a tenth of making a frame of them and checking that, which counts where rows are few and come often.
    """
    try:
        arrays = [_array(columns[field.name], field.type, rows) for field in table.arrow_schema]
        arrow = pa.Table.from_arrays(arrays, schema=table.arrow_schema)
    except (pa.ArrowException, OverflowError, KeyError) as error:
        raise InvalidRows(f"{table.qualified}: {error}") from error
    for column in table.columns:
        _require_declared(table, column, arrow[column.name])
    if arrow.group_by(list(table.key), use_threads=False).aggregate([]).num_rows < rows:
        raise InvalidRows(f"{table.qualified}: two rows have the same {', '.join(table.key)}")
    return arrow


def _array(values: object, type_: pa.DataType, rows: int) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pd.Series):
        return pa.array(values, from_pandas=True).cast(type_)
    return pa.repeat(pa.scalar(values, type=type_), rows)


def _require_declared(table: Table, column: Column, values: pa.ChunkedArray) -> None:
    if column.required and values.null_count:
        raise InvalidRows(f"{table.qualified}: {column.name} is empty in {values.null_count} rows")
    if not column.allowed:
        return
    strange = values.filter(pc.invert(pc.is_in(values, pa.array([*column.allowed, None], type=values.type))))
    if len(strange):
        allowed = ", ".join(column.allowed)
        raise InvalidRows(f"{table.qualified}: {column.name} is '{strange[0]}', allowed: {allowed}")


def _arrow_schema(table: Table, frame: pd.DataFrame) -> pa.Schema:
    """The declared schema, but categories, which DuckDB is faster with, and pandas' texts stay as they are."""
    return pa.schema(field.with_type(_handed_over(field.type, frame[field.name].dtype)) for field in table.arrow_schema)


def _handed_over(declared: pa.DataType, dtype: object) -> pa.DataType:
    if isinstance(dtype, pd.CategoricalDtype):
        return pa.dictionary(pa.int32(), pa.string())
    return pa.large_string() if isinstance(dtype, pd.StringDtype) and declared == pa.string() else declared


def replace_days(connection: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table, first: date, last: date) -> None:
    """Replaces the rows with `first <= as_of <= last` by rows of `table.keyed`, inside an open transaction."""
    connection.execute(f"delete from {table.qualified} where as_of between ? and ?", [first, last])
    append_keyed(connection, table, rows)


def append_keyed(connection: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> None:
    """Like `append`, for rows of `table.keyed`: the ids that their keys stand for are looked up."""
    looked_up = [f"{_lookup(column)} as {quoted([column.name])}" for column in table.columns if column.id_of]
    joins = [
        f"left join {keys.qualified} as of_{key} on of_{key}.{keys.column_names[1]} = new_rows.{key}"
        for key, keys in _KEYS.items()
        if key in rows.column_names
    ]
    billed = "left join source.invoices as billed on billed.invoice_key = new_rows.invoice_key"
    joins += [billed] if "number" in table.column_names else []
    connection.register("new_rows", rows)
    connection.execute(
        f"insert into {table.qualified} by name"
        f" select {', '.join(['new_rows.*', *looked_up])} from new_rows {' '.join(joins)}"
    )
    connection.unregister("new_rows")


_KEYS = {
    "customer_key": CUSTOMER_KEYS,
    "invoice_key": INVOICE_KEYS,
    "previous_invoice_key": INVOICE_KEYS,
    "order_key": ORDER_KEYS,
}


def _lookup(column: Column) -> str:
    """SQL of the id that a key stands for, or of the number printed on its invoice."""
    assert column.id_of is not None
    found = f"of_{column.id_of}.{_KEYS[column.id_of].column_names[0]}"
    return f"coalesce(billed.number, {found})" if column.name == "number" else found


def append(connection: duckdb.DuckDBPyConnection, table: Table, rows: pa.Table) -> None:
    """Adds `rows` to `table` by name, inside an open transaction."""
    connection.register("new_rows", rows)
    connection.execute(f"insert into {table.qualified} by name select * from new_rows")
    connection.unregister("new_rows")


def _sentences(errors: pandera.errors.SchemaErrors) -> str:
    cases = errors.failure_cases[["column", "check", "failure_case"]].drop_duplicates().head(5)
    return "; ".join(f"{column}: {check} ({case})" for column, check, case in cases.to_numpy())


def _stored_version(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    known = "select count(*) from duckdb_tables() where schema_name = 'dunning' and table_name = 'schema_version'"
    if not _scalar(connection, known):
        return 0
    version = _scalar(connection, "select max(version) from dunning.schema_version")
    if version > SCHEMA_VERSION:
        message = (
            f"the warehouse {path} has schema version {version}, newer than the {SCHEMA_VERSION} "
            "this software knows; update dunning_pipeline"
        )
        raise WarehouseError(message)
    return version


def _scalar(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    ((value,),) = connection.execute(query).fetchall()
    return int(value)


def _migrate(connection: duckdb.DuckDBPyConnection) -> None:
    connection.begin()
    connection.execute("create schema if not exists source")
    connection.execute("create schema if not exists dunning")
    connection.execute("create table if not exists dunning.schema_version (version BIGINT, migrated_at TIMESTAMPTZ)")
    ((stored,),) = connection.execute("select max(version) from dunning.schema_version").fetchall()
    is_new = stored is None
    for table in ALL_TABLES:
        connection.execute(table.ddl())
        if not is_new:
            _add_missing_columns(connection, table)
    for version, statements in sorted(MIGRATIONS.items()):
        if not is_new and version > stored:
            connection.execute(statements)
    connection.execute("insert into dunning.schema_version values (?, now())", [SCHEMA_VERSION])
    connection.commit()


def _add_missing_columns(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    for column in table.columns:
        connection.execute(f'alter table {table.qualified} add column if not exists "{column.name}" {column.kind.sql}')
