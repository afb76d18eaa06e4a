"""The sent history beside what Klaviyo holds, both ways. Nothing is changed: differences are for people to look at."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import pandas as pd
from pydantic import SecretStr

from dunning_pipeline.errors import DunningError
from dunning_pipeline.history_events import event_ids
from dunning_pipeline.resources.klaviyo import Klaviyo, RecordedEvent, ScopeMissing
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import CONTACTS, MANUAL, REMINDERS, SENT_HISTORY

SETTLING = timedelta(minutes=15)
"""What Klaviyo accepted may take this long to be seen (RULES 9.3)."""


@dataclass(frozen=True)
class Accepted:
    """A reminder that was accepted here and that Klaviyo does not hold."""

    reminder_id: str
    customer_id: str
    contact_on: date


@dataclass(frozen=True)
class Held:
    """An event that Klaviyo holds and that was not accepted here; `outcome` is its last one here, if it has any."""

    reminder_id: str
    time: datetime
    outcome: str | None


@dataclass(frozen=True)
class Reconciliation:
    """How many reminders were accepted here and how many of their events Klaviyo holds, and what does not match.

    `settling` were accepted so lately that Klaviyo may not show them yet; they are no difference.
    """

    since: date
    accepted: int
    held: int
    settling: int
    missing_there: tuple[Accepted, ...]
    unknown_here: tuple[Held, ...]

    @property
    def agrees(self) -> bool:
        """Whether both sides know the same."""
        return not self.missing_there and not self.unknown_here


def reconcile(settings: Settings, warehouse: Warehouse, since: date) -> Reconciliation:
    """Compares what was accepted from a day on, in the organisation's time zone, with the events that Klaviyo holds.

    Raises:
        DunningError: there is no key, or the key may not read events.
        KlaviyoError: Klaviyo cannot be read.
    """
    key = settings.environment.get("KLAVIYO_API_KEY")
    if not key:
        raise DunningError("the environment variable KLAVIYO_API_KEY is not set")
    client = Klaviyo(settings.klaviyo_url, SecretStr(key), settings.sleep)
    metrics = _metrics(warehouse, since) | {settings.policy.klaviyo.metric}
    start = datetime.combine(since, time.min, settings.policy.organisation.zone)
    try:
        # From a day before, because a reminder may be accepted on the day after the one that its event tells.
        events = [
            event for name in sorted(metrics) for event in client.recorded_events(name, start - timedelta(days=1))
        ]
    except ScopeMissing as error:
        raise DunningError(f"reconciling needs a key with the scopes events:read and metrics:read: {error}") from None
    imported = set(_imported(warehouse))
    events = [event for event in events if event.reminder_id not in imported]
    return compare(_history(warehouse), events, start, settings.clock())


def compare(history: pd.DataFrame, events: Iterable[RecordedEvent], start: datetime, now: datetime) -> Reconciliation:
    """The sent history beside events.

    Args:
        history: reminder_id, customer_id, contact_on (datetime64), attempted_at, outcome: the last one of each
            reminder, `accepted` if it ever was.
        events: from the day before `start` on.
        start: aware, in the organisation's time zone: what is older is not compared.
        now: aware.
    """
    since = start.date()
    held = {event.reminder_id: event.time for event in events}
    accepted = history[(history["outcome"] == "accepted") & (history["contact_on"] >= pd.Timestamp(since))]
    absent = accepted[~accepted["reminder_id"].isin(list(held))]
    settling = absent["attempted_at"] > pd.Timestamp(now - SETTLING)
    outcomes = dict(zip(history["reminder_id"], history["outcome"], strict=True))
    counted = {reminder_id: at for reminder_id, at in held.items() if at >= start}
    unknown = sorted(
        (Held(reminder_id, at, outcomes.get(reminder_id)) for reminder_id, at in counted.items()),
        key=lambda one: (one.time, one.reminder_id),
    )
    return Reconciliation(
        since=since,
        accepted=len(accepted),
        held=len(counted),
        settling=int(settling.sum()),
        missing_there=_accepted(absent[~settling].sort_values(["contact_on", "reminder_id"])),
        unknown_here=tuple(one for one in unknown if one.outcome != "accepted"),
    )


def _accepted(rows: pd.DataFrame) -> tuple[Accepted, ...]:
    days = rows["contact_on"].dt.date
    return tuple(map(Accepted, rows["reminder_id"], rows["customer_id"], days))


def _imported(warehouse: Warehouse) -> "pd.Series[str]":
    """Ids of events by which imported contacts were, or may have been, recorded: they are no reminders."""
    query = f"select contact_id from {CONTACTS.qualified} where source = $source"
    return event_ids(warehouse.fetch(query, {"source": MANUAL})["contact_id"])


def _metrics(warehouse: Warehouse, since: date) -> set[str]:
    """Metrics that reminders were sent with; the policy may have named another one."""
    query = f"select distinct metric from {REMINDERS.qualified} where as_of >= $since"
    return set(warehouse.fetch(query, {"since": since})["metric"])


def _history(warehouse: Warehouse) -> pd.DataFrame:
    """One row a reminder: accepted if it ever was, else its last outcome."""
    query = f"""
        select reminder_id, customer_id, contact_on, attempted_at, outcome from {SENT_HISTORY.qualified}
        qualify row_number() over (
            partition by reminder_id
            order by outcome = 'accepted' desc, attempted_at desc, outcome = 'attempting'
        ) = 1
    """
    with warehouse.transaction() as connection:
        return fetch(connection, query)
