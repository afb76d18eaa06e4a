"""Whether anything has changed about orders at a source: one cheap question, asked every few seconds.

What changed is found out by pulling. The warehouse is not opened here.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from dunning_pipeline.policy import FileSource, Policy, SqlSource
from dunning_pipeline.pulling_shops import shop_reader
from dunning_pipeline.resources.files import FileSourceReader
from dunning_pipeline.resources.progress import text_hash
from dunning_pipeline.resources.readers import pulled_sources, reader_of, shops
from dunning_pipeline.resources.sql_source import SqlSourceReader
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import ORDER_EDITS, ORDERS

ASKING_SECONDS = 10.0
"""How long the answer to a question may take."""

_TABLES = (ORDERS.name, ORDER_EDITS.name)


def order_sources(policy: Policy) -> tuple[str, ...]:
    """Names of the sources that feed orders or their edits, in the policy's order."""
    fed = {name for name, source in pulled_sources(policy).items() if set(source.tables) & set(_TABLES)}
    return tuple(name for name in policy.sources if name in fed or name in shops(policy))


def version(name: str, settings: Settings) -> str | None:
    """A text that differs as soon as orders or edits of a source have changed; None where only a pull can tell.

    A shop is asked for the orders that changed last, a database for its highest watermark, files for their sizes and
    times; mappings without a watermark, and other APIs, cannot be asked.

    Raises:
        SourceError: the source did not answer; nothing is tried twice.
    """
    shop = shops(settings.policy).get(name)
    if shop:
        reader = shop_reader(name, shop, settings, attempts=1, timeout=(ASKING_SECONDS, ASKING_SECONDS))
        return text_hash(repr(reader.newest(None)))
    source = pulled_sources(settings.policy)[name]
    mappings: list[Any] = [mapping for table, mapping in source.tables.items() if table in _TABLES]
    told = [_told(name, source, mapping, settings) for mapping in mappings]
    return None if None in told else text_hash(repr(told))


def _told(name: str, source: Any, mapping: Any, settings: Settings) -> str | None:
    reader = reader_of(name, source, settings)
    match source, reader:
        case SqlSource(), SqlSourceReader() if mapping.watermark:
            return str(replace(reader, statement_timeout=timedelta(seconds=ASKING_SECONDS)).newest(mapping))
        case FileSource(), FileSourceReader():
            return reader.version(mapping)
        case _:
            return None
