"""`dunning orders explain`: what is known of an order by the end of a day, and why an event goes about it, or not.

From what is stored: observations and decisions are only added to, so that every day can be told.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.errors import DunningError
from dunning_pipeline.explaining.explanation import Step
from dunning_pipeline.explaining.texts import money
from dunning_pipeline.ordering import known_start
from dunning_pipeline.resources.order_facts import fetch_order_facts
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.order_series import derive_series
from dunning_pipeline.settings import Settings

Rows = Sequence[Any]
"""Rows of a query, columns as attributes."""

DECISIONS = "Decisions"
"""Title of the step that tells why an event goes, or not."""

MEANINGS = {
    "no_qualifying_edit": "no edit counts since the last series ended, or ever",
    "before_start": "its edits were made before edits count from",
    "no_balance": "nothing is outstanding",
    "fulfilled": "it is fulfilled",
    "cancelled": "it is cancelled",
    "replaced": "another order was created in its place, and the series goes on there",
    "waiting": "the last event was sent not long enough ago",
    "quiet_hours": "an event is due and waits for the end of the quiet hours",
    "max_reminders": "the series has had all its events",
    "stopped": "the series is older than it may be",
    "no_contact_address": "none of the identifiers in klaviyo.identify_by is present and valid",
    "source_unclear": "what is owed is not known: it can no longer be read, or was not for too long",
    "rejected": "Klaviyo rejected this very event, and neither the identifiers nor the policy changed since",
}
_RULES = {
    "no_qualifying_edit": "8.1",
    "before_start": "8.1",
    "replaced": "8.5",
    "waiting": "8.2",
    "quiet_hours": "8.6",
    "max_reminders": "8.6",
    "stopped": "8.6",
    "no_contact_address": "6.4",
    "source_unclear": "8.7",
    "rejected": "6.5",
}


def explain_order(settings: Settings, order: str, day: date) -> list[Step]:
    """The story of an order, known by its id or its name, by the end of a day.

    Raises:
        DunningError: there is no such order, or several of that name.
    """
    zone = settings.policy.organisation.zone
    until = datetime.combine(day + timedelta(days=1), time(), zone)
    with Warehouse(settings.warehouse_path).transaction() as connection:
        found = connection.execute(
            "select order_id from source.orders where order_id = $order or name = $order", {"order": order}
        ).fetchall()
        if not found:
            raise DunningError(f"there is no order '{order}' in source.orders, by id or by name")
        if len(found) > 1:
            ids = ", ".join(order_id for (order_id,) in found)
            raise DunningError(f"there are several orders '{order}'; say which one by its id: {ids}")
        parameters = {"order_id": found[0][0], "until": until}
        rows: dict[str, Rows] = {
            name: [*fetch(connection, sql.load(f"explained_order_{name}"), parameters).itertuples()]
            for name in ("state", "edits", "seen", "series", "decisions", "sent")
        }
        facts = fetch_order_facts(connection, settings.policy, settings.clock())
        # Before the first run no edit counts: it will begin with that one.
        start = known_start(connection, settings.policy, live=settings.policy.sending.live) or settings.clock()
    edits = derive_series(facts, settings.policy.order_reminders, start).edits.set_index("edit_id")
    told = [
        Step("The order", tuple(_order(rows["state"][0], zone)), ("8.1",)),
        Step("What was done to it", tuple(_edits(rows["edits"], edits, start, settings)), ("8.1", "8.5")),
        Step("What was seen of it", tuple(_seen(rows["seen"], zone)), ("8.1", "8.3")),
        Step("Series", tuple(_series(rows["series"], zone)), ("8.1", "8.4")),
        Step(DECISIONS, tuple(_decisions(rows["decisions"], zone)), ("8.2", "8.6")),
        Step("Events", tuple(_sent(rows["sent"], zone)), ("8.2", "9.3")),
    ]
    return [step for step in told if step.sentences]


def _order(row: Any, zone: ZoneInfo) -> Iterator[str]:
    outstanding, total = money(row.outstanding_minor, row.currency), money(row.total_minor, row.currency)
    owed = f"{outstanding} of {total} are outstanding, by the latest pull at {_at(row.at, zone)}"
    yield f"{row.name} ({row.order_id}) of {row.source}: {owed}."
    if pd.notna(row.missing_since):
        yield f"It can no longer be read since {row.missing_since:%Y-%m-%d}."


def _edits(rows: Rows, judged: pd.DataFrame, start: datetime, settings: Settings) -> Iterator[str]:
    """`judged` are the edits that the rules know, by id; those from `start` on count."""
    zone, counted = settings.policy.organisation.zone, settings.policy.order_reminders.edited_by
    for row in rows:
        if row.edit_id not in judged.index:
            why = "does not count: no order is known that this one was created in place of"
        elif not judged.at[row.edit_id, "by_party"]:
            why = f"does not count: order_reminders.edited_by is {', '.join(counted)}"
        elif not judged.at[row.edit_id, "qualifies"]:
            why = f"does not count: edits do from {_at(pd.Timestamp(start), zone)} on (order_reminders.start_at)"
        else:
            why = "counts"
        app = f" through {row.app_title}" if isinstance(row.app_title, str) else ""
        yield f"{_at(row.edited_at, zone)}: {row.kind or 'edit'} by {row.edited_by}{app}, which {why}."
    if not rows:
        yield "No edit of it is known."


def _seen(rows: Rows, zone: ZoneInfo) -> Iterator[str]:
    for row in rows:
        states = ", ".join(text for text in (row.financial_status, row.fulfillment_status) if isinstance(text, str))
        cancelled = f", cancelled at {_at(row.cancelled_at, zone)}" if pd.notna(row.cancelled_at) else ""
        owed = money(row.outstanding_minor, row.currency)
        yield f"{_at(row.observed_at, zone)}: {owed} outstanding ({states}{cancelled})."


def _series(rows: Rows, zone: ZoneInfo) -> Iterator[str]:
    for row in rows:
        sent = f"{row.occurrences} sent, the last at {_at(row.last_sent_at, zone)}" if row.occurrences else "none sent"
        due = f", the next event is due at {_at(row.next_due_at, zone)}" if pd.notna(row.next_due_at) else ""
        begun = f"Series {row.series} of {_at(row.started_at, zone)}, begun by edit {row.first_edit_id}"
        yield f"{begun}: {row.state}, {sent}{due}."


def _decisions(rows: Rows, zone: ZoneInfo) -> Iterator[str]:
    for row in rows:
        due = f"; the next event is due at {_at(row.next_due_at, zone)}" if pd.notna(row.next_due_at) else ""
        if row.decision == "remind":
            yield f"{_at(row.decided_at, zone)}: event {row.occurrence:.0f} of series {row.series} goes."
        else:
            rule = f" (rule {_RULES.get(row.reason, '8.3')})"
            yield f"{_at(row.decided_at, zone)}: {row.reason}: {MEANINGS[row.reason]}{rule}{due}."
    if not rows:
        yield "Nothing was decided about it: it was never edited, or no run of order_reminders has seen it."


def _sent(rows: Rows, zone: ZoneInfo) -> Iterator[str]:
    for row in rows:
        detail = f": {row.error_detail}" if isinstance(row.error_detail, str) else ""
        yield f"{_at(row.attempted_at, zone)}: event {row.occurrence} ({row.reminder_id}) {row.outcome}{detail}."


def _at(moment: pd.Timestamp, zone: ZoneInfo) -> str:
    return f"{moment.tz_convert(zone):%Y-%m-%d %H:%M:%S}"
