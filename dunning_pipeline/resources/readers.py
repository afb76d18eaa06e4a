"""From a source of the policy to the reader that reads it."""

from pathlib import Path
from typing import Any, Protocol

from dunning_pipeline.policy import FileSource, Policy, RestSource, ShopifySource, Source, SqlSource, resolve_secret
from dunning_pipeline.presets.apis import as_rest
from dunning_pipeline.resources.files import FileSourceReader
from dunning_pipeline.resources.rest_source import RestSourceReader
from dunning_pipeline.resources.sql_source import SqlSourceReader
from dunning_pipeline.resources.staging import Raw
from dunning_pipeline.resources.watermarks import Watermark
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_EDITS, ORDERS


class Reader(Protocol):
    """Reads a table of a source, as its mapping says."""

    def read(self, mapping: Any, target: Path, since: Watermark | None = None) -> Raw:
        """Writes the rows, or those from a watermark on, as text to the Parquet file `target`."""

    def columns(self, mapping: Any) -> tuple[str, ...]:
        """Names of the columns the source yields."""


PulledSource = SqlSource | FileSource | RestSource


def reader_of(name: str, source: PulledSource, settings: Settings) -> Reader:
    """The reader of a source. Raises MissingVariable when a `${VAR}` of it is not set."""
    match source:
        case SqlSource():
            url = resolve_secret(source.url, settings.environment)
            time_zone = source.time_zone or settings.policy.organisation.time_zone
            return SqlSourceReader(name, url, time_zone, source.statement_timeout, settings.clock, settings.sleep)
        case FileSource():
            folder = settings.policy_file.resolve().parent
            return FileSourceReader(name, folder, settings.environment, settings.clock)
        case RestSource():
            time_zone = source.time_zone or settings.policy.organisation.time_zone
            return RestSourceReader(name, source, settings.environment, time_zone, settings.clock, settings.sleep)


def pulled_sources(policy: Policy) -> dict[str, PulledSource]:
    """The sources of the kinds that can be pulled, by name; presets as what they stand for."""
    sources: dict[str, Source] = {name: as_rest(source) for name, source in policy.sources.items()}
    return {name: source for name, source in sources.items() if isinstance(source, PulledSource)}


def shops(policy: Policy) -> dict[str, ShopifySource]:
    """The sources that are shops, by name: each yields orders and their edits together (pulling_shops.py)."""
    return {name: source for name, source in policy.sources.items() if isinstance(source, ShopifySource)}


def fed_tables(policy: Policy) -> set[str]:
    """Names of the source tables that some source feeds."""
    fed = {str(table) for source in pulled_sources(policy).values() for table in source.tables}
    return fed | ({ORDERS.name, ORDER_EDITS.name} if shops(policy) else set())
