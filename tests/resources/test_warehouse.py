"""The warehouse: declared types, atomic writes, one writer at a time over processes, a copy that is always whole."""

import multiprocessing
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from dunning_pipeline.errors import InvalidRows, WarehouseError
from dunning_pipeline.resources.warehouse import (
    MIGRATIONS,
    SCHEMA_VERSION,
    Warehouse,
    declared_rows,
    fetch,
    replace_days,
)
from dunning_pipeline.sql import quoted
from dunning_pipeline.tables import (
    BALANCES,
    BATCHES,
    CUSTOMER_KEYS,
    DECISIONS,
    INVOICE_KEYS,
    PROMISES,
    SENT_HISTORY,
    Table,
)

BUSY_SECONDS = 4
LONG_BUSY_SECONDS = 20
ROWS_AT_ONCE = 10
PUBLISHED_EVERY = 5
MONDAY, TUESDAY, WEDNESDAY = date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 25)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "warehouse.duckdb")


def replaced(warehouse: Warehouse, frame: pd.DataFrame, first: date, last: date) -> int:
    """Replaces balances by derived rows, which come by key."""
    rows = declared_rows(BALANCES.keyed, frame)
    with warehouse.transaction() as connection:
        replace_days(connection, BALANCES, rows, first, last)
    return int(rows.num_rows)


def balances(day: date, *amounts: int, **changes: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "as_of": pd.Timestamp(day),
            "customer_id": [f"C{number}" for number in range(len(amounts))],
            "currency": "EUR",
            "net_minor": amounts,
            "unpaid_minor": amounts,
            "net_positive": True,
            "chaseable": True,
            "unclear": False,
            "customer_key": range(len(amounts)),
            "run_id": "run-1",
        }
    ).assign(**changes)


def decisions(as_of: date, **changes: Any) -> pd.DataFrame:
    row = dict.fromkeys(DECISIONS.column_names) | {
        "as_of": pd.Timestamp(as_of),
        "customer_id": "C1",
        "level": "customer",
        "decision": "skip",
        "reason": "waiting_for_trigger",
        "customer_key": 1,
        "run_id": "run-1",
    }
    return pd.DataFrame([row | changes])


def keys(*customers: str) -> pd.DataFrame:
    return pd.DataFrame({"customer_id": customers, "customer_key": range(len(customers))})


def amounts(warehouse: Warehouse) -> list[tuple[date, int]]:
    frame = warehouse.fetch("select as_of, net_minor from dunning.balances order by all")
    return list(zip(frame["as_of"].dt.date, frame["net_minor"], strict=True))


def customers(warehouse: Warehouse) -> list[str]:
    return warehouse.fetch("select customer_id from source.customer_keys order by customer_id")["customer_id"].tolist()


@contextmanager
def process_in_a_transaction(warehouse: Warehouse, statements: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has run `statements` in a transaction which it never ends."""
    script = f"""
import time
from pathlib import Path
from dunning_pipeline.resources.warehouse import Warehouse
with Warehouse(Path({str(warehouse.path)!r})).transaction() as connection:
    connection.execute({statements!r})
    print("ready", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_values_come_out_in_their_declared_types(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C0", "C1"))
    replaced(warehouse, balances(MONDAY, 2**53 + 1, -5), MONDAY, MONDAY)
    frame = warehouse.fetch("select * from dunning.balances order by customer_id")
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "as_of": "datetime64[ms]",
        "customer_id": "str",
        "currency": "str",
        "net_minor": "int64",
        "unpaid_minor": "int64",
        "net_positive": "bool",
        "chaseable": "bool",
        "unclear": "bool",
        "customer_key": "int64",
        "run_id": "str",
    }
    assert frame["net_minor"].tolist() == [2**53 + 1, -5]
    assert frame["customer_id"].tolist() == ["C0", "C1"], "the ids that the keys stand for"
    assert frame["as_of"].tolist() == [pd.Timestamp(MONDAY)] * 2


def test_integers_with_empty_values_are_no_floats(warehouse: Warehouse) -> None:
    position = pd.array([None, 2**53 + 1], dtype="Int64")
    frame = pd.concat([decisions(MONDAY), decisions(MONDAY, customer_id="C2")]).assign(action_position=position)
    warehouse.append(DECISIONS, frame)
    stored = warehouse.fetch("select action_position, customer_key from dunning.decisions order by customer_id")
    assert str(stored["action_position"].dtype) == "Int64"
    assert stored["action_position"].tolist() == [pd.NA, 2**53 + 1]


def test_instants_come_out_in_utc_whatever_zone_they_went_in(warehouse: Warehouse) -> None:
    moment = pd.Timestamp("2026-11-23T09:30:00+01:00")
    row = {
        "batch_id": "b", "stream": "invoice", "as_of": pd.Timestamp(MONDAY), "run_id": "r", "size": 1, "live": True,
        "state": "sent", "policy_hash": "h", "created_at": moment,
    }  # fmt: skip
    warehouse.append(BATCHES, pd.DataFrame([row]))
    (created_at,) = warehouse.fetch("select created_at from dunning.batches")["created_at"]
    assert (created_at, str(created_at.tz)) == (datetime(2026, 11, 23, 8, 30, tzinfo=UTC), "UTC")


@pytest.mark.parametrize("table", [BALANCES, DECISIONS, PROMISES], ids=lambda table: table.name)
def test_an_empty_table_has_its_columns_and_types(warehouse: Warehouse, table: Table) -> None:
    assert warehouse.append(table, table.empty_frame()) == 0
    stored = warehouse.fetch(f"select * from {table.qualified}")
    assert stored.dtypes.to_dict() == table.empty_frame().dtypes.to_dict()


def test_a_query_takes_parameters_by_name(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C1", "it's"))
    frame = warehouse.fetch("select customer_key from source.customer_keys where customer_id = $id", {"id": "it's"})
    assert frame["customer_key"].tolist() == [1]


def test_replacing_days_replaces_only_those(warehouse: Warehouse) -> None:
    for day, amount in ((MONDAY, 1), (TUESDAY, 2), (WEDNESDAY, 3)):
        replaced(warehouse, balances(day, amount), day, day)
    assert replaced(warehouse, balances(TUESDAY, 20, 21), TUESDAY, TUESDAY) == 2
    assert amounts(warehouse) == [(MONDAY, 1), (TUESDAY, 20), (TUESDAY, 21), (WEDNESDAY, 3)]
    replaced(warehouse, balances(MONDAY, 10), MONDAY, TUESDAY)
    assert amounts(warehouse) == [(MONDAY, 10), (WEDNESDAY, 3)]


def interrupt_after_replacing(warehouse: Warehouse, frame: pd.DataFrame) -> None:
    with warehouse.transaction() as connection:
        replace_days(connection, BALANCES, declared_rows(BALANCES.keyed, frame), MONDAY, MONDAY)
        assert len(fetch(connection, "select * from dunning.balances")) == len(frame)
        raise KeyboardInterrupt


def test_an_exception_in_the_middle_leaves_the_previous_rows(warehouse: Warehouse) -> None:
    replaced(warehouse, balances(MONDAY, 1), MONDAY, MONDAY)
    with pytest.raises(KeyboardInterrupt):
        interrupt_after_replacing(warehouse, balances(MONDAY, 2, 3))
    assert amounts(warehouse) == [(MONDAY, 1)]


def test_columns_in_another_order_are_written_by_name(warehouse: Warehouse) -> None:
    frame = balances(MONDAY, 7, unpaid_minor=5)
    warehouse.append(BALANCES, frame[list(reversed(frame.columns))])
    stored = warehouse.fetch("select customer_id, net_minor, unpaid_minor from dunning.balances")
    assert stored.to_dict("records") == [{"customer_id": "C0", "net_minor": 7, "unpaid_minor": 5}]


def test_columns_that_are_not_declared_are_left_out(warehouse: Warehouse) -> None:
    assert warehouse.append(BALANCES, balances(MONDAY, 7, helper="x")) == 1


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (balances(TUESDAY, 1, 2, customer_id="C1"), "customer_id"),
        (balances(TUESDAY, 1, 2, customer_id=["C1", None]), "customer_id: not_nullable"),
        (balances(TUESDAY, 1, 2, as_of=pd.NaT), "as_of: not_nullable"),
        (balances(TUESDAY, 1, 2).drop(columns="net_minor"), "net_minor"),
        (balances(TUESDAY, 1, 2, net_minor=["1 EUR", "2 EUR"]), "net_minor"),
        (balances(TUESDAY, 1, 2, net_minor=[0.5, 1.0]), "net_minor"),
        (balances(TUESDAY, 1, 2, net_minor=pd.Series([2**63, 1], dtype=object)), "too large"),
        (balances(TUESDAY, 1, 2, as_of="Tuesday"), "as_of"),
        (balances(TUESDAY, 1, 2, customer_id=[1, 2]), "customer_id"),
        (balances(TUESDAY, 1, 2, chaseable=["yes", "no"]), "chaseable"),
    ],
    ids=[
        "double key",
        "empty text",
        "empty date",
        "missing column",
        "text for money",
        "fractions for money",
        "money too large",
        "text for a date",
        "numbers for text",
        "text for a switch",
    ],
)
def test_rows_that_break_the_declaration_are_refused(warehouse: Warehouse, frame: pd.DataFrame, words: str) -> None:
    replaced(warehouse, balances(MONDAY, 1), MONDAY, MONDAY)
    with pytest.raises(InvalidRows, match=rf"^dunning\.balances: .*{words}"):
        warehouse.append(BALANCES, frame)
    assert amounts(warehouse) == [(MONDAY, 1)]


def test_a_value_that_is_not_allowed_is_named_with_what_is(warehouse: Warehouse) -> None:
    with pytest.raises(InvalidRows) as caught:
        warehouse.append(DECISIONS, decisions(MONDAY, decision="wait"))
    assert str(caught.value) == "dunning.decisions: decision: isin(('remind', 'skip')) (wait)"
    assert warehouse.fetch("select * from dunning.decisions").empty


def test_a_key_may_be_empty_in_part_but_not_double(warehouse: Warehouse) -> None:
    assert warehouse.append(DECISIONS, decisions(MONDAY)) == 1
    with pytest.raises(InvalidRows, match=r"^dunning\.decisions: .*uniqueness"):
        warehouse.append(DECISIONS, pd.concat([decisions(TUESDAY), decisions(TUESDAY)]))


def make_older_file(warehouse: Warehouse, version: int) -> None:
    """A file as an earlier version left it: one table, fewer columns, one row."""
    with duckdb.connect(warehouse.path) as connection:
        connection.execute(f"""
            create schema source;
            create schema dunning;
            create table dunning.schema_version (version BIGINT, migrated_at TIMESTAMPTZ);
            insert into dunning.schema_version values ({version}, now());
            create table source.customers (email VARCHAR, customer_id VARCHAR, segment VARCHAR);
            insert into source.customers values ('a@shop.test', 'C1', 'gold');
        """)


def test_new_columns_and_tables_reach_an_older_file_which_keeps_its_rows(warehouse: Warehouse) -> None:
    make_older_file(warehouse, version=0)
    frame = warehouse.fetch("select customer_id, email, segment, updated_at, customer_key from source.customers")
    assert frame.iloc[0].tolist()[:3] == ["C1", "a@shop.test", "gold"]
    assert frame.iloc[0, 3:].isna().all()
    assert warehouse.fetch("select * from dunning.decisions").empty
    assert stored_versions(warehouse) == [0, SCHEMA_VERSION]


def stored_versions(warehouse: Warehouse) -> list[int]:
    return warehouse.fetch("select version from dunning.schema_version order by version")["version"].tolist()


def test_a_migration_is_applied_once(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    make_older_file(warehouse, version=0)
    change = "update source.customers set name = upper(segment); update source.customers set segment = segment || '!'"
    monkeypatch.setitem(MIGRATIONS, SCHEMA_VERSION, change)
    for _ in range(3):
        frame = warehouse.fetch("select name, segment from source.customers")
        assert frame.to_dict("records") == [{"name": "GOLD", "segment": "gold!"}]


def test_a_migration_that_fails_leaves_the_older_file_as_it_was(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_older_file(warehouse, version=0)
    monkeypatch.setitem(MIGRATIONS, SCHEMA_VERSION, "update source.customers set segment = 'x'; select error('stop')")
    with pytest.raises(duckdb.Error, match="stop"):
        warehouse.fetch("select 1")
    with duckdb.connect(warehouse.path) as connection:
        assert connection.execute("select * from source.customers").fetchall() == [("a@shop.test", "C1", "gold")]


def test_a_new_file_needs_no_migration(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MIGRATIONS, SCHEMA_VERSION, "alter table source.customers drop column given_up_long_ago")
    assert warehouse.fetch("select * from source.customers").empty


def test_reminders_of_a_file_without_levels_count_for_their_customer(warehouse: Warehouse) -> None:
    """Version 1 knew only reminders to customers, and no issue date beside a carrying invoice."""
    history = dict.fromkeys(SENT_HISTORY.column_names) | {
        "reminder_id": "r-1", "stream": "invoice", "batch_id": "b", "occurrence": 1, "attempt": 1,
        "outcome": "accepted", "attempted_at": pd.Timestamp("2026-11-23T09:30:00Z"), "contact_on": pd.Timestamp(MONDAY),
    }  # fmt: skip
    warehouse.append(SENT_HISTORY, pd.DataFrame([history]))
    with warehouse.transaction() as connection:
        connection.execute("alter table dunning.sent_history drop column level")
        connection.execute("alter table dunning.carrying_invoices drop column issued_on")
        connection.execute("update dunning.schema_version set version = 1")
    opened = Warehouse(warehouse.path)
    assert opened.fetch("select level from dunning.sent_history")["level"].tolist() == ["customer"]
    assert opened.fetch("select issued_on from dunning.carrying_invoices").empty


def test_threads_that_share_a_warehouse_take_turns(warehouse: Warehouse) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda customer: warehouse.append(CUSTOMER_KEYS, keys(customer)), ["C1", "C2", "C3", "C4"]))
    assert customers(warehouse) == ["C1", "C2", "C3", "C4"]


def test_the_history_of_a_file_without_keys_gets_them(warehouse: Warehouse) -> None:
    """Version 3 knew customers and invoices of reminders by their ids; some no source has pulled yet."""
    warehouse.append(CUSTOMER_KEYS, pd.DataFrame({"customer_id": ["C1"], "customer_key": [7]}))
    warehouse.append(INVOICE_KEYS, pd.DataFrame({"invoice_id": ["F1"], "invoice_key": [9]}))
    sent = dict.fromkeys(SENT_HISTORY.column_names) | {
        "stream": "invoice", "batch_id": "b", "occurrence": 1, "attempt": 1, "outcome": "accepted", "level": "customer",
        "attempted_at": pd.Timestamp("2026-11-23T09:30:00Z"), "contact_on": pd.Timestamp(MONDAY),
    }  # fmt: skip
    reminded = {"r-1": ("C1", "F1"), "r-2": ("C2", "F2"), "r-3": ("C1", "F2")}
    rows = [{"reminder_id": one, "customer_id": c, "carrying_invoice_id": i} for one, (c, i) in reminded.items()]
    warehouse.append(SENT_HISTORY, pd.DataFrame([sent | row for row in rows]))
    with warehouse.transaction() as connection:
        for table in ("reminders", "sent_history"):
            for key in ("customer_key", "invoice_key"):
                connection.execute(f"alter table dunning.{table} drop column {key}")
        connection.execute("update dunning.schema_version set version = 3")
    keys = Warehouse(warehouse.path).fetch(
        "select customer_key, invoice_key from dunning.sent_history order by reminder_id"
    )
    assert list(keys.itertuples(index=False, name=None)) == [(7, 9), (8, 10), (7, 10)]


def test_a_newer_file_is_refused(warehouse: Warehouse) -> None:
    newer = SCHEMA_VERSION + 1
    make_older_file(warehouse, newer)
    with pytest.raises(WarehouseError) as caught:
        warehouse.fetch("select 1")
    assert str(caught.value) == (
        f"the warehouse {warehouse.path} has schema version {newer}, newer than the {SCHEMA_VERSION} this software "
        "knows; update dunning_pipeline"
    )


def test_a_file_that_is_no_warehouse_is_told(warehouse: Warehouse) -> None:
    warehouse.path.write_text("no database " * 1000)
    with pytest.raises(WarehouseError, match=r"^the warehouse .* cannot be opened: "):
        warehouse.fetch("select 1")


def test_the_file_is_made_with_its_folder_for_its_owner_alone(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "home" / "data" / "warehouse.duckdb")
    warehouse.append(CUSTOMER_KEYS, keys("C1"))
    published = warehouse.publish()
    for file in (warehouse.path, published):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_warehouse_in_use_is_told_after_the_time_out(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C1"))
    impatient = Warehouse(warehouse.path, lock_timeout=0.2)
    with process_in_a_transaction(warehouse, "select 1"):
        started = time.monotonic()
        for attempt in (lambda: impatient.fetch("select 1"), impatient.publish):
            with pytest.raises(WarehouseError) as caught:
                attempt()
            assert str(caught.value) == (
                f"the warehouse {warehouse.path} has been in use by another process for 0.2 s; "
                "try again when it is done"
            )
        assert 0.4 <= time.monotonic() - started < 5
    assert customers(warehouse) == ["C1"]


@contextmanager
def foreign_reader(warehouse: Warehouse, seconds: float) -> Iterator[None]:
    """Another process that has the file open past our lock, as a shell has it, for some seconds."""
    script = f"""
import time
import duckdb
connection = duckdb.connect({str(warehouse.path)!r}, read_only=True)
print("ready", flush=True)
time.sleep({seconds})
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def test_a_foreign_reader_is_waited_for(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C1"))
    with foreign_reader(warehouse, seconds=0.5):
        assert customers(Warehouse(warehouse.path, lock_timeout=30)) == ["C1"]


def test_a_foreign_reader_that_stays_is_told_after_the_time_out(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C1"))
    with foreign_reader(warehouse, seconds=60):
        started = time.monotonic()
        with pytest.raises(WarehouseError, match=r"cannot be opened: .*lock"):
            Warehouse(warehouse.path, lock_timeout=0.5).fetch("select 1")
        assert 0.5 <= time.monotonic() - started < 10


def test_looking_creates_and_migrates_nothing(warehouse: Warehouse) -> None:
    make_older_file(warehouse, version=0)
    before = warehouse.path.read_bytes()
    assert warehouse.look("select customer_id from source.customers")["customer_id"].tolist() == ["C1"]
    assert warehouse.path.read_bytes() == before
    with pytest.raises(WarehouseError, match="cannot be read"):
        warehouse.look("select * from dunning.decisions")


def test_who_waits_gets_the_lock_when_it_is_free(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C1"))
    with process_in_a_transaction(warehouse, "select 1") as process, ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        waiting = pool.submit(append_for, warehouse.path, "w", 0.0)
        time.sleep(0.5)
        assert not waiting.done()
        process.kill()
        assert waiting.result(timeout=30) == ROWS_AT_ONCE


def test_what_one_process_does_at_a_time_is_told_with_who_did_it_last(warehouse: Warehouse) -> None:
    assert (warehouse.is_taken("mending"), warehouse.latest_at("mending")) == (False, "")
    with warehouse.only_one("mending", "run-1"):
        assert (warehouse.is_taken("mending"), warehouse.latest_at("mending")) == (True, "run-1")
        assert not warehouse.is_taken("painting")
        impatient = Warehouse(warehouse.path, lock_timeout=0)
        with (
            pytest.raises(WarehouseError, match="another process has been mending for 0 s"),
            impatient.only_one("mending"),
        ):
            pass
    assert (warehouse.is_taken("mending"), warehouse.latest_at("mending")) == (False, "run-1")


@pytest.mark.parametrize("limit", [None, 400_000_000])
def test_giving_memory_back_leaves_the_limit_as_it_is(warehouse: Warehouse, limit: int | None) -> None:
    limited = Warehouse(warehouse.path, memory_limit=limit)
    limited.give_memory_back()
    before = limited.fetch("select current_setting('memory_limit') as told")["told"].item()
    limited.give_memory_back()
    assert limited.fetch("select current_setting('memory_limit') as told")["told"].item() == before
    assert (before == "95.3 MiB") == (limit is not None)


def test_the_longest_hold_is_told_once(warehouse: Warehouse) -> None:
    warehouse.fetch("select 1")
    warehouse.longest_hold()
    with warehouse.transaction():
        time.sleep(0.3)
    warehouse.fetch("select 1")
    assert 0.3 <= warehouse.longest_hold() < 3
    assert warehouse.longest_hold() == 0


def test_the_published_copy_has_all_rows_and_lies_beside_nothing_half_written(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C1"))
    published = warehouse.publish()
    assert published == warehouse.path.parent / "published" / "warehouse.duckdb"
    warehouse.append(CUSTOMER_KEYS, pd.DataFrame({"customer_id": ["C2"], "customer_key": [2]}))
    with duckdb.connect(published, read_only=True) as reader:
        assert reader.execute("select customer_id from source.customer_keys").fetchall() == [("C1",)]
        warehouse.publish()
        assert reader.execute("select count(*) from source.customer_keys").fetchall() == [(1,)]
    with duckdb.connect(published, read_only=True) as reader:
        assert reader.execute("select count(*) from source.customer_keys").fetchall() == [(2,)]
    assert {file.suffix for file in published.parent.iterdir()} == {".duckdb", ".parquet"}


def test_names_are_quoted_for_sql() -> None:
    assert quoted(["plain", 'a "b"']) == '"plain", "a ""b"""'


SPAWN = multiprocessing.get_context("spawn")


def append_for(path: Path, writer: str, seconds: float, publishing: bool = False) -> int:
    """Appends rows in one transaction after the other for some seconds; returns how many."""
    warehouse, written, end = Warehouse(path), 0, time.monotonic() + seconds
    while not written or time.monotonic() < end:
        numbers = range(written, written + ROWS_AT_ONCE)
        frame = pd.DataFrame({"customer_id": [f"{writer}{number:06d}" for number in numbers], "customer_key": numbers})
        written += warehouse.append(CUSTOMER_KEYS, frame)
        if publishing and written % (PUBLISHED_EVERY * ROWS_AT_ONCE) == 0:
            warehouse.publish()
    return written


def read_for(published: Path, seconds: float) -> list[int]:
    """Opens the published copy over and over for some seconds; returns the row counts it saw."""
    seen, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        with duckdb.connect(published, read_only=True) as connection:
            ((count,),) = connection.execute("select count(*) from source.customer_keys").fetchall()
        seen.append(count)
    return seen


def write_and_read_at_once(warehouse: Warehouse, seconds: float) -> None:
    """Two processes write, one of them publishes, a third one reads what is published."""
    warehouse.append(CUSTOMER_KEYS, keys())
    published = warehouse.publish()
    with ProcessPoolExecutor(3, mp_context=SPAWN) as pool:
        writers = {
            "a": pool.submit(append_for, warehouse.path, "a", seconds),
            "b": pool.submit(append_for, warehouse.path, "b", seconds, publishing=True),
        }
        reader = pool.submit(read_for, published, seconds)
        expected = [f"{name}{number:06d}" for name, future in writers.items() for number in range(future.result())]
        seen = reader.result()
    assert customers(warehouse) == expected
    assert all(future.result() > ROWS_AT_ONCE for future in writers.values())
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert all(count % ROWS_AT_ONCE == 0 for count in seen)


def test_two_processes_writing_at_once_lose_nothing_and_readers_of_the_copy_never_fail(warehouse: Warehouse) -> None:
    write_and_read_at_once(warehouse, BUSY_SECONDS)


@pytest.mark.long
def test_two_processes_writing_for_long_lose_nothing_and_readers_of_the_copy_never_fail(warehouse: Warehouse) -> None:
    write_and_read_at_once(warehouse, LONG_BUSY_SECONDS)


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_previous_state(warehouse: Warehouse) -> None:
    warehouse.append(CUSTOMER_KEYS, keys("C1", "C2"))
    statements = """
        delete from source.customer_keys;
        insert into source.customer_keys select 'new' || i, i from range(500_000) as t(i);
    """
    with process_in_a_transaction(warehouse, statements) as process:
        process.kill()
        process.wait()
        started = time.monotonic()
        impatient = Warehouse(warehouse.path, lock_timeout=0.5)
        assert customers(impatient) == ["C1", "C2"]
        impatient.append(CUSTOMER_KEYS, pd.DataFrame({"customer_id": ["C3"], "customer_key": [3]}))
        assert time.monotonic() - started < 5
    assert customers(warehouse) == ["C1", "C2", "C3"]
