"""What deciding a day now would give, derived on a scratch copy of the warehouse that is thrown away.

Nothing is pulled, sent or written; the derivations are those of the daily job.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from dunning_pipeline.assets.decisions import DECISIONS_DERIVATION
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.assets.receivables import CARRYING_INVOICES_DERIVATION, OPEN_INVOICES_DERIVATION
from dunning_pipeline.assets.reminders import build_reminders
from dunning_pipeline.errors import DunningError
from dunning_pipeline.partitions import Days
from dunning_pipeline.reports import DayReport, day_report
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings

RUN_ID = "preview"
"""Stands for the run where derived rows name theirs."""


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
    with _scratch_copy(Warehouse(settings.warehouse_path), settings.home / "staging") as scratch:
        for derivation in (OPEN_INVOICES_DERIVATION, CARRYING_INVOICES_DERIVATION, DECISIONS_DERIVATION):
            derive_and_replace(derivation, scratch, settings.policy, days, RUN_ID)
        _, reminders = build_reminders(scratch, settings, days, RUN_ID)
        events = (_as_shown(body) for body in reminders["body"])
        return Preview(day_report(scratch, day), tuple(sorted(events, key=lambda event: event.customer_id)))


@contextmanager
def _scratch_copy(warehouse: Warehouse, staging: Path) -> Iterator[Warehouse]:
    """A warehouse with the same content in a folder that only this user can read and that is gone at the end.

    The lock is held for the copying only; what a killed preview leaves is cleaned up with other stale staging.
    """
    staging.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="preview-", dir=staging) as folder:
        copy = Path(folder) / warehouse.path.name
        with warehouse.transaction() as connection:
            connection.execute("checkpoint")
            shutil.copyfile(warehouse.path, copy)
        yield Warehouse(copy)


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
