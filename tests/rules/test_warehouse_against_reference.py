"""Whole days against the plain reference: files pulled, days derived as the assets do, decisions read from the tables.

test_against_reference.py compares the rules alone, on frames; here the queries before and between them count too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import frames
import pandas as pd
import pytest
import reference
import yaml
from reference import Decision, Ledger, OrderEvent
from support import MovingClock, Pipeline, settings_at
from test_against_reference import CENTRE, CUSTOM_COLUMNS, Case, Knobs, generated

from dunning_pipeline.assets.decisions import DERIVATIONS
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.assets.source import asset_key
from dunning_pipeline.definitions import build_defs
from dunning_pipeline.partitions import Days
from dunning_pipeline.replay import judge
from dunning_pipeline.resources.warehouse import MIGRATIONS
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import SENT_HISTORY, SOURCE_TABLES

REPLAYED = Days(CENTRE - timedelta(days=6), CENTRE + timedelta(days=10))
OF_DAY = "from {} where as_of = $day"
COLUMNS = [column.name for column in fields(Decision)]

Rows = list[dict[str, str]]


FEW = [(1, 30), (3, 30)]
MANY = [pytest.param(seed, 60, marks=pytest.mark.long) for seed in range(4, 24)]


@pytest.mark.parametrize(("seed", "customers"), [*FEW, *MANY])
def test_the_warehouse_decides_like_the_reference(tmp_path: Path, seed: int, customers: int) -> None:
    spread, trouble = ((3, 0.1), (8, 0.2), (20, 0.3))[seed % 3]
    case = generated(Knobs(seed, customers=customers, spread=spread, trouble=trouble))
    # What Klaviyo rejected bears the hash of a policy, which a pipeline of another seed does not have.
    case = replace(case, ledger=replace(case.ledger, rejections=[]))
    with dg.DagsterInstance.ephemeral() as instance:
        pipeline = Pipeline(settings_of(case, tmp_path), instance)
        pull(pipeline)
        add_history(pipeline, case.ledger)
        for day in case.days:
            derive(pipeline, Days(day, day))
            check(pipeline, case, day)
        derive(pipeline, Days(case.days[0], case.days[-1]))
        for day in case.days:
            check(pipeline, case, day)
        assert replayed(pipeline) == frames.reference_replay(case.ledger, case.rules, REPLAYED.first, REPLAYED.last)


def settings_of(case: Case, home: Path) -> Settings:
    """A pipeline under the case's policy, weeks after its days, over files that say what its ledger says."""
    tables = {}
    for name, rows in written_rows(case.ledger).items():
        if rows:
            file = home / f"{name}.csv"
            with file.open("w", encoding="utf-8", newline="") as opened:
                writer = csv.DictWriter(opened, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            tables[name] = {"path": str(file)}
    policy = yaml.safe_load(frames.policy_text(case.rules))
    policy["quality"] = {"max_rejected": 1.0, "max_jump": None}
    policy["sources"] = {"billing": {"kind": "files", "tables": tables}}
    clock = MovingClock()
    clock.move_to(CENTRE + timedelta(days=40))
    return settings_at(home / "home", yaml.safe_dump(policy, sort_keys=False), clock)


def written_rows(ledger: Ledger) -> Mapping[str, Rows]:
    """The ledger's rows as files say them, amounts in major units; what Klaviyo got is no part of them."""
    customers = [replace(customer, custom={}) for customer in ledger.customers]
    custom = [{name: text(customer.custom.get(name)) for name in CUSTOM_COLUMNS} for customer in ledger.customers]
    by_hand = [contact for contact in ledger.contacts if contact.kind == "recorded"]
    return {
        "customers": [said | more for said, more in zip(plain_rows(customers, "custom"), custom, strict=True)],
        "invoices": plain_rows(ledger.invoices, "missing_since", total_minor="total"),
        "payments": plain_rows(ledger.payments, amount_minor="amount"),
        "pauses": plain_rows(ledger.pauses),
        "promises": plain_rows(ledger.promises),
        "assignments": plain_rows(ledger.assignments),
        "contacts": [
            row | {"contact_id": f"K{number}"}
            for number, row in enumerate(
                plain_rows(by_hand, "kind", "level", "reminder_id", carrying_invoice_id="invoice_id")
            )
        ],
    }


def plain_rows(rows: Iterable[object], *without: str, **renamed: str) -> Rows:
    return [
        {
            renamed.get(column.name, column.name): amount(row) if column.name.endswith("_minor") else text(value)
            for column in fields(row)
            if column.name not in without
            for value in [getattr(row, column.name)]
        }
        for row in rows
    ]


def amount(row: object) -> str:
    minor = getattr(row, "total_minor", None)
    minor = row.amount_minor if minor is None else minor
    return str(Decimal(minor).scaleb(-reference.MINOR_DIGITS.get(row.currency, 2)))


def text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date):
        return value.isoformat()
    return "" if value is None else str(value)


def pull(pipeline: Pipeline) -> None:
    graph = build_defs(pipeline.settings).resolve_asset_graph()
    sources = {asset_key(table) for table in SOURCE_TABLES} & set(graph.materializable_asset_keys)
    assert pipeline.daily(asset_selection=[*sources]).success


def add_history(pipeline: Pipeline, ledger: Ledger) -> None:
    """What Klaviyo got, and since when invoices are missing, which only pulls can find out.

    Orders are of the customers of a shop, each the same person as one of billing.
    """
    rows = [row for number, event in enumerate(sent_events(ledger)) for row in history_rows(event, number)]
    missing = [(one.invoice_id, one.missing_since) for one in ledger.invoices if one.missing_since]
    pipeline.warehouse.append(SENT_HISTORY, pd.DataFrame(rows, columns=[*SENT_HISTORY.column_names]))
    with pipeline.warehouse.transaction() as connection:
        connection.execute(LINKS)
        connection.execute(MIGRATIONS[4])
        for invoice_id, since in missing:
            connection.execute(
                "update source.invoices set missing_since = $since where invoice_id = $invoice_id",
                {"since": since, "invoice_id": invoice_id},
            )


LINKS = """
    insert into source.customer_links by name
    select unnest([customer_id, 'buyer ' || customer_id]) as customer_id, customer_id as person_id, 'shop' as source,
        unnest([customer_key, 1000000 + customer_key]) as customer_key
    from source.customer_keys
"""


def sent_events(ledger: Ledger) -> Sequence[object]:
    return [*(contact for contact in ledger.contacts if contact.kind != "recorded"), *ledger.order_events]


def history_rows(event: object, number: int) -> Iterable[dict[str, object]]:
    """An attempt and, where it is certain, that it was accepted."""
    order = isinstance(event, OrderEvent)
    day = event.sent_on if order else event.contacted_on
    identity = {
        **dict.fromkeys(SENT_HISTORY.column_names),
        "reminder_id": f"order-{number}" if order else event.reminder_id or f"reminder-{number}",
        "stream": "order" if order else "invoice",
        "batch_id": "batch",
        "customer_id": f"buyer {event.customer_id}" if order else event.customer_id,
        # Reminders of one action have one id if they have one number (RULES 7.2).
        "occurrence": number,
        "attempt": number,
        "attempted_at": datetime.combine(day, time(9), UTC),
        "contact_on": day,
        "outcome": "attempting",
    }
    if not order:
        identity |= {"level": event.level or "customer", "carrying_invoice_id": event.carrying_invoice_id}
        identity |= {"workflow": event.workflow, "action": event.action}
    yield identity
    if order or event.kind == "accepted":
        yield identity | {"outcome": "accepted"}


def derive(pipeline: Pipeline, days: Days) -> None:
    for derivation in DERIVATIONS:
        derive_and_replace(derivation, pipeline.warehouse, pipeline.settings.policy, days, "run")


def check(pipeline: Pipeline, case: Case, day: date) -> None:
    """Compares what both decide for a day, and what carries on it."""
    decided = [Decision(*row) for row in fetched(pipeline, f"{', '.join(COLUMNS)} {OF_DAY}", "dunning.decisions", day)]
    decided = [replace(row, reason=row.reason or "remind") for row in decided]
    expected = reference.decide(case.ledger, case.rules, day)
    assert sorted(decided, key=frames.by_unit) == sorted(expected, key=frames.by_unit)
    columns = "customer_id, level, invoice_id, carrying_change, previous_invoice_id"
    carried = set(fetched(pipeline, f"{columns} {OF_DAY}", "dunning.carrying_invoices", day))
    assert carried == {
        (row.customer_id, row.level, row.invoice_id, row.carrying_change, row.previous_invoice_id)
        for row in reference.carrying(case.ledger, case.rules, day)
    }


def replayed(pipeline: Pipeline) -> list[frames.Reminder]:
    replay = judge(pipeline.settings, pipeline.warehouse, REPLAYED).summary.replay_id
    columns = ", ".join(frames.Reminder._fields)
    rows = pipeline.warehouse.fetch(
        f"select {columns} from dunning.replay_reminders where replay_id = $replay_id", {"replay_id": replay}
    )
    return sorted(frames.Reminder(*row) for row in plain_values(rows))


def fetched(pipeline: Pipeline, query: str, table: str, day: date) -> list[tuple[object, ...]]:
    return plain_values(pipeline.warehouse.fetch(f"select {query.format(table)}", {"day": day}))


def plain_values(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    return [tuple(plain(value) for value in row) for row in rows.astype(object).to_numpy()]


def plain(value: object) -> object:
    if pd.isna(value):
        return None
    return value.date() if isinstance(value, pd.Timestamp) else value
