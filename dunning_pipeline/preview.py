"""What deciding a day now would give, derived on a scratch copy of the warehouse that is thrown away.

Nothing is pulled, sent or written; the derivations are those of the daily job.
"""

import json
from dataclasses import dataclass
from datetime import date

from dunning_pipeline.assets.reminders import reminder_pieces
from dunning_pipeline.errors import DunningError
from dunning_pipeline.partitions import Days
from dunning_pipeline.reports import DayReport, day_report
from dunning_pipeline.scratch import RUN_ID, derive, scratch_copy
from dunning_pipeline.settings import Settings


@dataclass(frozen=True)
class Reminder:
    """One reminder as its event would say it; `outstanding` is a display text in the carrying invoice's currency."""

    customer_id: str
    customer_name: str
    action: str
    carrying_invoice: str
    outstanding: str


@dataclass(frozen=True)
class Preview:
    """The decisions of a day by outcome, and its reminders in order of customer id."""

    report: DayReport
    reminders: tuple[Reminder, ...]


def preview(settings: Settings, day: date) -> Preview:
    """Decides `day` from what was pulled last and recorded by hand.

    Raises:
        DunningError: the day cannot be derived, or nothing was pulled yet.
    """
    settings.require_derivable(day)
    if not settings.warehouse_path.exists():
        raise DunningError(f"there is nothing to decide from yet: run `dunning run --as-of {day}`, which pulls it")
    days = Days(day, day)
    with scratch_copy(settings) as scratch:
        derive(scratch, settings.policy, days)
        pieces = reminder_pieces(scratch, settings, days, RUN_ID)
        events = (_as_shown(body) for reminders, _ in pieces for body in reminders["body"])
        return Preview(day_report(scratch, day), tuple(sorted(events, key=lambda event: event.customer_id)))


def _as_shown(body: str) -> Reminder:
    (event,) = json.loads(body)["attributes"]["events"]["data"]
    properties = event["attributes"]["properties"]
    return Reminder(
        customer_id=properties["customer_id"],
        customer_name=properties["customer_name"] or "",
        action=properties["action"],
        carrying_invoice=properties["carrying_invoice_number"],
        outstanding=properties["outstanding_display"],
    )
