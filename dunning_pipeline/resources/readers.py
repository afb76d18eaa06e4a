"""From a source of the policy to the reader that reads it."""

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from dunning_pipeline.policy import FileSource, Policy, SqlSource, resolve_secret
from dunning_pipeline.resources.files import FileSourceReader
from dunning_pipeline.resources.sql_source import SqlSourceReader
from dunning_pipeline.settings import Settings


class Reader(Protocol):
    """Reads a table of a source, as its mapping says."""

    def read(self, mapping: Any, target: Path) -> pa.Table:
        """Writes the rows as text to the Parquet file `target`; returns the unreadable ones (`row`, `reason`)."""

    def columns(self, mapping: Any) -> tuple[str, ...]:
        """Names of the columns the source yields."""


def reader_of(name: str, source: SqlSource | FileSource, settings: Settings) -> Reader:
    """The reader of a source. Raises MissingVariable when a `${VAR}` of it is not set."""
    match source:
        case SqlSource():
            return SqlSourceReader(name, resolve_secret(source.url, settings.environment))
        case FileSource():
            return FileSourceReader(name, settings.policy_file.resolve().parent, settings.environment)


def pulled_sources(policy: Policy) -> dict[str, SqlSource | FileSource]:
    """The sources of the kinds that can be pulled, by name."""
    return {name: source for name, source in policy.sources.items() if isinstance(source, SqlSource | FileSource)}
