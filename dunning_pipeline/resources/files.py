"""Reads CSV and Parquet files into Parquet files of text, with DuckDB's own readers.

What the text means is staging.py's.
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import TableFile, resolve
from dunning_pipeline.resources.staging import REJECTS_SCHEMA
from dunning_pipeline.sql import literal


@dataclass(frozen=True)
class FileSourceReader:
    """Files named `name` in the policy; relative paths start at `base`, the policy file's folder."""

    name: str
    base: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def read(self, file: TableFile, target: Path) -> pa.Table:
        """Writes the rows of all matching files to `target` as text; returns the lines that cannot be parsed.

        Returns:
            `row` (JSON with file, line and text) and `reason`, one per unreadable line.

        Raises:
            SourceError: no file matches, or a file is neither CSV nor Parquet.
        """
        with duckdb.connect(":memory:") as connection:
            try:
                relation = self._relation(connection, file)
                connection.execute(f"copy ({relation}) to {literal(target)} (format parquet)")
                return _unreadable(connection)
            except duckdb.Error as error:
                raise SourceError(f"source {self.name}: {self._pattern(file)}: {_first_line(error)}") from error

    def columns(self, file: TableFile) -> tuple[str, ...]:
        """Names of the columns of the matching files. Raises SourceError like `read`."""
        with duckdb.connect(":memory:") as connection:
            try:
                return tuple(connection.sql(f"{self._relation(connection, file)} limit 0").columns)
            except duckdb.Error as error:
                raise SourceError(f"source {self.name}: {self._pattern(file)}: {_first_line(error)}") from error

    def _relation(self, connection: duckdb.DuckDBPyConnection, file: TableFile) -> str:
        pattern = self._pattern(file)
        names = sorted(glob.glob(pattern, recursive=True))
        if not names:
            raise SourceError(f"source {self.name}: no file matches {pattern}")
        if all(name.endswith((".parquet", ".pq")) for name in names):
            listed = "[" + ", ".join(f"{literal(name)}" for name in names) + "]"
            return f"select columns(*)::varchar from read_parquet({listed}, union_by_name = true)"
        delimiter = f", delim = {literal(file.delimiter)}" if file.delimiter else ""
        # The quote is given, because a guess from the first lines makes quotes further down a part of the values.
        # One scan for each file, because DuckDB does not keep unreadable lines where it unites files by name.
        options = f"header = true, all_varchar = true, quote = '\"', escape = '\"', store_rejects = true{delimiter}"
        scans = [f"select * from read_csv({literal(name)}, rejects_limit = 0, {options})" for name in names]
        return " union all by name ".join(scans)

    def _pattern(self, file: TableFile) -> str:
        return str(self.base / resolve(file.path, self.environment))


def _unreadable(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    known = connection.execute(
        "select count(*) from duckdb_tables() where table_name = 'reject_errors' and temporary"
    ).fetchall()
    if not known[0][0]:
        return REJECTS_SCHEMA.empty_table()
    query = """
        select
            to_json({
                file: any_value(s.file_path), line: e.line, text: trim(any_value(e.csv_line), chr(10) || chr(13))
            })::varchar as row,
            'the line cannot be read: ' || string_agg(distinct e.error_type::varchar, ', ') as reason
        from reject_errors as e join reject_scans as s using (scan_id, file_id)
        group by e.scan_id, e.file_id, e.line order by e.scan_id, e.file_id, e.line
    """
    return connection.sql(query).to_arrow_table().cast(REJECTS_SCHEMA)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
