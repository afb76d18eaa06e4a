"""Whether stored input is fresh and plausible enough to remind anybody by it: each fault as a sentence.

What single rows may not mean is told in doubts.py. Nothing is changed here.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.doubts import Read
from dunning_pipeline.order_polling import order_sources
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.loading import OF_ORDERS
from dunning_pipeline.resources.order_facts import max_age
from dunning_pipeline.resources.readers import pulled_sources, shops
from dunning_pipeline.tables import ORDERS

DAYS_COMPARED, FEWEST_DAYS, FEWEST_CUSTOMERS = 10, 3, 100
"""A day is compared with the median of the last ten derived, if there are three and it is about 100 customers."""

_OF_ORDERS = tuple(table.name for table in OF_ORDERS)


def stale_tables(read: Read, policy: Policy, now: datetime) -> list[str]:
    """Tables of sources whose newest content is older than `quality.max_source_age` allows.

    A pull is as old as what it yielded: files have the time of the newest one, other sources that of the pull. Orders
    and their edits are left out: invoices do not depend on them, and the order side looks at their age by itself.
    """
    newest = _newest(read)
    return [
        fault
        for name, source in policy.sources.items()
        for table, most in policy.quality.max_source_age.items()
        if table in getattr(source, "tables", {}) and table not in _OF_ORDERS
        for fault in _staleness(f"{name}.{table}", newest.get((name, table)), most, now)
    ]


def stale_orders(read: Read, policy: Policy, now: datetime) -> list[str]:
    """Sources of orders that were never pulled, or so long ago that no event goes about their orders (RULES 8.7)."""
    newest, most = _newest(read), max_age(policy)
    return [
        fault
        for name in order_sources(policy)
        if name in shops(policy) or ORDERS.name in pulled_sources(policy)[name].tables
        for fault in _staleness(f"{name}.orders", newest.get((name, ORDERS.name)), most, now)
    ]


def _newest(read: Read) -> dict[tuple[str, str], datetime]:
    """Of when the newest content is, by source and table."""
    pulled = read('select source, "table", newest_at from source.watermarks', {})
    return {(source, table): at.to_pydatetime() for source, table, at in pulled.itertuples(index=False)}


def _staleness(what: str, newest: datetime | None, most: timedelta, now: datetime) -> Iterator[str]:
    if newest is None:
        yield f"{what} was never pulled"
    elif now - newest > most:
        yield f"{what} is {_duration(now - newest)} old; quality.max_source_age allows {_duration(most)}"


def implausible_jumps(read: Read, policy: Policy, day: date) -> list[str]:
    """What is owed on a day, and by how many, where it is far from the days before, as when a source is broken.

    Compared are the number of owing customers and the open balance per currency with their medians over the last ten
    derived days before it. Further than `quality.max_jump` times up or down is implausible.
    """
    if policy.quality.max_jump is None:
        return []
    rows = read(sql.load("owed_by_day"), {"day": day, "days": DAYS_COMPARED})
    before = rows[rows["as_of"] < pd.Timestamp(day)]
    if before["as_of"].nunique() < FEWEST_DAYS:
        return []
    usual, now = before.groupby("figure")["value"].median(), rows[rows["as_of"] == pd.Timestamp(day)]
    both = pd.DataFrame({"usual": usual, "now": now.set_index("figure")["value"]}).fillna(0)
    if both.loc["customers"].max() < FEWEST_CUSTOMERS:
        return []
    low, high = both.min(axis=1), both.max(axis=1)
    return [
        f"{figure} of {day}: {row.now:,.0f}, while the median of the last {before['as_of'].nunique()} derived days is "
        f"{row.usual:,.0f}; quality.max_jump allows {policy.quality.max_jump:g} times as much or as little"
        for figure, row in both[high > policy.quality.max_jump * low].iterrows()
    ]


def _duration(span: timedelta) -> str:
    """A time span as the policy writes it: 36h; minutes below three hours, days from three days on."""
    minutes = int(span.total_seconds() // 60)
    if minutes < 180:
        return f"{minutes}m"
    return f"{minutes // 60}h" if minutes < 3 * 24 * 60 else f"{minutes // (24 * 60)}d"
