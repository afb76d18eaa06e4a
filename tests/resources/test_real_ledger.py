"""Real invoices, read by mapping alone: nothing is lost, no id loses a zero, every sum agrees with the file's own."""

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg
import pytest
from ledger_policy import LEDGER_POLICY
from support import SHARED, MovingClock, settings_at

from dunning_pipeline.definitions import build_defs
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.runs import DAILY_JOB

LEDGER = SHARED / "data" / "accounts-receivable.csv"
DAY = date(2013, 6, 3)

pytestmark = pytest.mark.skipif(not LEDGER.exists(), reason=f"the ledger of real invoices is not at {LEDGER}")


@pytest.fixture(scope="module")
def lines() -> list[dict[str, str]]:
    with LEDGER.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Warehouse, dg.ExecuteInProcessResult]]:
    """The warehouse after the source assets of the daily job have run on the ledger."""
    clock = MovingClock(datetime(2013, 6, 3, 12, 30, tzinfo=UTC))
    settings = settings_at(tmp_path_factory.mktemp("ledger"), LEDGER_POLICY, clock, {"LEDGER_CSV": str(LEDGER)})
    job = build_defs(settings).resolve_job_def(DAILY_JOB)
    keys = [dg.AssetKey(["source", name]) for name in ("customers", "invoices", "payments")]
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, partition_key=DAY.isoformat(), asset_selection=keys)
        yield Warehouse(settings.warehouse_path), result


@pytest.fixture(scope="module")
def warehouse(pulled: tuple[Warehouse, dg.ExecuteInProcessResult]) -> Warehouse:
    return pulled[0]


def day_of(text: str) -> date:
    month, day, year = map(int, text.split("/"))
    return date(year, month, day)


def cents(text: str) -> int:
    amount = Decimal(text) * 100
    assert amount == int(amount)
    return int(amount)


def records(warehouse: Warehouse, query: str) -> list[tuple[Any, ...]]:
    with warehouse.transaction() as connection:
        return connection.execute(query).fetchall()


def test_every_invoice_and_customer_arrives_once(warehouse: Warehouse) -> None:
    counts = "select (select count(*) from source.{}), (select count(distinct {}) from source.{})"
    for table, key, expected in [
        ("invoices", "invoice_id", 2_466),
        ("customers", "customer_id", 100),
        ("payments", "payment_id", 2_466),
    ]:
        assert records(warehouse, counts.format(table, key, table)) == [(expected, expected)]


def test_nothing_is_rejected_or_rounded(pulled: tuple[Warehouse, dg.ExecuteInProcessResult]) -> None:
    warehouse, result = pulled
    assert records(warehouse, "select * from source.rejected_rows") == []
    figures = {
        table: {
            name: value.value
            for name, value in materialization.metadata.items()
            if name in {"pulled", "written", "duplicates", "rejected", "rounded"}
        }
        for table in ("customers", "invoices", "payments")
        for materialization in result.asset_materializations_for_node(f"source__{table}")
    }
    whole = {"pulled": 2_466, "written": 2_466, "duplicates": 0, "rejected": 0, "rounded": 0}
    assert figures == {
        "customers": whole | {"written": 100, "duplicates": 2_366},
        "invoices": whole,
        "payments": whole,
    }


def test_ids_keep_leading_zeros(warehouse: Warehouse, lines: list[dict[str, str]]) -> None:
    ids = [invoice_id for (invoice_id,) in records(warehouse, "select invoice_id from source.invoices")]
    assert sorted(ids) == sorted(line["invoiceNumber"] for line in lines)
    assert sum(invoice_id.startswith("0") for invoice_id in ids) == 266
    assert {len(invoice_id) for invoice_id in ids} == {len(line["invoiceNumber"]) for line in lines}


def test_every_invoice_is_as_the_file_has_it(warehouse: Warehouse, lines: list[dict[str, str]]) -> None:
    expected = [
        (
            line["invoiceNumber"],
            line["customerID"],
            day_of(line["InvoiceDate"]),
            day_of(line["DueDate"]),
            cents(line["InvoiceAmount"]),
            "USD",
            "open",
            day_of(line["InvoiceDate"]),
        )
        for line in lines
    ]
    columns = "invoice_id, customer_id, issued_on, due_on, total_minor, currency, status, recorded_on"
    assert records(warehouse, f"select {columns} from source.invoices order by invoice_id") == sorted(expected)


def test_every_payment_settles_its_invoice_on_its_day(warehouse: Warehouse, lines: list[dict[str, str]]) -> None:
    expected = [
        (line["invoiceNumber"], line["invoiceNumber"], cents(line["InvoiceAmount"]), day_of(line["SettledDate"]))
        for line in lines
    ]
    columns = "payment_id, invoice_id, amount_minor, paid_on"
    assert records(warehouse, f"select {columns} from source.payments order by payment_id") == sorted(expected)


def test_sums_by_customer_agree_with_the_file(warehouse: Warehouse, lines: list[dict[str, str]]) -> None:
    expected: dict[str, Decimal] = {}
    for line in lines:
        expected[line["customerID"]] = expected.get(line["customerID"], Decimal(0)) + Decimal(line["InvoiceAmount"])
    sums = records(warehouse, "select customer_id, sum(total_minor) from source.invoices group by all")
    assert {customer: Decimal(int(minor)) / 100 for customer, minor in sums} == expected


def test_customers_are_known_by_the_id_of_the_file(warehouse: Warehouse, lines: list[dict[str, str]]) -> None:
    stored = records(warehouse, "select customer_id, external_id, country from source.customers order by customer_id")
    assert stored == sorted({(line["customerID"], line["customerID"], line["countryCode"]) for line in lines})


def test_rows_of_customers_and_invoices_share_their_integer_keys(warehouse: Warehouse) -> None:
    unmatched = """
        select count(*) from source.invoices as i
        left join source.customers as c on c.customer_id = i.customer_id and c.customer_key = i.customer_key
        left join source.payments as p on p.invoice_id = i.invoice_id and p.invoice_key = i.invoice_key
        where c.customer_id is null or p.payment_id is null
    """
    assert records(warehouse, unmatched) == [(0,)]
