"""Pulling only what changed, from real databases: nothing is lost, whatever their clocks and transactions do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from databases import KINDS, database
from pydantic import SecretStr
from support import MovingClock

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import TableQuery
from dunning_pipeline.resources.sql_source import ATTEMPTS, SqlSourceReader
from dunning_pipeline.resources.watermarks import Watermark

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CHANGED = TableQuery(table="invoices", watermark="updated_at", overlap=timedelta(minutes=10))


class Billing:
    """A billing system in a database, and a reader that goes on where it left off."""

    def __init__(self, url: str, folder: Path) -> None:
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        self.reader = SqlSourceReader("billing", SecretStr(url), clock=MovingClock(NOW), sleep=lambda _: None)
        self.target = folder / "raw.parquet"
        self.since: Watermark | None = None
        self.run("create table invoices (id integer, updated_at timestamp null, created_at timestamp null)")

    def run(self, statement: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def change(self, number: int, updated: str | None, created: str | None = None) -> None:
        self.run(
            "insert into invoices (id, updated_at, created_at) values (:id, :updated, :created)",
            id=number,
            updated=updated and f"2026-11-22 {updated}",
            created=created and f"2026-11-22 {created}",
        )

    def pull(self, query: TableQuery = CHANGED) -> list[int]:
        """The ids that a pull yields."""
        self.since = self.reader.read(query, self.target, self.since).watermark
        return sorted(int(number) for number in pq.read_table(self.target)["id"].to_pylist())


@pytest.fixture(params=KINDS)
def billing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Billing]:
    with database(request.param, tmp_path) as url:
        yield Billing(url, tmp_path)


def test_the_first_pull_takes_everything_and_the_next_what_changed(billing: Billing) -> None:
    billing.change(1, "08:00:00")
    billing.change(2, "10:00:00")
    assert billing.pull() == [1, 2]
    billing.change(3, "11:00:00")
    assert billing.pull() == [2, 3]
    assert billing.pull() == [3]


def test_the_watermark_is_no_column_of_the_rows(billing: Billing) -> None:
    billing.change(1, "08:00:00")
    billing.pull()
    assert pq.read_schema(billing.target).names == ["id", "updated_at", "created_at"]
    assert billing.reader.columns(CHANGED) == ("id", "updated_at", "created_at")


def test_a_change_that_was_committed_late_is_pulled_within_the_overlap(billing: Billing) -> None:
    billing.change(1, "10:00:00")
    billing.pull()
    billing.change(2, "09:50:00")
    billing.change(3, "09:49:59")
    assert billing.pull() == [1, 2]


def test_rows_with_the_time_of_the_boundary_are_all_pulled(billing: Billing) -> None:
    exact = CHANGED.model_copy(update={"overlap": timedelta()})
    billing.change(1, "10:00:00")
    billing.pull(exact)
    billing.change(2, "10:00:00")
    assert billing.pull(exact) == [1, 2]


def test_rows_without_a_time_are_pulled_every_time(billing: Billing) -> None:
    billing.change(1, None)
    billing.change(2, "08:00:00")
    billing.change(3, "10:00:00")
    assert billing.pull() == [1, 2, 3]
    assert billing.pull() == [1, 3]


def test_a_table_of_nothing_but_rows_without_a_time_has_no_watermark(billing: Billing) -> None:
    billing.change(1, None)
    assert billing.pull() == [1]
    assert billing.since is None


def test_an_empty_table_keeps_the_watermark_that_was_reached(billing: Billing) -> None:
    billing.change(1, "10:00:00")
    billing.pull()
    reached = billing.since
    billing.run("delete from invoices")
    assert billing.pull() == []
    assert billing.since == reached is not None


def test_a_row_of_the_future_does_not_hide_what_changes_until_then(billing: Billing) -> None:
    billing.change(1, "23:00:00")
    billing.pull()
    billing.change(2, "11:55:00")
    assert billing.pull() == [1, 2]


def test_an_expression_takes_the_later_of_two_times(billing: Billing) -> None:
    greatest = "max" if billing.engine.dialect.name == "sqlite" else "greatest"
    later = f"coalesce({greatest}(updated_at, created_at), updated_at, created_at)"
    query = CHANGED.model_copy(update={"watermark": later})
    billing.change(1, "08:00:00", created="08:00:00")
    billing.change(2, "10:00:00", created="09:00:00")
    assert billing.pull(query) == [1, 2]
    billing.change(3, None, created="11:00:00")
    assert billing.pull(query) == [2, 3]


def test_a_growing_number_is_a_watermark_too(billing: Billing) -> None:
    numbered = TableQuery(query="select id from invoices where id <> 2", watermark="id")
    for number in (1, 2, 3):
        billing.change(number, None)
    assert billing.pull(numbered) == [1, 3]
    billing.change(4, None)
    assert billing.pull(numbered) == [3, 4]


def test_a_watermark_that_is_no_column_is_told_in_the_databases_words(billing: Billing) -> None:
    with pytest.raises(SourceError, match=r"^source billing: .*modified"):
        billing.pull(CHANGED.model_copy(update={"watermark": "modified"}))


def test_nothing_can_be_written_through_a_reader(billing: Billing) -> None:
    if billing.engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL has select statements that write")
    billing.run("create sequence numbers")
    with pytest.raises(SourceError, match="read-only transaction"):
        billing.pull(TableQuery(query="select nextval('numbers') as id"))


def test_a_statement_that_takes_too_long_is_given_up(billing: Billing) -> None:
    waiting = {"postgresql": "select pg_sleep(20) as id", "mysql": "select sleep(20) as id, updated_at from invoices"}
    if billing.engine.dialect.name not in waiting:
        pytest.skip("SQLite has no time-out of its own")
    billing.change(1, "08:00:00")
    impatient = SqlSourceReader("billing", billing.reader.url, statement_timeout=timedelta(milliseconds=200))
    with pytest.raises(SourceError, match=r"timeout|max_statement_time"):
        impatient.read(TableQuery(query=waiting[billing.engine.dialect.name]), billing.target)


def test_a_server_that_does_not_answer_is_asked_again_and_then_told() -> None:
    waited: list[float] = []
    url = SecretStr("postgresql+psycopg://reader:s3cret@127.0.0.1:1/billing")
    reader = SqlSourceReader("billing", url, sleep=waited.append)
    with pytest.raises(SourceError, match=r"^source billing: .*refused") as caught:
        reader.read(CHANGED, Path("never-written"))
    assert len(waited) == ATTEMPTS - 1
    assert "s3cret" not in str(caught.value)
