"""Reads CSV and Parquet files into Parquet files of text, with DuckDB's own readers.

What the text means is staging.py's.
"""

import glob
import gzip
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import duckdb
import pyarrow as pa

from dunning_pipeline.errors import SourceError, first_line
from dunning_pipeline.masking import masked
from dunning_pipeline.policy import TableFile, resolve
from dunning_pipeline.resources.clock import Clock, system_clock
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, Raw
from dunning_pipeline.resources.watermarks import Watermark
from dunning_pipeline.sql import literal

SETTLED_SECONDS = 60
"""For so long a CSV file without a line break at its end is taken as one that is still being copied."""


@dataclass(frozen=True)
class FileSourceReader:
    """Files named `name` in the policy; relative paths start at `base`, the policy file's folder."""

    name: str
    base: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = system_clock

    def read(self, file: TableFile, target: Path, since: Watermark | None = None) -> Raw:
        """Writes the rows of all matching files to `target` as text; with `only_new` of those not read before.

        Returns:
            The lines that cannot be parsed: `row` (JSON with file, line and text) and `reason`, one each; the time of
            the newest file; with `only_new` a watermark that tells the files apart.

        Raises:
            SourceError: no file matches, one is neither CSV nor Parquet, or seems to be only half there.
        """
        seen = self._versions(file)
        new = [name for name in seen if not file.only_new or seen[name] != _read_before(since).get(name)]
        with duckdb.connect(":memory:") as connection, self._in_words(file):
            copies = self._readable(file, new or list(seen)[:1], target)
            relation = self._relation(file, [*copies]) + ("" if new else " limit 0")
            connection.execute(f"copy ({relation}) to {literal(target)} (format parquet)")
            unreadable = _unreadable(connection, copies)
        if self._versions(file) != seen:
            raise SourceError(f"source {self.name}: {self._pattern(file)} changed while it was read; try again")
        newest = datetime.fromtimestamp(max(version.changed_ns for version in seen.values()) / 1e9, UTC)
        return Raw(unreadable, Watermark(json.dumps(seen)) if file.only_new else None, newest)

    def columns(self, file: TableFile) -> tuple[str, ...]:
        """Names of the columns of the matching files. Raises SourceError like `read`."""
        with TemporaryDirectory() as folder, duckdb.connect(":memory:") as connection, self._in_words(file):
            copies = self._readable(file, list(self._versions(file)), Path(folder, "columns"))
            return tuple(connection.sql(f"{self._relation(file, [*copies])} limit 0").columns)

    def version(self, file: TableFile) -> str:
        """A text that differs once a matching file is new, gone or another one. Raises SourceError if there is none."""
        return json.dumps(self._versions(file))

    def _versions(self, file: TableFile) -> "dict[str, _Version]":
        """Size and time of change of each matching file, by name."""
        names = sorted(glob.glob(self._pattern(file), recursive=True))
        if not names:
            raise SourceError(f"source {self.name}: no file matches {self._pattern(file)}")
        # One that is gone since it was listed is an error like any other.
        with self._in_words(file):
            found = {name: Path(name).stat() for name in names}
        return {name: _Version(status.st_size, status.st_mtime_ns) for name, status in found.items()}

    def _readable(self, file: TableFile, names: Sequence[str], target: Path) -> dict[str, str]:
        """The files as DuckDB can read them, with the names that they have: compressed or foreign text is copied.

        DuckDB reads a gzip file that breaks off without a word, and knows few encodings without a download.
        """
        readable = {}
        for number, name in enumerate(names):
            packed = name.endswith(".gz")
            if _is_parquet(name) or (not packed and file.encoding == "utf-8"):
                readable[name] = name
            else:
                copy = f"{target}.{number}.csv"
                _copy_as_utf8(name, copy, file.encoding, packed=packed)
                readable[copy] = name
            if not _is_parquet(name):
                self._refuse_half_a_file(next(reversed(readable)), name)
        if not any(Path(name).stat().st_size for name in readable):
            raise SourceError(f"source {self.name}: {self._pattern(file)} is empty: it has not even a header")
        return readable

    def _refuse_half_a_file(self, readable: str, name: str) -> None:
        age = self.clock().timestamp() - Path(name).stat().st_mtime
        if 0 <= age < SETTLED_SECONDS and not _ends_a_line(readable):
            raise SourceError(
                f"source {self.name}: {name} was written {age:.0f} s ago and its last line has no end: it may be half "
                f"a copy; it is read once it is {SETTLED_SECONDS} s old"
            )

    def _relation(self, file: TableFile, names: Sequence[str]) -> str:
        if all(_is_parquet(name) for name in names):
            listed = "[" + ", ".join(f"{literal(name)}" for name in names) + "]"
            return f"select columns(*)::varchar from read_parquet({listed}, union_by_name = true)"
        delimiter = f", delim = {literal(file.delimiter)}" if file.delimiter else ""
        # The quote is given, because a guess from the first lines makes quotes further down a part of the values.
        # One scan for each file, because DuckDB does not keep unreadable lines where it unites files by name.
        options = f"header = true, all_varchar = true, quote = '\"', escape = '\"', store_rejects = true{delimiter}"
        scans = [f"select * from read_csv({literal(name)}, rejects_limit = 0, {options})" for name in names]
        return f"select * from ({' union all by name '.join(scans)})"

    def _pattern(self, file: TableFile) -> str:
        return str(self.base / resolve(file.path, self.environment))

    @contextmanager
    def _in_words(self, file: TableFile) -> Iterator[None]:
        """What goes wrong with files as a SourceError."""
        try:
            yield
        except (duckdb.Error, UnicodeError, EOFError, zlib.error, OSError) as error:
            raise SourceError(f"source {self.name}: {self._pattern(file)}: {masked(first_line(error))}") from error


class _Version(NamedTuple):
    size: int
    changed_ns: int


def _read_before(since: Watermark | None) -> dict[str, _Version]:
    return {name: _Version(*version) for name, version in json.loads(str(since.value)).items()} if since else {}


def _is_parquet(name: str) -> bool:
    return name.endswith((".parquet", ".pq"))


def _copy_as_utf8(name: str, copy: str, encoding: str, *, packed: bool) -> None:
    opened = gzip.open if packed else open
    with (
        opened(name, "rt", encoding=encoding, newline="") as text,
        open(copy, "w", encoding="utf-8", newline="") as target,
    ):
        shutil.copyfileobj(text, target)


def _ends_a_line(name: str) -> bool:
    """Whether the last character is a line break; an empty file has no line to end."""
    with open(name, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) in b"\r\n"


def _unreadable(connection: duckdb.DuckDBPyConnection, names: Mapping[str, str]) -> pa.Table:
    """The lines that could not be parsed; `names` are the files' own by what was read."""
    known = connection.execute(
        "select count(*) from duckdb_tables() where table_name = 'reject_errors' and temporary"
    ).fetchall()
    if not known[0][0]:
        return REJECTS_SCHEMA.empty_table()
    connection.register("names", pa.table({"file_path": [*names], "name": [*names.values()]}))
    query = """
        select
            to_json({
                file: any_value(coalesce(n.name, s.file_path)), line: e.line,
                text: trim(any_value(e.csv_line), chr(10) || chr(13))
            })::varchar as row,
            'the line cannot be read: ' || string_agg(distinct e.error_type::varchar, ', ') as reason
        from reject_errors as e join reject_scans as s using (scan_id, file_id) left join names as n using (file_path)
        group by e.scan_id, e.file_id, e.line order by e.scan_id, e.file_id, e.line
    """
    return connection.sql(query).to_arrow_table().cast(REJECTS_SCHEMA)
