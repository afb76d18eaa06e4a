"""What happened on a day, read from the warehouse, for the terminal: counts by reason, reminders, outcomes."""

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

from dunning_pipeline.resources.warehouse import Warehouse


@dataclass(frozen=True)
class DayReport:
    """A day's decisions: customers who owe, and how many of them by outcome (`remind` or the reason why not)."""

    as_of: date
    owing: int
    by_outcome: dict[str, int]
    rejected_rows: int

    @property
    def reminded(self) -> int:
        """Customers that are to be reminded."""
        return self.by_outcome.get("remind", 0)


def day_report(warehouse: Warehouse, as_of: date) -> DayReport:
    """The decisions of a day, the most frequent outcome first."""
    counts = warehouse.fetch(
        "select coalesce(reason, 'remind') as outcome, count(*) as customers from dunning.decisions"
        " where as_of = $as_of group by outcome order by customers desc, outcome",
        {"as_of": as_of},
    )
    rejected = warehouse.fetch("select count(*) as n from source.rejected_rows where reason not like 'left out: %'")
    by_outcome = dict(zip(counts["outcome"], counts["customers"].astype(int), strict=True))
    return DayReport(as_of, sum(by_outcome.values()), by_outcome, int(rejected["n"].iloc[0]))


def order_report(warehouse: Warehouse) -> dict[str, int]:
    """The latest decisions about edited orders by outcome, the most frequent first."""
    counts = warehouse.fetch(
        "select outcome, count(*) as orders from ("
        " select arg_max(coalesce(reason, 'remind'), decided_at) as outcome from dunning.order_decisions"
        " group by order_id) group by outcome order by orders desc, outcome"
    )
    return dict(zip(counts["outcome"], counts["orders"].astype(int), strict=True))


def sent_counts(warehouse: Warehouse, batch_id: str) -> dict[str, int]:
    """Attempts of a batch by outcome, `attempting` left out."""
    counts = warehouse.fetch(
        "select outcome, count(*) as n from dunning.sent_history"
        " where batch_id = $batch_id and outcome <> 'attempting' group by outcome order by outcome",
        {"batch_id": batch_id},
    )
    return dict(zip(counts["outcome"], counts["n"].astype(int), strict=True))


def frozen_events(warehouse: Warehouse, batch_id: str, most: int) -> list[dict[str, Any]]:
    """The first reminders of a batch as Klaviyo gets them: profile, value and properties."""
    rows = warehouse.fetch(
        "select body from dunning.reminders where batch_id = $batch_id order by customer_id limit $most",
        {"batch_id": batch_id, "most": most},
    )
    return [_event(body) for body in rows["body"]]


def _event(body: str) -> dict[str, Any]:
    attributes = json.loads(body)["attributes"]
    event = attributes["events"]["data"][0]["attributes"]
    return {"profile": attributes["profile"]["data"]["attributes"], **event}
