"""A copy of the sent history for people and their tools, as Parquet or CSV. The log that survives is history.py's."""

from pathlib import Path
from secrets import token_hex

import duckdb

from dunning_pipeline.errors import HistoryError
from dunning_pipeline.history import columns_without_keys
from dunning_pipeline.private_files import create_private_file, sync_file, sync_folder
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sql import literal, quoted
from dunning_pipeline.tables import SENT_HISTORY, Column, Kind

FORMATS = {".parquet": "format parquet, compression zstd", ".csv": "format csv, header true"}

FORMULA_STARTS = "=+-@\t\r\n"
"""A spreadsheet takes text that begins with one of these for a formula, and runs it."""


def export_history(warehouse: Warehouse, target: Path) -> int:
    """Writes the whole sent history to `target`, whose ending tells the format; returns the number of rows.

    In CSV, text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers. The
    file is its user's alone, and is put in the place of an older one as a whole.

    Raises:
        HistoryError: the ending is neither .parquet nor .csv, or the file cannot be written.
    """
    options = FORMATS.get(target.suffix.lower())
    if options is None:
        raise HistoryError(f"'{target}' tells no format by its ending; allowed: {', '.join(FORMATS)}")
    write = safe_cell if target.suffix.lower() == ".csv" else _as_it_is
    columns = ", ".join(write(SENT_HISTORY.column(name)) for name in columns_without_keys(SENT_HISTORY))
    rows = f"select {columns} from {SENT_HISTORY.qualified} as h order by h.attempted_at, h.reminder_id, h.outcome"
    partial = target.with_name(f".{target.name}.{token_hex(4)}.partial")
    try:
        create_private_file(partial)
        with warehouse.transaction() as connection:
            ((number,),) = connection.execute(f"copy ({rows}) to {literal(partial)} ({options})").fetchall()
        sync_file(partial)
        partial.replace(target)
        sync_folder(target.parent)
    except (OSError, duckdb.IOException) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise HistoryError(f"'{target}' cannot be written: {reason}") from error
    finally:
        partial.unlink(missing_ok=True)
    return int(number)


def safe_cell(column: Column) -> str:
    """SQL of a column as a cell of a CSV file that is safe to open in a spreadsheet."""
    name = quoted([column.name])
    if column.kind is not Kind.TEXT:
        return name
    return (
        f"case when contains({literal(FORMULA_STARTS)}, h.{name}[1]) then '''' || h.{name} else h.{name} end as {name}"
    )


def _as_it_is(column: Column) -> str:
    return quoted([column.name])
