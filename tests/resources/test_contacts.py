"""Reading the contacts that can still matter: nothing that a decision looks at is lost among what is left out."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.contacts import fetch_contacts
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.tables import CONTACTS, CUSTOMER_KEYS, INVOICES, SENT_HISTORY, Table

FIRST, LAST = date(2026, 11, 16), date(2026, 11, 19)
POLICY = parse_policy("""
organisation: {time_zone: Europe/Paris, base_currency: EUR}
sources: {billing: {kind: files, tables: {customers: customers.csv}}}
workflows:
  - {name: standard, default: true, actions: [{name: first, day: 1}, {name: second, day: 8, was: [formerly]}]}
  - {name: by invoice, carried_by: invoice, actions: [{name: first, day: 1}]}
""")
KNOWN_NAMES = {"standard", "by invoice", "first", "second", "formerly"}
CUSTOMERS, INVOICES_EACH = 4, 5
RESOLVED = ("accepted", "rejected", "not_delivered")


class Sent(NamedTuple):
    """A reminder on a day, with the outcomes of each of its attempts there."""

    reminder_id: str
    customer: int
    invoice: int
    level: str
    workflow: str
    action: str
    day: date
    attempts: tuple[tuple[str, ...], ...]

    @property
    def kind(self) -> str | None:
        outcomes = [outcome for attempt in self.attempts for outcome in attempt]
        if "accepted" in outcomes:
            return "accepted"
        open_attempts = len(self.attempts) > sum(outcome in RESOLVED for outcome in outcomes)
        return "unknown" if open_attempts else None


class Recorded(NamedTuple):
    """A contact recorded by hand, about an invoice (of whomever) or about none."""

    customer: int
    invoice: int | None
    workflow: str | None
    action: str | None
    day: date
    known_on: date


def owner(invoice: int) -> int:
    return invoice % CUSTOMERS


def sent_reminders(random: np.random.Generator) -> list[Sent]:
    attempts = [
        ("accepted",),
        ("unknown", "accepted"),
        ("rejected",),
        ("not_delivered",),
        ("unknown",),
        (),
        ("dropped",),
    ]
    return [
        Sent(
            reminder_id=f"R{number}",
            customer=owner(invoice) if random.random() < 0.9 else int(random.integers(CUSTOMERS)),
            invoice=invoice,
            level=str(random.choice(["customer", "invoice"], p=[0.7, 0.3])),
            workflow=str(random.choice(["standard", "by invoice", "gone"])),
            action=str(random.choice(["first", "second", "formerly", "gone"])),
            day=near(random),
            attempts=tuple(attempts[at] for at in random.integers(len(attempts), size=random.integers(1, 4))),
        )
        for number, invoice in enumerate(random.integers(CUSTOMERS * INVOICES_EACH, size=80).tolist())
    ]


def recorded_contacts(random: np.random.Generator) -> list[Recorded]:
    return [
        Recorded(
            customer=int(random.integers(CUSTOMERS)),
            invoice=int(random.integers(CUSTOMERS * INVOICES_EACH)) if random.random() < 0.6 else None,
            workflow="standard" if random.random() < 0.5 else None,
            action="first" if random.random() < 0.5 else None,
            day=(day := near(random)),
            known_on=day + timedelta(days=int(random.integers(0, 4))),
        )
        for _ in range(20)
    ]


def near(random: np.random.Generator) -> date:
    return FIRST + timedelta(days=int(random.integers(-20, 7)))


def fill(warehouse: Warehouse, sent: Iterable[Sent], recorded: Iterable[Recorded]) -> None:
    every = range(CUSTOMERS * INVOICES_EACH)
    customers = [{"customer_id": f"C{key}", "customer_key": key} for key in range(CUSTOMERS)]
    invoices = [
        {
            **{
                "invoice_id": f"I{key}",
                "customer_id": f"C{owner(key)}",
                "invoice_key": key,
                "customer_key": owner(key),
            },
            **{"issued_on": FIRST, "currency": "EUR", "total_minor": 1, "source": "billing"},
        }
        for key in every
    ]
    history = [row for reminder in sent for row in history_rows(reminder)]
    contacts = [
        {
            **{"contact_id": f"K{number}", "customer_id": f"C{one.customer}", "contacted_on": one.day},
            **{"invoice_id": None if one.invoice is None else f"I{one.invoice}", "recorded_on": one.known_on},
            **{"workflow": one.workflow, "action": one.action, "source": "manual", "customer_key": one.customer},
            "invoice_key": one.invoice,
        }
        for number, one in enumerate(recorded)
    ]
    tables = {CUSTOMER_KEYS: customers, INVOICES: invoices, SENT_HISTORY: history, CONTACTS: contacts}
    for table, rows in tables.items():
        warehouse.append(table, frame(table, rows))


def history_rows(sent: Sent) -> list[dict[str, object]]:
    identity = {
        **{"reminder_id": sent.reminder_id, "stream": "invoice", "batch_id": "b", "customer_id": f"C{sent.customer}"},
        **{"level": sent.level, "carrying_invoice_id": f"I{sent.invoice}", "workflow": sent.workflow},
        **{"action": sent.action, "occurrence": int(sent.reminder_id[1:]) + 1, "contact_on": sent.day},
        **{"customer_key": sent.customer, "invoice_key": sent.invoice},
        "attempted_at": datetime.combine(sent.day, time(8), UTC),
    }
    return [
        {**identity, "attempt": number, "outcome": outcome}
        for number, outcomes in enumerate(sent.attempts, start=1)
        for outcome in ("attempting", *outcomes)
    ]


def frame(table: Table, rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([{**dict.fromkeys(table.column_names), **row} for row in rows], columns=[*table.column_names])


def read(warehouse: Warehouse, customers: list[int], invoices: list[int]) -> list[dict[str, object]]:
    with warehouse.transaction() as connection:
        about = pd.DataFrame({"customer_key": [owner(key) for key in invoices], "invoice_key": invoices}, dtype="int64")
        rows = fetch_contacts(connection, POLICY, FIRST, LAST, np.array(customers), about)
    return [
        {
            name: value.date() if isinstance(value, pd.Timestamp) else None if pd.isna(value) else value
            for name, value in row.items()
        }
        for row in rows.astype(object).to_dict("records")
    ]


def known(name: str | None) -> str | None:
    return name if name in KNOWN_NAMES else None


@pytest.fixture(params=range(6))
def history(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Warehouse, list[Sent], list[Recorded]]:
    random = np.random.default_rng(request.param)
    sent, recorded = sent_reminders(random), recorded_contacts(random)
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    fill(warehouse, sent, recorded)
    return warehouse, sent, recorded


WANTED_CUSTOMERS, WANTED_INVOICES = [0, 1, 3], [0, 1, 4, 5, 7]


def test_what_was_perhaps_accepted_is_read_where_nothing_certainly_was(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    fill(warehouse, [Sent("R1", 1, 1, "customer", "standard", "first", FIRST - timedelta(days=1), ((),))], [])
    (row,) = read(warehouse, [1], [1])
    assert (row["kind"], row["level"], row["workflow"], row["action"]) == ("unknown", "customer", "standard", "first")


def test_every_contact_about_a_wanted_invoice_is_read(history: tuple[Warehouse, list[Sent], list[Recorded]]):
    warehouse, sent, recorded = history
    expected = Counter(
        (one.invoice, known(one.workflow), known(one.action), one.day, one.kind)
        for one in sent
        if one.kind and one.invoice in WANTED_INVOICES and one.customer == owner(one.invoice) and one.day <= LAST
    ) + Counter(
        (one.invoice, known(one.workflow), known(one.action), one.day, "recorded")
        for one in recorded
        if one.invoice in WANTED_INVOICES and one.customer == owner(one.invoice) and one.day <= LAST
    )
    rows = read(warehouse, WANTED_CUSTOMERS, WANTED_INVOICES)
    columns = ("invoice_key", "workflow", "action", "contact_on", "kind")
    about = Counter(tuple(row[name] for name in columns) for row in rows if row["invoice_key"] >= 0)
    assert about.keys() == expected.keys()
    assert all(about[key] <= expected[key] for key in about)


def test_the_latest_contact_of_every_wanted_customer_is_read(history: tuple[Warehouse, list[Sent], list[Recorded]]):
    warehouse, sent, _ = history
    rows = read(warehouse, WANTED_CUSTOMERS, WANTED_INVOICES)
    for stop in (FIRST, LAST + timedelta(days=1)):
        for customer in WANTED_CUSTOMERS:
            expected = [
                one.day
                for one in sent
                if one.kind and one.customer == customer and one.level == "customer" and one.day < stop
            ]
            found = [
                row["contact_on"]
                for row in rows
                if row["customer_key"] == customer and row["level"] == "customer" and row["contact_on"] < stop
            ]
            assert max(found, default=None) == max(expected, default=None)


def test_contacts_of_the_window_and_those_by_hand_are_read_with_their_ids(
    history: tuple[Warehouse, list[Sent], list[Recorded]],
):
    warehouse, sent, recorded = history
    rows = read(warehouse, WANTED_CUSTOMERS, WANTED_INVOICES)
    in_window = {
        (one.reminder_id, one.customer, one.level, one.day, one.kind)
        for one in sent
        if one.kind and one.customer in WANTED_CUSTOMERS and FIRST <= one.day <= LAST
    }
    columns = ("reminder_id", "customer_key", "level", "contact_on", "kind")
    assert in_window == {
        tuple(row[name] for name in columns) for row in rows if row["reminder_id"] and row["contact_on"] >= FIRST
    }
    by_hand = Counter(
        (one.customer, one.invoice is None, one.day, one.known_on)
        for one in recorded
        if one.customer in WANTED_CUSTOMERS and one.day <= LAST
    )
    found = [row for row in rows if row["kind"] == "recorded"]
    columns = ("contact_on", "known_on")
    assert by_hand == Counter(
        (row["customer_key"], row["invoice_key"] == -1, *(row[name] for name in columns)) for row in found
    )


@pytest.mark.parametrize("day", [FIRST - timedelta(days=1), FIRST])
def test_a_reminder_accepted_twice_on_a_day_is_one_contact_and_two_reminders_are_two(tmp_path: Path, day: date):
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    about = {"customer": 1, "invoice": 1, "level": "customer", "workflow": "standard", "action": "first", "day": day}
    twice = Sent("R1", attempts=(("accepted",), ("accepted",)), **about)
    fill(warehouse, [twice, Sent("R2", attempts=(("accepted",),), **about)], [])
    assert len([row for row in read(warehouse, [1], [1]) if row["invoice_key"] == 1]) == 2


def test_a_warehouse_without_history_has_no_contacts(tmp_path: Path):
    assert read(Warehouse(tmp_path / "warehouse.duckdb"), [1], [2]) == []
