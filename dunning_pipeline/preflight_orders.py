"""What `dunning check` tells of the order side, as sentences (RULES 8). Changes nothing."""

from collections.abc import Iterator
from datetime import datetime

import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.doubts import Read
from dunning_pipeline.order_polling import order_sources
from dunning_pipeline.policy import Policy
from dunning_pipeline.rules.order_series import STREAM
from dunning_pipeline.soundness import stale_orders

_SERIES = """
    select
        count(*) as alive, count(*) filter (next_due_at <= $now) as due,
        min(next_due_at) filter (next_due_at > $now) as next_due_at
    from dunning.order_series where state = 'open'
"""


def about_orders(policy: Policy, read: Read | None, now: datetime) -> Iterator[str]:
    """Whether events go about edited orders, of which sources and since when; which series live; what is too old.

    Nothing where no source feeds orders. `read`: of the warehouse, if there is one.
    """
    sources = order_sources(policy)
    if not sources:
        return
    if not policy.order_reminders.enabled:
        yield f"order_reminders.enabled is false: no events about the orders of {', '.join(sources)}"
        return
    yield f"order events are on for {', '.join(sources)}; {_start(policy, read)}"
    if read:
        yield _series(read, now)
        for fault in stale_orders(read, policy, now):
            yield f"{fault}; until it is pulled, no event goes about its orders"


def _start(policy: Policy, read: Read | None) -> str:
    if policy.order_reminders.start_at:
        return f"edits count since {_utc(policy.order_reminders.start_at)} (order_reminders.start_at)"
    if read:
        starts = read(sql.load("stream_starts"), {"stream": STREAM}).set_index("live")["started_at"]
        if True in starts:
            return f"edits count since {_utc(starts[True])}, when a run was first live"
    return "edits count from the first live run on"


def _series(read: Read, now: datetime) -> str:
    found = read(_SERIES, {"now": now}).iloc[0]
    due = f"an event is due about {found['due']} of them"
    if pd.notna(found["next_due_at"]):
        due += f", the next one at {_utc(found['next_due_at'])}"
    return f"{found['alive']} series of order events were alive when orders were decided last; {due}"


def _utc(moment: datetime) -> str:
    return f"{pd.Timestamp(moment).tz_convert('UTC'):%Y-%m-%d %H:%M} UTC"
