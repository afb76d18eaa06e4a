"""What pulls saw of orders, whatever kind of source yields them: appended when there is anything new to it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import Mapping
from dunning_pipeline.resources.loading import Loaded, Loader, Pulled
from dunning_pipeline.resources.progress import Progress
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, stage
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.tables import CUSTOMER_LINKS, ORDER_EDITS, ORDERS, Table

NOON = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)
ORDER = {"order_id": "1", "name": "#1", "currency": "EUR", "total": "20.00", "outstanding": "5.00"}
EDIT = {"edit_id": "e", "order_id": "1", "edited_at": "2026-11-16T12:01:00Z"}


class Pull:
    """Pulls rows of text into the warehouse at a time that is given in minutes after noon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.warehouse = Warehouse(folder / "warehouse.duckdb")

    def __call__(
        self, table: Table, *rows: dict[str, str | None], minutes: float = 0, complete: bool = False, prefix: str = ""
    ) -> Loaded:
        raw = self.folder / "raw.parquet"
        names = list(dict.fromkeys(name for row in rows for name in row))
        pq.write_table(pa.Table.from_pylist(list(rows), pa.schema([(name, pa.string()) for name in names])), raw)
        staged = stage("shop", table, Mapping(), raw, REJECTS_SCHEMA.empty_table(), "Europe/Paris", prefix or None)
        at = NOON + timedelta(minutes=minutes)
        part = Pulled(staged, Progress("hash", staged.found), at, complete)
        return Loader(self.warehouse, table, "run", at, at.date(), ["shop"]).load([part], 1.0)

    def seen(self, columns: str = "minutes, outstanding_minor") -> list[Any]:
        """Observations, with the minutes after noon of each."""
        rows = self.warehouse.fetch(f"""
            select {columns}
            from (
                select *, (epoch_us(observed_at) - epoch_us(timestamptz '2026-11-16 12:00Z')) / 60e6 as minutes
                from source.order_observations
            )
            order by order_id, minutes
        """)
        found: list[Any] = rows.to_numpy().tolist()
        return found

    def fetch(self, columns: str, table: Table) -> list[list[Any]]:
        rows = self.warehouse.fetch(f"select {columns} from {table.qualified} order by all").to_numpy().tolist()
        return [[None if pd.isna(value) else value for value in row] for row in rows]


@pytest.fixture
def pull(tmp_path: Path) -> Pull:
    return Pull(tmp_path)


def changed(**columns: str | None) -> dict[str, str | None]:
    return {**ORDER, **columns}


def test_the_same_seen_again_adds_nothing(pull: Pull) -> None:
    for minutes in range(3):
        pull(ORDERS, ORDER, minutes=minutes)
    assert pull.seen() == [[0, 500]]


@pytest.mark.parametrize(
    "change",
    [
        {"outstanding": "4.00"},
        {"outstanding": "-4.00"},
        {"currency": "USD"},
        {"financial_status": "paid"},
        {"fulfillment_status": "fulfilled"},
        {"cancelled_at": "2026-11-16T12:01:00Z"},
    ],
    ids=str,
)
def test_whatever_counts_and_has_changed_is_appended(pull: Pull, change: dict[str, str]) -> None:
    pull(ORDERS, ORDER)
    pull(ORDERS, changed(**change), minutes=5)
    pull(ORDERS, changed(**change), minutes=6)
    assert [row[0] for row in pull.seen()] == [0, 5]


def test_what_was_seen_before_is_seen_again_when_it_is_so_again(pull: Pull) -> None:
    for minutes, left in enumerate(("5.00", "0.00", "5.00")):
        pull(ORDERS, changed(outstanding=left), minutes=minutes)
    assert pull.seen() == [[0, 500], [1, 0], [2, 500]]


def test_an_order_that_changed_since_is_appended_though_it_looks_the_same(pull: Pull) -> None:
    pull(ORDERS, changed(updated_at="2026-11-16T11:00:00Z"))
    pull(ORDERS, changed(updated_at="2026-11-16T12:03:00Z"), minutes=5)
    pull(ORDERS, changed(updated_at="2026-11-16T12:03:00Z"), minutes=6)
    assert pull.seen() == [[0, 500], [5, 500]]


def test_an_order_that_was_edited_since_is_appended_though_it_looks_the_same(pull: Pull) -> None:
    pull(ORDERS, ORDER)
    pull(ORDER_EDITS, EDIT, minutes=2)
    pull(ORDERS, ORDER, minutes=2)
    pull(ORDERS, ORDER, minutes=3)
    assert pull.seen() == [[0, 500], [2, 500]]


def test_an_observation_is_never_before_what_was_observed(pull: Pull) -> None:
    """Our clock is ten minutes behind the shop's."""
    pull(ORDERS, changed(updated_at="2026-11-16T12:10:00Z"))
    pull(ORDERS, changed(updated_at="2026-11-16T12:12:00Z", outstanding="9.00"), minutes=1)
    assert pull.seen() == [[10, 500], [12, 900]]


def test_an_observation_follows_the_one_before_whatever_the_clock_says(pull: Pull) -> None:
    """Our clock was set back."""
    pull(ORDERS, ORDER, minutes=5)
    pull(ORDERS, changed(outstanding="0.00"), minutes=1)
    ((first, owed), (second, paid)) = pull.seen()
    assert (owed, paid) == (500, 0)
    assert first < second < first + 0.001


def test_an_older_reading_neither_undoes_an_order_nor_is_observed(pull: Pull) -> None:
    pull(ORDERS, changed(updated_at="2026-11-16T12:03:00Z", outstanding="0.00"), minutes=5)
    pull(ORDERS, changed(updated_at="2026-11-16T11:00:00Z"), minutes=6)
    assert pull.seen() == [[5, 0]]
    assert pull.fetch("outstanding_minor", ORDERS) == [[0]]


def test_of_one_order_twice_in_a_pull_the_later_change_counts(pull: Pull) -> None:
    early = changed(updated_at="2026-11-16T11:00:00Z")
    late = changed(updated_at="2026-11-16T11:30:00Z", outstanding="1.00")
    pull(ORDERS, late, early)
    assert pull.seen() == [[0, 100]]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ('[{"title": "Mug", "quantity": 1, "amount": 12.50}]', True),
        ('[{"title": "Mug", "quantity": null, "amount": -3}, {"title": "Tip", "amount": 0}]', True),
        ("[]", True),
        ("a mug more", False),
        ('{"title": "Mug", "quantity": 1, "amount": 12.50}', False),
        ('["Mug"]', False),
        ('[{"quantity": 1, "amount": 12.50}]', False),
        ('[{"title": "Mug", "quantity": 1, "amount": "12.50"}]', False),
        ('[{"title": "Mug", "quantity": 0.5, "amount": 12.50}]', False),
        (None, False),
    ],
)
def test_changes_that_are_no_list_of_changes_are_left_out_and_the_edit_is_kept(
    pull: Pull, told: str | None, kept: bool
) -> None:
    assert pull(ORDER_EDITS, {**EDIT, "changes": told}).rejected == 0
    assert pull.fetch("edit_id, changes", ORDER_EDITS) == [["e", told if kept else None]]


def test_every_order_is_observed_on_its_own_and_known_by_one_key(pull: Pull) -> None:
    pull(ORDERS, ORDER, changed(order_id="2", outstanding="0.00", customer_id="C"))
    pull(ORDERS, ORDER, changed(order_id="2", outstanding="7.00", customer_id="C"), minutes=1)
    pull(ORDER_EDITS, EDIT)
    assert pull.seen("order_id, outstanding_minor") == [["1", 500], ["2", 0], ["2", 700]]
    keys = pull.fetch("order_id, order_key", ORDERS)
    assert pull.fetch("order_id, order_key", ORDER_EDITS) == keys[:1]
    assert pull.seen("order_id, order_key") == [keys[0], keys[1], keys[1]]
    assert pull.fetch("order_id, customer_id, customer_key", ORDERS) == [["1", None, None], ["2", "C", 1]]


def test_a_complete_list_tells_which_orders_vanished_until_they_are_back(pull: Pull) -> None:
    pull(ORDERS, ORDER, changed(order_id="2"), complete=True)
    assert pull(ORDERS, ORDER, complete=True, minutes=1).vanished == 1
    assert pull.fetch("order_id, missing_since", ORDERS) == [["1", None], ["2", pd.Timestamp(2026, 11, 16)]]
    assert len(pull.seen()) == 2, "what is no longer seen is not observed"
    pull(ORDERS, ORDER, changed(order_id="2"), complete=True, minutes=2)
    assert pull.fetch("missing_since", ORDERS) == [[None], [None]]


def test_what_was_outstanding_after_an_edit_needs_a_currency(pull: Pull) -> None:
    with pytest.raises(SourceError, match="column 'currency' is needed beside 'outstanding_after'"):
        pull(ORDER_EDITS, {**EDIT, "outstanding_after": "5.00"})
    pull(ORDER_EDITS, {**EDIT, "outstanding_after": "5.00", "currency": "EUR"})
    assert pull.fetch("outstanding_after_minor", ORDER_EDITS) == [[500]]


def test_links_tell_who_is_one_person_and_keep_the_persons_id_without_prefix(pull: Pull) -> None:
    pull(CUSTOMER_LINKS, {"customer_id": "B1", "person_id": "P"}, {"customer_id": "S1", "person_id": "P"}, prefix="fr-")
    assert pull.fetch("customer_id, person_id", CUSTOMER_LINKS) == [["fr-B1", "P"], ["fr-S1", "P"]]


def test_a_hundred_thousand_orders_seen_again_add_nothing(tmp_path: Path) -> None:
    pull = Pull(tmp_path)
    orders: Sequence[dict[str, str | None]] = [changed(order_id=str(number)) for number in range(100_000)]
    pull(ORDERS, *orders)
    assert pull(ORDERS, *orders, minutes=1).written == 100_000
    counted = pull.warehouse.fetch("select count(*) as n from source.order_observations")["n"].iloc[0]
    assert counted == 100_000
