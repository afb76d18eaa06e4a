"""Batches of unusual size: what counts as unusual, and that they wait for somebody on both streams."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest
from test_outbox import NOON, TODAY, empty_warehouse, freeze, reminders, try_to_send

from dunning_pipeline.guards import unusual_size, why_unusual
from dunning_pipeline.outbox import Outbox
from dunning_pipeline.policy import Sending

SENDING = Sending(max_batch=10_000, max_growth=3)


def sent(*days: tuple[int, int, int]) -> pd.DataFrame:
    """Earlier days as (days ago, size, days since the one before), newest first."""
    rows = [(pd.Timestamp(TODAY - timedelta(days=ago)), size, since) for ago, size, since in days]
    return pd.DataFrame(rows, columns=["as_of", "size", "days"])


@pytest.mark.parametrize(
    ("size", "days", "unusual"),
    [
        (10_000, (), False),
        (10_001, (), True),
        (100, ((1, 1, 1),), False),
        (101, ((1, 1, 1),), True),
        (300, ((1, 100, 1),), False),
        (301, ((1, 100, 1),), True),
        # After a weekend three times as much is usual.
        (900, ((3, 100, 1),), False),
        (901, ((3, 100, 1),), True),
        # A day after a weekend counts by its share of one day.
        (301, ((1, 300, 3),), True),
        # The median: one broken day makes no other one usual.
        (301, ((1, 9_000, 1), (2, 100, 1), (3, 100, 1)), True),
        (450, ((1, 100, 1), (2, 200, 1)), False),
        (451, ((1, 100, 1), (2, 200, 1)), True),
    ],
)
def test_a_size_is_unusual_beyond_the_limits(size: int, days: Sequence[tuple[int, int, int]], unusual: bool) -> None:
    assert (unusual_size(size, TODAY, sent(*days), SENDING) is not None) is unusual


def test_what_is_unusual_is_told_with_its_figures() -> None:
    assert unusual_size(20_000, TODAY, sent(), SENDING) == "more than sending.max_batch (10000)"
    assert unusual_size(1_000, TODAY, sent((3, 110, 1)), SENDING) == (
        "more than sending.max_growth (3) times the usual 330 (110.0 per calendar day, 3 since 2025-03-09)"
    )


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(empty_warehouse(tmp_path / "warehouse.duckdb"), "invoice")


def send_on(outbox: Outbox, day: date, name: str, size: int, outcome: str = "accepted") -> None:
    at = NOON + (day - TODAY)
    freeze(outbox, name, reminders([f"{name}-{n}" for n in range(size)]), at=at, as_of=day)
    if size:
        try_to_send(outbox, name, outcome, at=at)


def test_only_days_on_which_something_was_accepted_are_compared_with(outbox: Outbox) -> None:
    monday = TODAY - timedelta(days=9)
    send_on(outbox, monday, "monday", 4)
    send_on(outbox, monday, "monday-again", 2)
    send_on(outbox, monday + timedelta(days=1), "refused", 9, outcome="not_delivered")
    send_on(outbox, monday + timedelta(days=2), "quiet", 0)
    send_on(outbox, monday + timedelta(days=3), "thursday", 3)
    freeze(outbox, "broken", reminders([f"b-{n}" for n in range(50)]), at=NOON - timedelta(days=1), as_of=TODAY)
    days = outbox.sent_days(TODAY)
    assert days["as_of"].dt.date.tolist() == [monday + timedelta(days=3), monday]
    assert days[["size", "days"]].to_numpy().tolist() == [[3, 3], [4, 1]]
    assert Outbox(outbox.warehouse, "order").sent_days(TODAY).empty


def test_the_ten_latest_days_count(outbox: Outbox) -> None:
    for ago in range(12, 0, -1):
        send_on(outbox, TODAY - timedelta(days=ago), f"day-{ago}", ago)
    assert outbox.sent_days(TODAY)["size"].tolist() == list(range(1, 11))


@pytest.mark.parametrize(
    ("stream", "command"),
    [("invoice", "dunning run --send --confirm-batch noon"), ("order", "dunning orders run --send --confirm")],
)
def test_a_batch_of_either_stream_is_measured_by_what_it_would_still_send(
    tmp_path: Path, stream: str, command: str
) -> None:
    outbox = Outbox(empty_warehouse(tmp_path / "warehouse.duckdb"), stream)
    limits = Sending(max_batch=2)
    send_on(outbox, TODAY, "morning", 3)
    morning = outbox.batch("morning")
    assert morning is not None
    assert why_unusual(outbox, morning, limits) is None
    freeze(
        outbox, "noon", reminders([*[f"morning-{n}" for n in range(3)], "a", "b", "c"]), at=NOON + timedelta(hours=1)
    )
    noon = outbox.batch("noon")
    assert noon is not None
    assert why_unusual(outbox, noon, limits) == (
        "batch noon would send 3 reminders, more than sending.max_batch (2); look at it, and if it is right, confirm "
        f"it: {command}"
    )
