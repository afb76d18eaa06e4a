"""The benchmarks compare like with like: everybody who is measured decides the same."""

from pathlib import Path

import duckdb
import pandas as pd
import pytest
from databases import database

from benchmarks import edited_orders, peers, pipeline, pulling, sending
from benchmarks.daily_decision import ALL_RULES, BY_IDS, BY_KEYS, LIMITED, OURS, compare, decided
from benchmarks.ledger import AS_OF, write_ledger
from benchmarks.measuring import Contender, Figures, exponent
from benchmarks.reminded import write_reminded
from benchmarks.table import Line, table
from dunning_pipeline.sandbox.klaviyo import UNLIMITED, KlaviyoAccount, running

INVOICES = 4_000


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "warehouse.duckdb"
    write_ledger(path, INVOICES)
    return path


def number(ledger: Path, query: str) -> float:
    with duckdb.connect(ledger, read_only=True) as connection:
        ((value,),) = connection.execute(query).fetchall()
    return float(value)


def test_queries_loop_and_pipeline_decide_the_same(ledger: Path):
    peers.prepare_loop(ledger)
    ours = decided(pipeline.subset(ledger))
    assert set(ours["outcome"]) == {"workflow_completed", "waiting_for_trigger", "minimum_contact_delay", "remind"}
    for peer in (peers.query_by_ids, peers.query_by_keys, peers.loop):
        pd.testing.assert_frame_equal(decided(peer(ledger)), ours)


def test_outputs_that_differ_are_noticed(ledger: Path, tmp_path: Path):
    rows = pipeline.subset(ledger)
    others = {OURS: rows, BY_IDS: rows, BY_KEYS: rows.assign(action_position=1)}
    figures = {contender: kept(contender, frame, tmp_path) for contender, frame in others.items()}
    with pytest.raises(AssertionError, match="action_position"):
        compare(figures)


def test_parts_of_the_customers_are_compared_whatever_their_order(ledger: Path, tmp_path: Path):
    rows = pipeline.subset(ledger)
    every = pipeline.all_rules(ledger)
    others = {OURS: rows, ALL_RULES: every, LIMITED: every.sample(frac=1, random_state=1)}
    compare({contender: kept(contender, frame, tmp_path) for contender, frame in others.items()})


def kept(contender: Contender, rows: pd.DataFrame, folder: Path) -> Figures:
    path = folder / f"{contender.function.partition(':')[2]}.parquet"
    rows.to_parquet(path)
    return Figures(seconds=1.0, peak_gb=1.0, rows=path)


def test_all_that_pull_invoices_pull_the_same(tmp_path: Path):
    with database("postgresql", tmp_path) as url, pulling.databases(url, tmp_path, [300]) as paths:
        pulling.prepare_changes(paths[300])
        everybody = (
            pulling.by_arrow,
            pulling.by_rows,
            pulling.bare,
            pulling.by_pandas,
            pulling.streamed,
            pulling.whole,
            pulling.whole_by_rows,
        )
        rows = [pull(paths[300]) for pull in (*everybody, pulling.changes)]
    for frame in rows:
        assert frame.to_dict("records") == [pulling.expected(300)]


def test_the_same_seed_gives_the_same_ledger(ledger: Path, tmp_path: Path):
    write_ledger(tmp_path / "again.duckdb", INVOICES)
    write_ledger(tmp_path / "other.duckdb", INVOICES, seed=2)
    rows = "select bit_xor(hash(t)) from {} as t"
    for name in ("source.invoices", "source.payments", "dunning.sent_history", "source.contacts"):
        assert number(tmp_path / "again.duckdb", rows.format(name)) == number(ledger, rows.format(name))
        assert number(tmp_path / "other.duckdb", rows.format(name)) != number(ledger, rows.format(name))


def test_a_tenth_as_many_customers_have_invoices_of_which_a_tenth_is_open(ledger: Path):
    paid = f"select invoice_key from source.payments where paid_on <= date '{AS_OF}' and amount_minor > 0"
    unpaid = f"select count(*) from source.invoices where invoice_key not in ({paid} and invoice_key is not null)"
    assert number(ledger, "select count(*) from source.customers") == INVOICES / 10
    assert number(ledger, unpaid) == pytest.approx(INVOICES / 10, rel=0.25)


def test_few_customers_have_many_invoices_and_most_have_few(ledger: Path):
    counts = "(select count(*) as n from source.invoices group by customer_key)"
    assert number(ledger, f"select max(n) / median(n) from {counts}") > 3
    assert number(ledger, f"select max(n) from {counts}") < INVOICES / 10


def test_an_exponent_of_one_is_linear():
    assert [exponent(1, cost, growth=10) for cost in (1, 10, 100)] == pytest.approx([0, 1, 2])


def test_figures_stand_below_their_headings():
    lines = [Line("1,000", "one", 1.5, 0.25, "", "at most 2"), Line("10,000", "another", 12.0, 1.0, "8.00 x", "")]
    headings, first, second = table(lines).splitlines()
    assert headings.index("seconds") + len("seconds") == first.index("1.50") + 4 == second.index("12.00") + 5
    assert first.endswith("at most 2")
    assert second.endswith("8.00 x")


def test_a_column_that_nobody_fills_is_left_out():
    assert "CPU s" not in table([Line("1", "one", 1.0)])
    assert "CPU s" in table([Line("1", "one", 1.0, cpu_seconds=0.5)])


def test_sending_is_measured_over_a_batch_that_everybody_gets(tmp_path: Path):
    write_reminded(tmp_path / "warehouse.duckdb", 40)
    sending.freeze(str(tmp_path))
    assert number(tmp_path / "warehouse.duckdb", "select size from dunning.batches") == 40
    assert sending.join(str(tmp_path))["cpu"] >= 0
    account = KlaviyoAccount(rates=UNLIMITED)
    with running(account) as url:
        assert sending.send(str(tmp_path), url, "25")["seconds"] > 0
    assert len(account.events) == 40
    assert all(len(event.properties["invoices"]) == 3 for event in account.events)


def test_edited_orders_are_measured_over_series_that_were_told_once(tmp_path: Path):
    path = tmp_path / "warehouse.duckdb"
    edited_orders.write_edited(path, 300)
    assert number(path, "select count(*) from dunning.order_series where state = 'open' and occurrences = 1") == 300
    edited_orders.nothing_due(path)
    assert number(path, "select count(*) from dunning.order_decisions") == 300
    edited_orders.copied(path)
    edited_orders.frozen(path)
    assert number(tmp_path / "written.duckdb", "select size from dunning.batches where batch_id = 'benchmark'") == 3
