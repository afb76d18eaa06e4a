"""The sample business in every system that it can be in: what is decided is the same, to the last row and id."""

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from databases import KINDS, database
from support import MovingClock, decided, pull_tables, settings_at

from dunning_pipeline.policy import SqlSource, parse_policy
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.sandbox.sample_data import SAMPLE_POLICY, write_billing_database
from dunning_pipeline.settings import Settings

TODAY = date(2026, 11, 16)
DAYS = [TODAY - timedelta(days=30), TODAY]
TYPES = {
    "postgresql": {"day": "date", "amount": "numeric(18, 3)", "moment": "timestamptz", "flag": "boolean"},
    "mariadb": {"day": "date", "amount": "decimal(18, 3)", "moment": "datetime", "flag": "boolean"},
}
KEPT_AS = {
    "day": {"created_on", "issued", "due", "entered_on", "cancelled_on", "bad_debt_on", "dispute_opened"}
    | {"dispute_closed", "received_on", "booked_on", "held_from", "held_until", "given_on", "pay_until"},
    "amount": {"gross", "amount"},
    "moment": {"changed_at"},
    "flag": {"holds_reminders"},
}


@pytest.fixture(scope="module")
def billing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """The sample business as the demo has it."""
    path = tmp_path_factory.mktemp("billing") / "billing.sqlite"
    write_billing_database(path, TODAY)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


@pytest.fixture(scope="module")
def expected(billing: sqlite3.Connection, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The decisions over SQLite."""
    (_, _, path) = billing.execute("pragma database_list").fetchone()
    return decisions(settings_over(tmp_path_factory.mktemp("sqlite"), f"sqlite:///{path}"))


def settings_over(home: Path, url: str, policy: str = SAMPLE_POLICY) -> Settings:
    clock = MovingClock()
    clock.move_to(TODAY)
    return settings_at(home, policy, clock, {"BILLING_DATABASE_URL": url})


def decisions(settings: Settings) -> pd.DataFrame:
    """What is decided on some days, after a pull of everything."""
    pull_tables(settings)
    assert Warehouse(settings.warehouse_path).fetch("select * from source.rejected_rows").empty
    return pd.concat([decided(settings, day) for day in DAYS], ignore_index=True)


def copy_business(billing: sqlite3.Connection, kind: str, url: str) -> None:
    """The tables of the sample business in another database, with the types that one would take there."""
    tables = [name for (name,) in billing.execute("select name from sqlite_master where type = 'table'")]
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        for table in tables:
            rows = [dict(row) for row in billing.execute(f"select * from {table}")]
            columns = ", ".join(f"{name} {_type(kind, name)}" for name in rows[0])
            connection.execute(sa.text(f"create table {table} ({columns})"))
            values = ", ".join(f":{name}" for name in rows[0])
            connection.execute(sa.text(f"insert into {table} values ({values})"), [_typed(kind, row) for row in rows])


def _type(kind: str, column: str) -> str:
    found = [TYPES[kind][meaning] for meaning, names in KEPT_AS.items() if column in names]
    return found[0] if found else "varchar(200)"


def _typed(kind: str, row: dict[str, object]) -> dict[str, object]:
    without_zone = (
        {name: str(row[name]).rstrip("Z") for name in KEPT_AS["moment"] & row.keys()} if kind == "mariadb" else {}
    )
    return {**row, **{name: bool(row[name]) for name in KEPT_AS["flag"] & row.keys()}, **without_zone}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sqlite"])
def test_another_database_gives_the_same_decisions(
    kind: str, billing: sqlite3.Connection, expected: pd.DataFrame, tmp_path: Path
) -> None:
    # In MariaDB || means or, unless it is told otherwise.
    policy = SAMPLE_POLICY.replace("'INV-' || bill_no", "concat('INV-', bill_no)")
    with database(kind, tmp_path) as url:
        copy_business(billing, kind, url)
        pd.testing.assert_frame_equal(decisions(settings_over(tmp_path / "home", url, policy)), expected)


def test_files_give_the_same_decisions(billing: sqlite3.Connection, expected: pd.DataFrame, tmp_path: Path) -> None:
    sources = parse_policy(SAMPLE_POLICY).sources["billing"]
    assert isinstance(sources, SqlSource)
    for table, mapping in sources.tables.items():
        rows = billing.execute(str(mapping.query))
        with (tmp_path / f"{table}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([name for name, *_ in rows.description])
            writer.writerows(rows)
    tables = "".join(f"      {table}: {table}.csv\n" for table in sources.tables)
    policy = SAMPLE_POLICY[: SAMPLE_POLICY.index("sources:")]
    policy += f"sources:\n  billing:\n    kind: files\n    tables:\n{tables}"
    pd.testing.assert_frame_equal(decisions(settings_over(tmp_path, "", policy)), expected)


def test_the_business_has_all_that_could_be_decided_differently(expected: pd.DataFrame) -> None:
    assert len(expected) > 200
    assert set(expected["decision"]) == {"remind", "skip"}
    assert expected["reason"].nunique() >= 6
