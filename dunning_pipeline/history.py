"""The history that survives: what cannot be derived again, also in append-only Parquet files beside the warehouse.

`keep_history` writes what no file holds yet, `restore_history` reads the files back, `require_whole_history` refuses a
warehouse that lacks what they hold, as an older copy does. How files get on the disk is history_files.py's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from dunning_pipeline.errors import HistoryError, first_line
from dunning_pipeline.history_files import Draft, Inspected, inspect, names_in
from dunning_pipeline.resources.loading import give_keys
from dunning_pipeline.resources.warehouse import Warehouse, append
from dunning_pipeline.sql import literal, quoted
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    BATCHES,
    CONTACTS,
    CUSTOMER_KEYS,
    HISTORY_FILES,
    INVOICE_KEYS,
    MANUAL,
    PAUSES,
    PROMISES,
    REMINDERS,
    RETRIES,
    SENT_HISTORY,
    Table,
)

MOST_ROWS = 500_000
"""Rows of the sent history in one file, so that the warehouse is never held for long."""


@dataclass(frozen=True)
class KeptTable:
    """A table of which rows are kept in files.

    `rows` is SQL of the rows to keep, over the warehouse and `new_history`, which are rows of the sent history.
    `identity` are the columns by which a row is known among the files. `vital` is SQL that tells of a row in the files
    whether the warehouse must know it. Of rows with the same `one_per` the first one by `latest` is restored.
    """

    table: Table
    identity: tuple[str, ...]
    rows: str
    vital: str = "true"
    one_per: tuple[str, ...] = ()
    latest: str = "filename desc"


def _recorded_by_hand(table: Table, end: str | None = None) -> KeptTable:
    """What people recorded; where they can end it, also all versions of what they ended, the source's own included."""
    (key,) = table.key
    rows = f"select * from {table.qualified} where source = {literal(MANUAL)}"
    if end is None:
        return KeptTable(table, (key,), rows, vital=f"source = {literal(MANUAL)}")
    versions = f"select {key} from {table.qualified} group by {key} having count(*) > 1"
    rows += f" or {key} in ({versions})"
    return KeptTable(table, (key, "recorded_on", end), rows, vital=f"source = {literal(MANUAL)}")


_NOT_ACCEPTED = "select batch_id, reminder_id from new_history group by all having not bool_or(outcome = 'accepted')"
SENT = KeptTable(SENT_HISTORY, SENT_HISTORY.key, "select * from new_history")
RECORDED = (
    KeptTable(RETRIES, ("reminder_id", "retried_at"), f"select * from {RETRIES.qualified}"),
    _recorded_by_hand(PAUSES, "paused_until"),
    _recorded_by_hand(PROMISES, "withdrawn_on"),
    _recorded_by_hand(ASSIGNMENTS),
    _recorded_by_hand(CONTACTS),
)
WITH_SENT = (
    # Bodies hold addresses: only those are kept that a rejection is bound to (RULES 6.5), or that may have to go again.
    KeptTable(
        REMINDERS,
        ("batch_id", "reminder_id"),
        f"select * from {REMINDERS.qualified} semi join ({_NOT_ACCEPTED}) using (batch_id, reminder_id)",
        vital="false",
    ),
    KeptTable(
        BATCHES,
        ("batch_id", "state"),
        f"select * from {BATCHES.qualified} semi join new_history using (batch_id)",
        vital="false",
        one_per=("batch_id",),
        latest="state = 'sent' desc, filename desc",
    ),
    # Last, because the others are taken by what is new in it.
    SENT,
)
KEPT = (*RECORDED, *WITH_SENT)


@dataclass(frozen=True)
class Written:
    """Files that were written, rows in them by table, and by name what is wrong with files that lie there."""

    files: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Restored:
    """Rows that were restored by table, and by name what is wrong with files that were skipped."""

    rows: Mapping[str, int]
    damaged: Mapping[str, str]


def history_folder(warehouse: Warehouse) -> Path:
    """Where the files of a warehouse's history lie."""
    return warehouse.path.parent / "history"


def keep_history(warehouse: Warehouse, at: datetime, *, thorough: bool = False) -> Written:
    """Writes to files what of the history is in none yet; files that exist are never changed.

    In the usual case only what was added since the warehouse's own last mark is looked at. Every row is compared with
    every file when `thorough`, or when the files are not those that the warehouse knows: after a crash between a file
    and its mark, when a file has gone, when the warehouse was replaced by an older copy.

    Args:
        warehouse: the warehouse, in whose folder the files lie.
        at: the time, for names and marks.
        thorough: read every file through.

    Raises:
        HistoryError: a file cannot be written. What was committed to the warehouse is untouched.
        WarehouseError: the warehouse is busy.
    """
    if not warehouse.path.exists():
        return Written()
    folder = history_folder(warehouse)
    present = names_in(folder)
    # A partial file may be another process's, which is writing it at this moment.
    whole = {name for name in present if not name.endswith(".partial")}
    if thorough or whole != _marked_names(warehouse):
        return _keep_missing(warehouse, folder, at, present if thorough else whole)
    files: list[str] = []
    rows: dict[str, int] = {}
    while True:
        added = _keep_added(warehouse, folder, at)
        if added is None:
            return _keep_missing(warehouse, folder, at, whole)
        files += added.files
        rows = {name: rows.get(name, 0) + added.rows.get(name, 0) for name in {**rows, **added.rows}}
        if added.rows.get(SENT_HISTORY.name, 0) < MOST_ROWS:
            return Written(tuple(files), rows)


def require_whole_history(warehouse: Warehouse) -> None:
    """Refuses a warehouse that lacks rows which the files hold, as an older copy, or a new one, does.

    Raises:
        HistoryError: it lacks some. Whoever decides or sends by it would remind people twice.
    """
    folder = history_folder(warehouse)
    unknown = names_in(folder) - _marked_names(warehouse)
    if not unknown:
        return
    inspected = inspect(folder, unknown)
    with warehouse.transaction() as connection:
        lacking = {kept.table.name: _lacking(connection, kept, inspected).num_rows for kept in KEPT}
    if any(lacking.values()):
        counted = ", ".join(f"{number} of {name}" for name, number in lacking.items() if number)
        raise HistoryError(
            f"the warehouse {warehouse.path} lacks rows that the files in {folder} hold ({counted}), as a new one or "
            "an older copy does; nothing is sent before `dunning history restore --add` has brought them back"
        )


def restore_history(warehouse: Warehouse, at: datetime, *, add: bool = False) -> Restored:
    """Brings back from the files what the warehouse lacks; files that cannot be trusted are skipped and named.

    A row that several files hold is taken once. Batches that were not sent to the end can never be sent afterwards:
    most of what they held is gone, and the next run decides anew.

    Args:
        warehouse: the warehouse, in whose folder the files lie.
        at: the time, for marks.
        add: restore into a warehouse that holds some history, such as an older copy.

    Raises:
        HistoryError: the warehouse holds history already and `add` is false, or there are no files.
    """
    folder = history_folder(warehouse)
    inspected = inspect(folder, names_in(folder))
    if not inspected.sound and not inspected.damaged:
        raise HistoryError(f"there is nothing to restore: {folder} holds no files of a history")
    with warehouse.transaction() as connection:
        if not add:
            _refuse_filled(connection, warehouse)
        rows = {kept.table.name: _restore(connection, kept, inspected.paths(kept.table.name)) for kept in KEPT}
        connection.execute(
            f"update {BATCHES.qualified} set live = false, state = 'superseded' where live and state <> 'sent'"
        )
    _keep_missing(warehouse, folder, at, inspected.names)
    return Restored({name: number for name, number in rows.items() if number}, inspected.damaged)


def _keep_added(warehouse: Warehouse, folder: Path, at: datetime) -> Written | None:
    """Writes what was added since the last mark; None where marks and tables do not fit, so that all is compared."""
    with _draft_in(folder) as draft:
        with warehouse.transaction() as connection:
            covered = _covered(connection)
            numbers = {kept.table.name: _number(connection, kept.rows) for kept in RECORDED}
            numbers[SENT_HISTORY.name] = _take_new_history(connection, covered.get(SENT_HISTORY.name, 0))
            if any(number < covered.get(name, 0) for name, number in numbers.items()):
                return None
            grown = [kept for kept in RECORDED if numbers[kept.table.name] > covered.get(kept.table.name, 0)]
            rows = _write_drafts(connection, draft, grown, inspect(folder, _names_of(folder, grown)))
            if numbers[SENT_HISTORY.name] > covered.get(SENT_HISTORY.name, 0):
                rows |= _write_drafts(connection, draft, WITH_SENT, None)
        files = draft.keep(at)
        if files:
            with warehouse.transaction() as connection:
                _mark(connection, set(files.values()), numbers, at)
    return Written(tuple(files.values()), rows)


def _keep_missing(warehouse: Warehouse, folder: Path, at: datetime, names: Set[str]) -> Written:
    """Compares every row with every file, writes what is in none, and renews the marks.

    A file that holds what the warehouse lacks gets none, so that it is noticed until that is restored.
    """
    inspected = inspect(folder, names)
    with _draft_in(folder) as draft:
        with warehouse.transaction() as connection:
            connection.execute(f"create temp view new_history as from {SENT_HISTORY.qualified}")
            numbers = {kept.table.name: _number(connection, kept.rows) for kept in (*RECORDED, SENT)}
            rows = _write_drafts(connection, draft, KEPT, inspected)
            ahead = {name for kept in KEPT for name in _files_ahead(connection, kept, inspected)}
        files = draft.keep(at)
        with warehouse.transaction() as connection:
            connection.execute(f"delete from {HISTORY_FILES.qualified}")
            _mark(connection, (names - ahead) | set(files.values()), numbers, at)
    return Written(tuple(files.values()), rows, inspected.damaged)


@contextmanager
def _draft_in(folder: Path) -> Iterator[Draft]:
    """A draft of which nothing is left but the files that were kept. Raises HistoryError where the disk refuses."""
    draft = Draft(folder)
    try:
        with _told_of(folder):
            yield draft
    finally:
        draft.discard()


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """What goes wrong with files of the history as a HistoryError."""
    try:
        yield
    except (OSError, duckdb.IOException) as error:
        raise HistoryError(
            f"the history cannot be written to {folder}: {first_line(error)}; the warehouse holds it, and the next "
            "run, or `dunning history export`, writes it when that is mended"
        ) from error


def _marked_names(warehouse: Warehouse) -> set[str]:
    if not warehouse.path.exists():
        return set()
    with warehouse.transaction() as connection:
        query = f"select distinct name from {HISTORY_FILES.qualified} where name is not null"
        return {name for (name,) in connection.execute(query).fetchall()}


def _covered(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many rows of each table are in files, by the warehouse's own marks."""
    query = f'select "table", max(covered) from {HISTORY_FILES.qualified} where "table" is not null group by all'
    return dict(connection.execute(query).fetchall())


def _mark(
    connection: duckdb.DuckDBPyConnection, names: Iterable[str], covered: Mapping[str, int], at: datetime
) -> None:
    rows = [{"name": name, "kept_at": at} for name in sorted(names)]
    rows += [{"table": table, "covered": number, "kept_at": at} for table, number in covered.items()]
    append(connection, HISTORY_FILES, pa.Table.from_pylist(rows, schema=HISTORY_FILES.arrow_schema))


def _number(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    ((number,),) = connection.execute(f"select count(*) from ({rows})").fetchall()
    return int(number)


def _names_of(folder: Path, tables: Iterable[KeptTable]) -> set[str]:
    begins = tuple(f"{kept.table.name}-" for kept in tables)
    return {name for name in names_in(folder) if begins and name.startswith(begins)}


def _take_new_history(connection: duckdb.DuckDBPyConnection, covered: int) -> int:
    """Makes `new_history` of the next rows after the first `covered` ones; returns how many are covered with them.

    Row ids of a table from which nothing is ever deleted count its rows. Where they do not, -1.
    """
    query = f"select count(*), coalesce(max(rowid), -1) + 1 from {SENT_HISTORY.qualified}"
    ((number, after_last),) = connection.execute(query).fetchall()
    if number != after_last:
        return -1
    connection.execute(
        f"create temp table new_history as from {SENT_HISTORY.qualified} where rowid >= ? and rowid < ?",
        [covered, covered + MOST_ROWS],
    )
    return min(int(number), covered + MOST_ROWS)


def _write_drafts(
    connection: duckdb.DuckDBPyConnection, draft: Draft, tables: Iterable[KeptTable], held: Inspected | None
) -> dict[str, int]:
    """Writes the rows of each table that no file of `held` has; returns how many they are, by table."""
    written = {}
    for kept in tables:
        number = _write_draft(connection, draft, kept, held.paths(kept.table.name) if held else ())
        if number:
            written[kept.table.name] = number
    return written


def _write_draft(connection: duckdb.DuckDBPyConnection, draft: Draft, kept: KeptTable, held: Sequence[Path]) -> int:
    columns = quoted(columns_without_keys(kept.table))
    missing = f"where not {_among('r', _read(held), kept.identity)}" if held else ""
    rows = f"select {columns} from ({kept.rows}) as r {missing}"
    partial = draft.partial(kept.table.name)
    # Told here, because the transaction around it would take it for an error of the warehouse.
    with _told_of(draft.folder):
        ((number,),) = connection.execute(
            f"copy ({rows}) to {literal(partial)} (format parquet, compression zstd)"
        ).fetchall()
    if not number:
        draft.drop(kept.table.name)
    return int(number)


def _read(paths: Sequence[Path]) -> str:
    listed = ", ".join(literal(path) for path in paths)
    return f"read_parquet([{listed}], union_by_name = true, filename = true)"


def _among(row: str, relation: str, identity: Sequence[str]) -> str:
    """SQL of whether `relation` has the row called `row`, empty values being equal."""
    same = " and ".join(f"other.{quoted([name])} is not distinct from {row}.{quoted([name])}" for name in identity)
    return f"exists (select 1 from {relation} as other where {same})"


def columns_without_keys(table: Table) -> list[str]:
    """Names of a table's columns without integer keys: another warehouse gives the same ids others."""
    return [name for name in table.column_names if name not in {keys.column_names[1] for keys in _ids(table)}]


def _ids(table: Table) -> dict[Table, str]:
    """The integer keys that a table has, and the column of the ids that each stands for."""
    return {
        keys: name
        for keys in (CUSTOMER_KEYS, INVOICE_KEYS)
        for name in (keys.key[0], f"carrying_{keys.key[0]}")
        if {name, keys.column_names[1]} <= set(table.column_names)
    }


def _lacking(connection: duckdb.DuckDBPyConnection, kept: KeptTable, inspected: Inspected) -> pa.Table:
    """Rows of the files that the warehouse must know and does not, each once: `identity` and `filename`."""
    paths = inspected.paths(kept.table.name)
    if not paths:
        return pa.table({"filename": pa.array([], pa.string())})
    rows = f"""
        select distinct on ({quoted(kept.identity)}) {quoted(kept.identity)}, filename from {_read(paths)} as r
        where ({kept.vital}) and not {_among("r", kept.table.qualified, kept.identity)}
    """
    return connection.sql(rows).to_arrow_table()


def _files_ahead(connection: duckdb.DuckDBPyConnection, kept: KeptTable, inspected: Inspected) -> set[str]:
    """Names of files that hold what the warehouse lacks."""
    return {Path(path).name for path in _lacking(connection, kept, inspected)["filename"].to_pylist()}


def _refuse_filled(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> None:
    filled = [kept.table for kept in (SENT, *RECORDED) if _number(connection, f"from {kept.table.qualified}")]
    if filled:
        raise HistoryError(
            f"the warehouse {warehouse.path} holds history already ({filled[0].qualified}); --add brings back only "
            "what it lacks"
        )


def _restore(connection: duckdb.DuckDBPyConnection, kept: KeptTable, paths: Sequence[Path]) -> int:
    """Inserts the rows of the files that the table lacks; returns how many they are."""
    if not paths:
        return 0
    one_per = quoted(kept.one_per or kept.identity)
    connection.execute(
        f"""
        create or replace temp table incoming as
        select * exclude (filename) from {_read(paths)} as r
        where not {_among("r", kept.table.qualified, kept.one_per or kept.identity)}
        qualify row_number() over (partition by {one_per} order by {kept.latest}) = 1
        """
    )
    known = [name for (name, *_) in connection.execute("describe incoming").fetchall()]
    columns = [f"incoming.{quoted([name])}" for name in known if name in kept.table.column_names]
    joins = []
    for keys, id_column in _ids(kept.table).items():
        give_keys(connection, keys, id_column)
        name, key = keys.column_names
        columns.append(key)
        joins.append(f"left join {keys.qualified} on {keys.name}.{name} = incoming.{id_column}")
    connection.execute(
        f"insert into {kept.table.qualified} by name select {', '.join(columns)} from incoming {' '.join(joins)}"
    )
    return _number(connection, "from incoming")
