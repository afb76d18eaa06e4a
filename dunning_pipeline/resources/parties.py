"""Who edited orders: from what a source tells, an app's title or a party, to the party that counts (RULES 8.1).

The text that was told stays in `app_title`, so that a party can be told anew whenever the policy changes.
"""

from collections import Counter
from collections.abc import Mapping

import duckdb
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.policy import EditsSource, Policy, ShopifySource
from dunning_pipeline.rules.order_series import ANYBODY
from dunning_pipeline.tables import ORDER_EDITS

OTHER = "other"
"""The party of texts that stand for none, and of edits without any."""

Parties = Mapping[str, str]
"""The party by each text that stands for it, in lower case."""


def parties_of(policy: Policy) -> dict[str, Parties]:
    """The parties of each source that may feed edits.

    A text that `edited_by_apps` names as a title is its party. Any other text that is the name of a party, because it
    is a key there or stands in `order_reminders.edited_by`, is that one; but a shop tells titles only.
    """
    fed = {name: source for name, source in policy.sources.items() if isinstance(source, EditsSource)}
    return {name: _own_names(policy, source) | source.parties for name, source in fed.items()}


def _own_names(policy: Policy, source: EditsSource) -> dict[str, str]:
    if isinstance(source, ShopifySource):
        return {}
    named = {*source.edited_by_apps, *policy.order_reminders.edited_by} - {ANYBODY}
    return {party.strip().lower(): party for party in sorted(named)}


def keep_told(connection: duckdb.DuckDBPyConnection) -> None:
    """Keeps what the edits in `incoming` tell of who made them as `app_title`: what `edited_by` says, if anything."""
    connection.execute("update incoming set app_title = coalesce(edited_by, app_title)")


def tell_parties(connection: duckdb.DuckDBPyConnection, source: str, parties: Parties) -> Counter[str]:
    """Gives all edits of a source the party that their text now stands for.

    Returns:
        How many of those in `incoming` count as `other`, by their text; empty for none.
    """
    connection.register("parties", pa.table({"text": [*parties], "party": [*parties.values()]}, _SCHEMA))
    connection.execute(sql.load("tell_parties"), {"source": source, "other": OTHER})
    connection.unregister("parties")
    counted = f"""
        select coalesce(app_title, '') as text, count(*) from {ORDER_EDITS.qualified}
        where edited_by = $other and edit_id in (select edit_id from incoming) group by text
    """
    return Counter(dict(connection.execute(counted, {"other": OTHER}).fetchall()))


_SCHEMA = pa.schema([("text", pa.string()), ("party", pa.string())])
