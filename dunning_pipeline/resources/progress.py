"""How far each table of each source was pulled, kept in the warehouse with the data itself.

Written in the transaction that writes the rows (loading.py), so that a pull that breaks off leaves neither.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pandas as pd

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import Mapping, Source
from dunning_pipeline.resources.warehouse import append, declared_rows, fetch
from dunning_pipeline.resources.watermarks import Watermark
from dunning_pipeline.tables import WATERMARKS


@dataclass(frozen=True)
class Progress:
    """What the last pull of a table from a source left: where the next one goes on, and what that must find.

    `columns` are those that the source yielded; `settings_hash` is of the settings that they were read by.
    """

    settings_hash: str
    columns: tuple[str, ...]
    watermark: Watermark | None = None

    def require_columns(self, what: str, found: Sequence[str], used: Sequence[str]) -> None:
        """Raises SourceError where a column is gone that the table is filled from: its values would be lost."""
        gone = [name for name in self.columns if name in used and name not in found]
        if gone:
            raise SourceError(
                f"{what}: column '{gone[0]}' is gone, which was there when it was pulled last; nothing was taken over. "
                f"The source yields {', '.join(found)}. If that is meant so, pull with `dunning run --full`"
            )


def settings_hash(source: Source, mapping: Mapping) -> str:
    """A hash of all that says what is read and what it becomes; another one makes the next pull a full one.

    Not of the parties of edits: they are told anew with every pull.
    """
    shared = source.model_dump_json(exclude={"tables", "edited_by_apps"})
    return text_hash(f"{shared}\n{mapping.model_dump_json()}")


def text_hash(text: str) -> str:
    """A short hash of what must be the same for a pull to go on where the last one came to."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fetch_progress(connection: duckdb.DuckDBPyConnection, source: str, table: str) -> Progress | None:
    """What the last pull left; None before the first."""
    query = 'select * from source.watermarks where source = $source and "table" = $table'
    rows = fetch(connection, query, {"source": source, "table": table})
    if rows.empty:
        return None
    row = rows.iloc[0]
    watermark = Watermark.parse(row["watermark"]) if isinstance(row["watermark"], str) else None
    return Progress(row["settings_hash"], tuple(row["columns"].split("\n")), watermark)


def store_progress(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    table: str,
    progress: Progress,
    pulled_at: datetime,
    newest_at: datetime,
    run_id: str,
) -> None:
    """Notes how far a pull came, inside an open transaction."""
    connection.execute('delete from source.watermarks where source = ? and "table" = ?', [source, table])
    row = {
        "source": source,
        "table": table,
        "watermark": str(progress.watermark) if progress.watermark else None,
        "settings_hash": progress.settings_hash,
        "columns": "\n".join(progress.columns),
        "pulled_at": pulled_at,
        "newest_at": newest_at,
        "run_id": run_id,
    }
    append(connection, WATERMARKS, declared_rows(WATERMARKS, pd.DataFrame([row])))
