"""Stale or implausible input: no batch leaves on it, and the reason stands in Dagster."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from support import MovingClock, Pipeline, settings_at

from dunning_pipeline.checks import FEW_REJECTED, SOUND
from dunning_pipeline.policy import Policy, parse_policy
from dunning_pipeline.soundness import implausible_jumps, stale_orders, stale_tables

TODAY = date(2026, 11, 16)
NOW = datetime(2026, 11, 16, 8, tzinfo=UTC)
POLICY = """\
organisation: {time_zone: UTC, base_currency: EUR, first_day: "2026-01-01"}
workflows: [{name: standard, default: true, actions: [{name: reminder_1, day: 1}]}]
quality: {max_source_age: {invoices: 36h, payments: 30m}}
sources:
  exports:
    kind: files
    tables: {customers: customers.csv, invoices: invoices.csv}
"""


def policy(**quality: str) -> Policy:
    settings = "".join(f", {name}: {value}" for name, value in quality.items())
    return parse_policy(POLICY.replace("payments: 30m}", f"payments: 30m}}{settings}"))


def pulled(table: str, ago: timedelta) -> Callable[..., pd.DataFrame]:
    rows = pd.DataFrame({"source": ["exports"], "table": [table], "newest_at": [pd.Timestamp(NOW - ago)]})
    return lambda *_: rows


@pytest.mark.parametrize(
    ("ago", "fault"),
    [
        (timedelta(hours=36), []),
        (timedelta(hours=36, minutes=1), ["exports.invoices is 36h old; quality.max_source_age allows 36h"]),
        (timedelta(days=5), ["exports.invoices is 5d old; quality.max_source_age allows 36h"]),
    ],
)
def test_a_table_is_stale_when_it_is_older_than_allowed(ago: timedelta, fault: list[str]) -> None:
    assert stale_tables(pulled("invoices", ago), policy(), NOW) == fault


def test_a_table_that_was_never_pulled_is_stale_and_one_that_nobody_feeds_is_not() -> None:
    faults = stale_tables(pulled("customers", timedelta()), policy(), NOW)
    assert faults == ["exports.invoices was never pulled"]


WITH_ORDERS = POLICY.replace("36h, ", "36h, orders: 2h, order_edits: 2h, ").replace(
    "invoices.csv}", "invoices.csv, orders: orders.csv, order_edits: order_edits.csv}"
)


@pytest.mark.parametrize(
    ("ago", "fault"),
    [
        (timedelta(hours=2), []),
        (timedelta(hours=4), ["exports.orders is 4h old; quality.max_source_age allows 120m"]),
        (None, ["exports.orders was never pulled"]),
    ],
)
def test_old_orders_are_told_and_no_table_that_invoices_depend_on(ago: timedelta | None, fault: list[str]) -> None:
    given = parse_policy(WITH_ORDERS)
    assert stale_orders(pulled("invoices" if ago is None else "orders", ago or timedelta()), given, NOW) == fault
    assert stale_tables(pulled("invoices", timedelta()), given, NOW) == []


def test_orders_are_an_hour_old_at_most_unless_the_policy_says_otherwise() -> None:
    given = parse_policy(WITH_ORDERS.replace("orders: 2h, order_edits: 2h, ", ""))
    assert stale_orders(pulled("orders", timedelta(minutes=60)), given, NOW) == []
    assert stale_orders(pulled("orders", timedelta(minutes=61)), given, NOW) == [
        "exports.orders is 61m old; quality.max_source_age allows 60m"
    ]


def owed(
    usual: float, now: float, *, days: int = 10, figure: str = "open balance in EUR (minor units)"
) -> pd.DataFrame:
    """What is owed by 500 customers on some days, and today."""
    before = [pd.Timestamp(TODAY - timedelta(days=ago)) for ago in range(1, days + 1)]
    rows = [(day, figure, usual) for day in before] + [(pd.Timestamp(TODAY), figure, now)]
    rows += [(day, "customers", 500.0) for day in [*before, pd.Timestamp(TODAY)]]
    return pd.DataFrame(rows, columns=["as_of", "figure", "value"])


@pytest.mark.parametrize(("now", "implausible"), [(3000, False), (3001, True), (334, False), (333, True), (0, True)])
def test_three_times_as_much_or_as_little_as_usual_is_the_most(now: int, implausible: bool) -> None:
    faults = implausible_jumps(lambda *_: owed(1000, now), policy(), TODAY)
    assert bool(faults) == implausible


def test_the_sentence_tells_the_figures_and_the_setting() -> None:
    (fault,) = implausible_jumps(lambda *_: owed(1_000_000, 9_000_000), policy(), TODAY)
    assert fault == (
        "open balance in EUR (minor units) of 2026-11-16: 9,000,000, while the median of the last 10 derived days is "
        "1,000,000; quality.max_jump allows 3 times as much or as little"
    )


def test_a_currency_that_nobody_owed_before_is_implausible() -> None:
    rows = owed(1000, 1000)
    new = pd.DataFrame([(pd.Timestamp(TODAY), "open balance in USD (minor units)", 5.0)], columns=rows.columns)
    (fault,) = implausible_jumps(lambda *_: pd.concat([rows, new]), policy(), TODAY)
    assert "USD" in fault


def test_two_days_are_too_few_to_compare_with() -> None:
    assert implausible_jumps(lambda *_: owed(1000, 9000, days=2), policy(), TODAY) == []
    assert implausible_jumps(lambda *_: owed(1000, 9000, days=3), policy(), TODAY) != []


def test_few_customers_are_not_compared() -> None:
    rows = owed(1000, 9000).replace(500.0, 99.0)
    assert implausible_jumps(lambda *_: rows, policy(), TODAY) == []


def test_nothing_is_compared_where_the_policy_says_so() -> None:
    assert implausible_jumps(lambda *_: owed(1000, 9000), policy(max_jump="null"), TODAY) == []
    assert implausible_jumps(lambda *_: owed(1000, 9000), policy(max_jump="9"), TODAY) == []


class Company:
    """Files of a company with many customers, each of whom owes one invoice, and the pipeline over them."""

    def __init__(self, home: Path, instance: dg.DagsterInstance) -> None:
        self.home, self.clock = home, MovingClock(NOW)
        self.pipeline = Pipeline(settings_at(home, POLICY, self.clock), instance)
        self.write(150)

    def write(self, invoices: int, wrong: int = 0) -> None:
        people = "".join(f"C{at},{at}@shop.dev\n" for at in range(150))
        (self.home / "customers.csv").write_text(f"customer_id,email\n{people}")
        totals = ["?" if at < wrong else "10.00" for at in range(invoices)]
        bills = "".join(f"I{at},C{at},2026-10-01,2026-10-31,EUR,{total}\n" for at, total in enumerate(totals))
        header = "invoice_id,customer_id,issued_on,due_on,currency,total\n"
        (self.home / "invoices.csv").write_text(header + bills)
        self.touch()

    def touch(self) -> None:
        """The files are of now."""
        for name in ("customers.csv", "invoices.csv"):
            os.utime(self.home / name, (self.clock.now.timestamp(),) * 2)

    def run(self) -> dg.ExecuteInProcessResult:
        return self.pipeline.daily(raise_on_error=False)

    def next_day(self) -> None:
        self.clock.advance(days=1)


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Company(tmp_path, instance)


def failed(result: dg.ExecuteInProcessResult, name: str) -> list[str | None]:
    """What a check that failed said."""
    checks = [check for check in result.get_asset_check_evaluations() if check.check_name == name]
    return [check.description for check in checks if not check.passed]


def batches(company: Company) -> int:
    return len(company.pipeline.warehouse.fetch("select batch_id from dunning.batches"))


def test_no_batch_is_made_of_files_that_nobody_renewed(company: Company) -> None:
    assert company.run().success
    company.next_day()
    assert company.run().success
    company.next_day()
    result = company.run()
    assert not result.success
    assert failed(result, SOUND) == ["exports.invoices is 48h old; quality.max_source_age allows 36h"]
    assert batches(company) == 2
    company.touch()
    assert company.run().success


def test_orders_that_nobody_pulled_keep_no_invoice_reminder_back(company: Company) -> None:
    header = "edit_id,order_id,edited_at\n"
    (company.home / "order_edits.csv").write_text(header)
    (company.home / "orders.csv").write_text("order_id,name,currency,total,outstanding\n")
    instance, settings = company.pipeline.instance, settings_at(company.home, WITH_ORDERS, company.clock)
    company.pipeline = Pipeline(settings, instance)
    assert company.run().success
    assert stale_orders(company.pipeline.warehouse.fetch, settings.policy, NOW) == ["exports.orders was never pulled"]


def test_no_batch_is_made_on_a_day_on_which_most_of_the_invoices_are_gone(company: Company) -> None:
    for _ in range(3):
        assert company.run().success
        company.next_day()
        company.touch()
    company.write(40)
    result = company.run()
    assert not result.success
    (sentence,) = failed(result, SOUND)
    assert sentence is not None
    assert "customers of 2026-11-19: 40, while the median of the last 3 derived days is 150" in sentence
    assert batches(company) == 3


def test_past_days_are_derived_from_whatever_is_stored(company: Company) -> None:
    company.clock.advance(days=30)
    assert company.pipeline.daily(TODAY, raise_on_error=False).success


def test_a_pull_that_loses_too_many_rows_fails_its_check_with_the_first_of_them(company: Company) -> None:
    company.write(150, wrong=2)
    result = company.run()
    assert not result.success
    (sentence,) = failed(result, FEW_REJECTED)
    assert sentence is not None
    assert "2 of 150 rows were rejected" in sentence
    assert batches(company) == 0
