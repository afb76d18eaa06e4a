"""A full disk or a read-only file at each write: a sentence, nothing half-written, and the next try goes through."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from failing_disk import files_no_longer_than, filled, read_only, small_disk
from pydantic import SecretStr
from support import MovingClock, settings_at
from test_outbox import MOST, NOON, POLICY_TEXT, TODAY, body, decisions, empty_warehouse, freeze, reminders

from dunning_pipeline.errors import HistoryError, WarehouseError
from dunning_pipeline.history import history_folder, keep_history
from dunning_pipeline.history_files import names_in
from dunning_pipeline.outbox import Batch, Outbox, Piece, Result
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.resources.klaviyo import Klaviyo
from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, UNLIMITED, KlaviyoAccount, running
from dunning_pipeline.sending import send_batch
from dunning_pipeline.tables import ALL_TABLES

SENTENCE = r"the warehouse .*warehouse\.duckdb cannot be (written|opened).*"
IDS = [f"r-{number:04d}" for number in range(400)]
BODIES = [body(reminder_id, text=os.urandom(1_000).hex()) for reminder_id in IDS]
"""Bodies that cannot be packed: most of a megabyte."""


def freeze_another(outbox: Outbox) -> None:
    freeze(outbox, "another", reminders(IDS, BODIES), at=NOON)


def begin(outbox: Outbox) -> None:
    outbox.begin_attempts("batch", outbox.to_send("batch"), NOON, TODAY, MOST)


def record(outbox: Outbox) -> None:
    attempted = reminders(IDS).assign(stream="invoice", batch_id="batch", attempts=0)
    outbox.record_results(attempted, Result("accepted", 202), NOON, TODAY)


WRITES = {"freeze": freeze_another, "begin_attempts": begin, "record_results": record}
Write = Callable[[Outbox], None]


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    outbox = Outbox(empty_warehouse(tmp_path / "warehouse.duckdb"), "invoice")
    freeze(outbox, "batch", reminders(IDS, BODIES))
    return outbox


def content(outbox: Outbox) -> dict[str, int]:
    """Rows of each table, and the states of batches."""
    with outbox.warehouse.transaction() as connection:
        counted = {
            table.qualified: connection.execute(f"select count(*) from {table.qualified}").fetchall()[0][0]
            for table in ALL_TABLES
        }
        states = connection.execute("select batch_id || ' ' || state, 1 from dunning.batches").fetchall()
    return counted | dict(states)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("room", [0, 100, 20_000])
def test_a_write_that_breaks_off_leaves_nothing_and_can_be_tried_again(outbox: Outbox, write: Write, room: int) -> None:
    before = content(outbox)
    with files_no_longer_than(room), pytest.raises(WarehouseError, match=SENTENCE):
        write(outbox)
    assert content(outbox) == before
    write(outbox)
    assert content(outbox) != before


@pytest.mark.parametrize("more", [0, 100_000, 300_000])
def test_a_freezing_that_breaks_off_within_its_bodies_leaves_nothing(outbox: Outbox, more: int) -> None:
    before = content(outbox)
    room = outbox.warehouse.path.stat().st_size + more
    many = [f"{reminder_id}-{number}" for number in range(8) for reminder_id in IDS]
    rows = reminders(many, [body(reminder_id, text=os.urandom(1_000).hex()) for reminder_id in many])
    with files_no_longer_than(room), pytest.raises(WarehouseError, match=SENTENCE):
        freeze(outbox, "another", rows)
    assert content(outbox) == before
    freeze(outbox, "another", rows)
    assert len(outbox.ids_to_send("another")) == len(many)


def test_what_was_recorded_stays_though_it_cannot_be_moved_into_the_file_yet(outbox: Outbox) -> None:
    with files_no_longer_than(200_000):
        record(outbox)
    assert content(outbox)["dunning.sent_history"] == len(IDS)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_disk_that_is_really_full_is_told_and_nothing_is_written(tmp_path: Path, write: Write) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        outbox = Outbox(empty_warehouse(disk / "warehouse.duckdb"), "invoice")
        freeze(outbox, "batch", reminders(IDS, BODIES))
        before = content(outbox)
        with filled(disk), pytest.raises(WarehouseError, match=SENTENCE):
            write(outbox)
        assert content(outbox) == before
        write(outbox)
        assert content(outbox) != before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_warehouse_that_is_read_only_is_told(outbox: Outbox, write: Write) -> None:
    before = content(outbox)
    with read_only(outbox.warehouse.path), pytest.raises(WarehouseError, match=SENTENCE):
        write(outbox)
    assert content(outbox) == before
    write(outbox)
    assert content(outbox) != before


@dataclass
class Failure(Exception):
    """What goes wrong while a piece is made."""


def test_of_a_batch_that_broke_off_between_its_pieces_nothing_is_left(outbox: Outbox) -> None:
    def pieces() -> "list[Piece]":
        yield reminders(IDS[:5]), decisions(IDS[:5])
        assert len(outbox.warehouse.fetch("select 1 from dunning.reminders where batch_id = 'another'")) == 5
        raise Failure

    before = content(outbox)
    batch = Batch("another", "invoice", TODAY, size=0, live=True, state="planned")
    with pytest.raises(Failure):
        outbox.freeze_pieces(batch, pieces(), parse_policy(POLICY_TEXT), NOON)
    assert content(outbox) == before


def test_what_a_killed_freezing_left_is_no_batch_and_is_removed_by_the_next(outbox: Outbox) -> None:
    with outbox.warehouse.transaction() as connection:
        connection.execute(
            "insert into dunning.reminders by name select * replace ('killed' as batch_id) from dunning.reminders"
        )
    assert outbox.batch("killed") is None
    assert outbox.newest_live() == outbox.batch("batch")
    freeze_another(outbox)
    left = outbox.warehouse.fetch("select batch_id, count(*) as n from dunning.reminders group by all order by all")
    assert left.to_numpy().tolist() == [["another", len(IDS)], ["batch", len(IDS)]]


def test_a_batch_frozen_in_pieces_is_the_batch_frozen_at_once(outbox: Outbox) -> None:
    batch = Batch("another", "invoice", TODAY, size=0, live=True, state="planned")
    parts = [(reminders(IDS[n : n + 150]), decisions(IDS[n : n + 150])) for n in range(0, len(IDS), 150)]
    distinct = [(rows, made.assign(customer_id=made["customer_id"] + f"-{n}")) for n, (rows, made) in enumerate(parts)]
    frozen = outbox.freeze_pieces(batch, iter(distinct), parse_policy(POLICY_TEXT), NOON)
    assert frozen.size == len(IDS)
    assert outbox.newest_live() == outbox.batch("another")
    assert outbox.to_send("another")["reminder_id"].tolist() == sorted(IDS)
    whole = pd.concat([rows for rows, _ in parts], ignore_index=True)
    assert outbox.to_send("another")["body"].tolist() == whole["body"].tolist()


@pytest.mark.parametrize("room", [0, 1_000])
def test_a_history_file_that_breaks_off_is_told_and_written_by_the_next_run(outbox: Outbox, room: int) -> None:
    begin(outbox)
    record(outbox)
    with files_no_longer_than(room), pytest.raises(HistoryError, match="cannot be written to"):
        keep_history(outbox.warehouse, NOON)
    assert names_in(history_folder(outbox.warehouse)) == set()
    assert content(outbox)["dunning.sent_history"] == 2 * len(IDS)
    assert keep_history(outbox.warehouse, NOON).rows["sent_history"] == 2 * len(IDS)


def test_a_published_copy_that_cannot_be_written_leaves_the_old_one(outbox: Outbox) -> None:
    copy = outbox.warehouse.publish()
    before = copy.read_bytes()
    record(outbox)
    with files_no_longer_than(100_000), pytest.raises((OSError, WarehouseError)):
        outbox.warehouse.publish()
    assert copy.read_bytes() == before
    outbox.warehouse.publish()
    assert copy.read_bytes() != before


class FullAfterwards(Klaviyo):
    """A client whose disk is full from the moment on at which Klaviyo has accepted its first events."""

    until: ExitStack

    def create_events(self, bodies: Sequence[str]) -> None:
        super().create_events(bodies)
        self.until.enter_context(files_no_longer_than(0))


def test_what_was_accepted_when_the_disk_was_full_is_sent_again_identically_and_counts_once(tmp_path: Path) -> None:
    outbox = Outbox(empty_warehouse(tmp_path / "warehouse.duckdb"), "invoice")
    freeze(outbox, "batch", reminders(IDS, BODIES))
    clock = MovingClock(NOON)
    account = KlaviyoAccount({DEFAULT_KEY: {"events:write"}}, clock=clock, rates=UNLIMITED)
    with running(account) as url:
        settings = settings_at(tmp_path, POLICY_TEXT, clock, {"KLAVIYO_URL": url})
        client = FullAfterwards(url, SecretStr(DEFAULT_KEY))
        with ExitStack() as client.until:
            report = send_batch(None, outbox, settings, klaviyo=client)
        assert re.match(SENTENCE, str(report.error))
        assert (len(account.events), report.accepted, report.left) == (len(IDS), 0, len(IDS))
        again = send_batch(None, outbox, settings, klaviyo=Klaviyo(url, SecretStr(DEFAULT_KEY)))
    assert (again.error, again.accepted, again.left) == (None, len(IDS), 0)
    assert (len(account.events), len(account.discarded)) == (len(IDS), len(IDS))
    assert account.bodies[0] == account.bodies[1]
