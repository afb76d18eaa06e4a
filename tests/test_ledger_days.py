"""Real invoices, day by day through the job and the sender, against the plain reference."""

import csv
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import reference
from ledger_policy import LEDGER_POLICY
from support import SHARED, MovingClock, Pipeline, settings_at

from dunning_pipeline.sandbox.klaviyo import KlaviyoAccount, running

LEDGER = SHARED / "data" / "accounts-receivable.csv"
FIRST = date(2013, 3, 1)

RULES = reference.Rules(
    workflows=(
        reference.Workflow(
            "standard",
            (
                reference.Action("almost_due", -3),
                reference.Action("reminder_1", 1),
                reference.Action("reminder_2", 8),
                reference.Action("reminder_3", 15),
                reference.Action("final_notice", 30),
            ),
        ),
    ),
    default="standard",
    base_currency="USD",
    identify_by=("external_id",),
)

pytestmark = pytest.mark.skipif(not LEDGER.exists(), reason=f"the real ledger is not at {LEDGER}")


def day_of(text: str) -> date:
    return datetime.strptime(text, "%m/%d/%Y").date()


def read_ledger() -> reference.Ledger:
    with LEDGER.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ledger = reference.Ledger()
    ledger.customers = [
        reference.Customer(customer, external_id=customer) for customer in sorted({row["customerID"] for row in rows})
    ]
    for row in rows:
        number, customer = row["invoiceNumber"], row["customerID"]
        total = int(Decimal(row["InvoiceAmount"]) * 100)
        issued, due, settled = (day_of(row[name]) for name in ("InvoiceDate", "DueDate", "SettledDate"))
        ledger.invoices.append(reference.Invoice(number, customer, issued, due, "USD", total))
        ledger.payments.append(reference.Payment(number, customer, number, "USD", total, settled))
    return ledger


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[tuple[Pipeline, MovingClock, KlaviyoAccount]]:
    clock = MovingClock()
    account = KlaviyoAccount(clock=clock)
    with running(account) as url, dg.DagsterInstance.ephemeral() as instance:
        environment = {"LEDGER_CSV": str(LEDGER), "KLAVIYO_URL": url}
        yield Pipeline(settings_at(tmp_path, LEDGER_POLICY, clock, environment), instance), clock, account


def decided(pipeline: Pipeline, day: date) -> set[tuple[object, ...]]:
    columns = "customer_id, carrying_invoice_id, action, trigger_on, last_contact_on, next_due_on, reason, reminder_id"
    frame = pipeline.warehouse.fetch(f"select {columns} from dunning.decisions where as_of = $day", {"day": day})
    return {tuple(plain(value) for value in row) for row in frame.astype(object).to_numpy()}


def plain(value: object) -> object:
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return None
    return value.date() if isinstance(value, pd.Timestamp) else value


def expected(decisions: list[reference.Decision]) -> set[tuple[object, ...]]:
    return {
        (
            decision.customer_id,
            decision.carrying_invoice_id,
            decision.action,
            decision.trigger_on,
            decision.last_contact_on,
            decision.next_due_on,
            decision.reason if decision.decision == "skip" else None,
            decision.reminder_id,
        )
        for decision in decisions
    }


@pytest.mark.parametrize("number", [8, pytest.param(31, marks=pytest.mark.long)])
def test_days_of_the_real_ledger_give_what_the_reference_gives(
    pipeline: tuple[Pipeline, MovingClock, KlaviyoAccount], number: int
) -> None:
    """Decisions with their carrying invoices, and the events that Klaviyo recorded, day by day."""
    through_dagster, clock, account = pipeline
    ledger = read_ledger()
    received = 0
    for day in reference.days(FIRST, FIRST + timedelta(days=number - 1)):
        clock.move_to(day, zone="America/New_York")
        through_dagster.daily()
        through_dagster.send_if_asked()

        decisions = reference.decide(ledger, RULES, day)
        reminded = [decision for decision in decisions if decision.decision == "remind"]
        assert decided(through_dagster, day) == expected(decisions)
        assert carried(through_dagster, day) == {
            (row.customer_id, row.level, row.invoice_id, row.carrying_change, row.previous_invoice_id)
            for row in reference.carrying(ledger, RULES, day)
        }
        new = account.events[received:]
        received = len(account.events)
        assert sorted(str(event.unique_id) for event in new) == sorted(str(row.reminder_id) for row in reminded)
        assert {event.external_id for event in new} == {row.customer_id for row in reminded}
        ledger.contacts += [reference.accepted(decision) for decision in reminded]
    assert received > 2 * number
    assert account.discarded == []


def carried(pipeline: Pipeline, day: date) -> set[tuple[object, ...]]:
    columns = "customer_id, level, invoice_id, carrying_change, previous_invoice_id"
    frame = pipeline.warehouse.fetch(
        f"select {columns} from dunning.carrying_invoices where as_of = $day", {"day": day}
    )
    return {tuple(plain(value) for value in row) for row in frame.astype(object).to_numpy()}
