"""Which events about orders defer reminders of the invoice side (RULES 5.4), as they are read from the history."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd
import pytest

from dunning_pipeline import sql
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.tables import CUSTOMER_KEYS, SENT_HISTORY, Table

DAY = date(2026, 11, 16)
YESTERDAY = DAY - timedelta(days=1)
Attempt = tuple[date, str]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    warehouse.append(CUSTOMER_KEYS, frame(CUSTOMER_KEYS, [{"customer_id": "C1", "customer_key": 7}]))
    return warehouse


def frame(table: Table, rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([{**dict.fromkeys(table.column_names), **row} for row in rows], columns=[*table.column_names])


def attempted(warehouse: Warehouse, *attempts: Attempt, reminder_id: str = "R1", stream: str = "order") -> None:
    """Writes attempts in order: the day of each, and its outcomes with commas between."""
    identity = {"reminder_id": reminder_id, "stream": stream, "batch_id": "b", "customer_id": "C1", "occurrence": 1}
    rows = [
        {**identity, "attempt": number, "outcome": outcome}
        | {"contact_on": day, "attempted_at": datetime.combine(day, time(8), UTC)}
        for number, (day, outcomes) in enumerate(attempts, start=1)
        for outcome in outcomes.split(",")
    ]
    warehouse.append(SENT_HISTORY, frame(SENT_HISTORY, rows))


def days(warehouse: Warehouse, last: date = DAY) -> list[date]:
    rows = warehouse.fetch(sql.load("order_events"), {"last": last})
    assert set(rows["customer_key"]) <= {7}
    return sorted(rows["contact_on"].dt.date)


@pytest.mark.parametrize("outcomes", ["attempting,accepted", "attempting,unknown,accepted", "accepted"])
def test_an_accepted_event_counts(warehouse: Warehouse, outcomes: str) -> None:
    attempted(warehouse, (DAY, outcomes))
    assert days(warehouse) == [DAY]


@pytest.mark.parametrize("outcomes", ["attempting", "attempting,unknown"])
def test_an_event_that_was_perhaps_accepted_counts(warehouse: Warehouse, outcomes: str) -> None:
    attempted(warehouse, (DAY, outcomes))
    assert days(warehouse) == [DAY]


@pytest.mark.parametrize("outcomes", ["attempting,rejected", "attempting,unknown,not_delivered", "dropped"])
def test_an_event_that_reached_nobody_does_not_count(warehouse: Warehouse, outcomes: str) -> None:
    attempted(warehouse, (DAY, outcomes))
    assert days(warehouse) == []


def test_an_attempt_without_an_outcome_counts_though_the_next_one_was_rejected(warehouse: Warehouse) -> None:
    attempted(warehouse, (YESTERDAY, "attempting,unknown"), (DAY, "attempting,rejected"))
    assert days(warehouse) == [YESTERDAY]


def test_several_events_of_a_day_are_one_row(warehouse: Warehouse) -> None:
    attempted(warehouse, (DAY, "attempting,accepted"))
    attempted(warehouse, (DAY, "attempting,accepted"), reminder_id="R2")
    assert days(warehouse) == [DAY]


def test_events_of_later_days_and_reminders_about_invoices_do_not_count(warehouse: Warehouse) -> None:
    attempted(warehouse, (DAY, "attempting,accepted"))
    attempted(warehouse, (YESTERDAY, "attempting,accepted"), reminder_id="R2", stream="invoice")
    assert days(warehouse, YESTERDAY) == []
