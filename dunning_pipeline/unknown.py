"""Reminders of today of which nobody knows whether Klaviyo accepted them: looked up before anything goes (RULES 9.3).

What cannot be looked up is sent again under the same id, which is up to sending.py.
"""

from datetime import timedelta

import pandas as pd

from dunning_pipeline.outbox import Outbox, Result
from dunning_pipeline.resources.klaviyo import Klaviyo, KlaviyoError
from dunning_pipeline.settings import Settings

SHOWN_AFTER = timedelta(minutes=15)
"""An event that Klaviyo does not show so long after it was sent was not accepted; up to then it may only lag."""


def resolve_unknown(outbox: Outbox, klaviyo: Klaviyo, settings: Settings) -> None:
    """Looks up today's attempts without an outcome, and records what became of them where that can be told.

    Found: accepted, dated when it was sent. Not found 15 minutes later: not delivered. A key without the scope to
    read events, or no answer, leaves them as they are.
    """
    attempts = outbox.open_attempts(settings.today())
    if attempts.empty:
        return
    try:
        recorded = {
            event.reminder_id
            for metric, of_metric in attempts.groupby("metric")
            for event in klaviyo.recorded_events(str(metric), of_metric["planned_at"].min().to_pydatetime())
        }
    except KlaviyoError:
        return
    found = attempts["reminder_id"].isin(recorded)
    late = attempts["attempted_at"] <= pd.Timestamp(settings.clock() - SHOWN_AFTER)
    # Of several attempts only one was accepted; which one makes no difference, they are of one day.
    first = attempts[found].drop_duplicates("reminder_id")
    outbox.record_found(first, Result("accepted", error_detail="found among Klaviyo's events"))
    settled = attempts[(~found & _all_of_reminder(attempts, late))]
    outbox.record_found(settled, Result("not_delivered", error_detail="not among Klaviyo's events 15 minutes later"))


def _all_of_reminder(attempts: pd.DataFrame, condition: "pd.Series[bool]") -> "pd.Series[bool]":
    """Whether a condition holds for every attempt of an attempt's reminder."""
    return condition.groupby(attempts["reminder_id"]).transform("all")
