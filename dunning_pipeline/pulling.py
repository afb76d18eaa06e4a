"""Pulling a table from the sources that feed it: read what is new, type it, write it; nothing is decided here.

Reading is each reader's, typing staging.py's, writing loading.py's; Dagster's part is in assets/source.py.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path

import pyarrow as pa

from dunning_pipeline.policy import Mapping, TableRequest
from dunning_pipeline.private_files import make_private_folder, private_umask
from dunning_pipeline.resources.loading import Loaded, Loader, Pulled, missing_invoices
from dunning_pipeline.resources.parties import parties_of
from dunning_pipeline.resources.progress import Progress, fetch_progress, settings_hash
from dunning_pipeline.resources.readers import PulledSource, Reader, pulled_sources, reader_of
from dunning_pipeline.resources.rest_source import RestSourceReader
from dunning_pipeline.resources.staging import Raw, Staged, stage, used_columns
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import PAYMENTS, Table

STALE_SECONDS = 24 * 60 * 60
MOST_LOOK_UPS = 500
"""Invoices of a source that one pull asks for by id; the others stay unclear until the next."""


def pull(
    settings: Settings,
    warehouse: Warehouse,
    table: Table,
    run_id: str,
    *,
    full: bool = False,
    only: str | None = None,
) -> tuple[Sequence[Staged], Loaded]:
    """Pulls a table from every source that feeds it into the warehouse, all of it or nothing.

    What was pulled before is left out where the mapping has a watermark; `full` reads everything and takes columns that
    are gone as meant so; `only` names the one source that is pulled.

    Raises:
        SourceError: a source cannot be read as the policy says; nothing has been written.
        TooManyRejectedRows: more than `quality.max_rejected` was rejected; only the rejected rows have been written.
    """
    feeding = {
        name: source
        for name, source in pulled_sources(settings.policy).items()
        if table.name in source.tables and only in (None, name)
    }
    with warehouse.transaction() as connection:
        before = {name: fetch_progress(connection, name, table.name) for name in feeding}
    with staging_folder(settings.home, run_id, table) as folder:
        parts = []
        for name, source in feeding.items():
            reading = _Reading(settings, name, source, table, folder)
            part = reading.look_up_missing(warehouse, reading.read(None if full else before[name]))
            parts.append(replace(part, most_taken_back=inf) if full else part)
        now, today, policy = settings.clock(), settings.today(), settings.policy
        loader = Loader(warehouse, table, run_id, now, today, [*policy.sources], parties=parties_of(policy))
        loaded = loader.load(parts, settings.policy.quality.max_rejected)
    return [part.staged for part in parts], loaded


def read_table(settings: Settings, name: str, source: PulledSource, table: Table, folder: Path) -> Pulled:
    """Reads all of a table of one source into typed files under `folder`, and writes nothing else.

    Raises:
        SourceError: the source cannot be read as the policy says.
    """
    return _Reading(settings, name, source, table, folder).read(None)


@dataclass(frozen=True)
class _Reading:
    """A table of one source on its way into the staging folder `folder`."""

    settings: Settings
    name: str
    source: PulledSource
    table: Table
    folder: Path

    def read(self, before: Progress | None) -> Pulled:
        """What the source has, from where the last pull `before` came to, if it read by the same settings."""
        mapping, read_by = self._mapping, settings_hash(self.source, self._mapping)
        same = before if before and before.settings_hash == read_by else None
        since = same.watermark if same else None
        pulled_at = self.settings.clock()
        raw = self.folder / f"{self.name}.parquet"
        read = self._reader.read(mapping, raw, since)
        staged = self._stage(raw, read)
        if same:
            used = used_columns(self.name, self.table, mapping, same.columns)
            same.require_columns(f"{self.name}.{self.table.name}", staged.found, used)
        from_api = isinstance(mapping, TableRequest)
        return Pulled(
            staged=staged,
            progress=Progress(read_by, staged.found, read.watermark),
            newest_at=read.newest or pulled_at,
            complete=_is_complete(self.table, mapping) and not (from_api and since),
            observes=PAYMENTS.name not in self.source.tables,
            dates_endings=from_api,
            left_out=read.left_out,
        )

    def look_up_missing(self, warehouse: Warehouse, pulled: Pulled) -> Pulled:
        """Asks an API for the invoices that a complete list no longer has (RULES 1.1)."""
        reader, mapping = self._reader, self._mapping
        if not (isinstance(reader, RestSourceReader) and isinstance(mapping, TableRequest)):
            return pulled
        if not (mapping.look_up and pulled.complete):
            return pulled
        with warehouse.transaction() as connection:
            missing = missing_invoices(connection, pulled.staged, MOST_LOOK_UPS)
        if not missing:
            return pulled
        raw, prefix = self.folder / f"{self.name}.looked_up.parquet", self.source.id_prefix or ""
        found = reader.look_up(mapping, [invoice_id.removeprefix(prefix) for invoice_id in missing], raw)
        gone = tuple(f"{prefix}{invoice_id}" for invoice_id in found.gone)
        left_out = pa.concat_tables([pulled.left_out, found.raw.left_out])
        return replace(pulled, looked_up=self._stage(raw, found.raw), gone=gone, left_out=left_out)

    @cached_property
    def _reader(self) -> Reader:
        # One for both, or the look-up would ask an API for another token.
        return reader_of(self.name, self.source, self.settings)

    @property
    def _mapping(self) -> Mapping:
        tables: dict[str, Mapping] = {str(fed): mapping for fed, mapping in self.source.tables.items()}
        return tables[self.table.name]

    def _stage(self, raw: Path, read: Raw) -> Staged:
        time_zone = self.source.time_zone or self.settings.policy.organisation.time_zone
        return stage(self.name, self.table, self._mapping, raw, read.unreadable, time_zone, self.source.id_prefix)


def _is_complete(table: Table, mapping: Mapping) -> bool:
    """Whether what a pull does not yield has vanished. Of payments only if the policy says so.

    An invoice that is wrongly thought to have vanished is not chased, but one whose payment is, would be.
    """
    return mapping.complete is True if table is PAYMENTS else mapping.lists_all


@contextmanager
def staging_folder(home: Path, run_id: str, table: Table) -> Iterator[Path]:
    """An empty folder for one step, gone at its end; so is, after a day, what killed runs left behind."""
    staging = home / "staging"
    for stale in staging.glob("*"):
        if stale.stat().st_mtime < time.time() - STALE_SECONDS:
            shutil.rmtree(stale, ignore_errors=True)
    folder = staging / run_id / table.name
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(staging)
    try:
        with private_umask():
            folder.mkdir(parents=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()
