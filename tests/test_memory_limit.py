"""Within a memory limit the customers are decided in parts, which makes no difference to what is written."""

import math
import shutil
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from support import MovingClock, settings_at

from benchmarks import policy as benchmark
from benchmarks.ledger import AS_OF, write_ledger
from dunning_pipeline.assets.decisions import DERIVATIONS, read_beside
from dunning_pipeline.assets.derived import derive_and_replace
from dunning_pipeline.assets.receivables import invoice_ids, owed_on, read_ledger, unsettled_parts
from dunning_pipeline.day import decide_days
from dunning_pipeline.definitions import build_defs
from dunning_pipeline.errors import DunningError
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import parse_policy
from dunning_pipeline.recording import Recorder
from dunning_pipeline.resources.unsettled import BYTES_PER_ROW
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.carrying import carrying_invoices
from dunning_pipeline.rules.decisions import Facts, decide
from dunning_pipeline.rules.owed import chaseable_invoices
from dunning_pipeline.rules.slices import key_ranges
from dunning_pipeline.settings import load_settings, memory_limit
from dunning_pipeline.tables import DECISIONS

INVOICES = 2_000
DAYS = Days(AS_OF - timedelta(days=2), AS_OF)
POLICY = parse_policy(f"""{benchmark.TEXT}
  - {{name: gentle, actions: [{{name: hello, day: 2}}]}}
  - {{name: single, carried_by: invoice, actions: [{{name: notice, day: 3}}]}}
smart_rules:
  - {{name: many, when: {{open_invoices: {{at_least: 3}}}}, workflow: gentle}}
  - {{name: large, for: invoice, when: {{total: {{at_least: 2000}}}}, workflow: single}}
""")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    warehouse = write_ledger(tmp_path_factory.mktemp("ledger") / "warehouse.duckdb", INVOICES)
    recorder = Recorder(warehouse, POLICY, DAYS.first, lambda: "a")
    for customer_id in warehouse.fetch("select customer_id from source.customer_keys limit 20")["customer_id"]:
        recorder.assign(customer_id, "gentle", DAYS.first)
    return warehouse.path


@pytest.fixture(scope="module")
def copy(ledger: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Warehouse]:
    def of_ledger() -> Warehouse:
        return Warehouse(Path(shutil.copy(ledger, tmp_path_factory.mktemp("copy"))))

    return of_ledger


@pytest.fixture(scope="module")
def derived(copy: Callable[[], Warehouse]) -> Warehouse:
    """The days as they are derived without a limit."""
    return derive(copy())


def derive(warehouse: Warehouse) -> Warehouse:
    for derivation in DERIVATIONS:
        derive_and_replace(derivation, warehouse, POLICY, DAYS, "run")
    return warehouse


def limited(warehouse: Warehouse, parts: int) -> Warehouse:
    """The warehouse with a limit that asks for so many parts of customers to decide the days."""
    # DuckDB, which would be left too little by such a limit, has been started before it is set.
    (whole,) = unsettled_parts(warehouse, POLICY, DAYS)
    warehouse.memory_limit = math.ceil(2 * len(whole.invoice_key) * len(DAYS) * BYTES_PER_ROW / parts)
    assert len(unsettled_parts(warehouse, POLICY, DAYS)) == parts
    return warehouse


def rows(warehouse: Warehouse, table: str) -> pd.DataFrame:
    return warehouse.fetch(f"select * from {table} order by all")


def test_the_assets_write_the_same_tables_in_many_parts(copy: Callable[[], Warehouse], derived: Warehouse) -> None:
    in_parts = derive(limited(copy(), 11))
    for derivation in DERIVATIONS:
        for table in derivation.tables:
            expected = rows(derived, table.qualified)
            assert expected["as_of"].nunique() == len(DAYS)
            pd.testing.assert_frame_equal(rows(in_parts, table.qualified), expected)
    levels = derived.fetch("select distinct level, assigned_by[:4] as by from dunning.decisions order by all")
    assert set(levels["level"]) == {"customer", "invoice"}
    assert {"defa", "rule", "assi"} <= set(levels["by"].dropna())


def test_days_decided_in_seven_parts_are_those_that_the_assets_write(
    copy: Callable[[], Warehouse], derived: Warehouse
) -> None:
    names = list(DECISIONS.keyed.column_names)
    names.remove("run_id")
    key = ["as_of", "customer_key", "level", "invoice_key"]
    stored = derived.fetch(f"select {', '.join(names)} from dunning.decisions")
    decided = decide_days(limited(copy(), 7), POLICY, DAYS)[names]
    pd.testing.assert_frame_equal(plain(decided, key), plain(stored, key))


def test_ranges_of_customers_are_decided_as_all_at_once(ledger: Path) -> None:
    day = Days(DAYS.last, DAYS.last)
    facts = facts_of(Warehouse(ledger), day)
    ranges = key_ranges(facts.balances["customer_key"].to_numpy(), rows=15)
    assert len(ranges) > 3
    decided = pd.concat([decide(facts.within(keys), POLICY) for keys in ranges], ignore_index=True)
    key = ["customer_key", "level", "invoice_key"]
    pd.testing.assert_frame_equal(plain(decided, key), plain(decide(facts, POLICY), key))


def facts_of(warehouse: Warehouse, day: Days) -> Facts:
    (part,) = unsettled_parts(warehouse, POLICY, day)
    ((unpaid, owing),) = owed_on(warehouse, POLICY, read_ledger(warehouse, part), day)
    candidates = chaseable_invoices(unpaid, owing)
    carrying = carrying_invoices(candidates, POLICY.organisation.rates, partial(invoice_ids, warehouse))
    with warehouse.transaction() as connection:
        return read_beside(connection, POLICY, day, unpaid, owing, carrying)


def plain(frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """The values in order of a key, whatever types hold them."""
    texts = frame.astype(object).where(frame.notna(), None).astype({"level": "str"})
    return texts.sort_values(key, ignore_index=True)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (None, None),
        ("", None),
        ("2GB", 2_000_000_000),
        ("1.5 gb", 1_500_000_000),
        ("512MiB", 512 * 1024**2),
        ("256MB", 256_000_000),
    ],
)
def test_the_limit_is_an_amount_with_its_unit(text: str | None, limit: int | None) -> None:
    assert memory_limit(text) == limit


@pytest.mark.parametrize("text", ["2", "GB", "-2GB", "2 TB", "lots", "255MB", "0GB", "2GB of it"])
def test_any_other_limit_is_refused(text: str) -> None:
    with pytest.raises(DunningError, match=f"DUNNING_MEMORY_LIMIT is '{text}'; allowed: .* such as 2GB, from 256MB"):
        memory_limit(text)


def test_the_limit_of_the_environment_is_that_of_the_warehouse(tmp_path: Path) -> None:
    written = settings_at(tmp_path, benchmark.TEXT, MovingClock())
    environment = {"DUNNING_HOME": str(tmp_path), "DUNNING_POLICY": str(written.policy_file)}
    settings = load_settings(environment | {"DUNNING_MEMORY_LIMIT": "2GB"})
    warehouse = build_defs(settings).resources["warehouse"]
    assert (settings.memory_limit, warehouse.memory_limit) == (2_000_000_000, 2_000_000_000)
    wrong = load_settings(environment | {"DUNNING_MEMORY_LIMIT": "plenty"})
    assert build_defs(wrong).resources["warehouse"].memory_limit is None
    with pytest.raises(DunningError, match="DUNNING_MEMORY_LIMIT is 'plenty'"):
        _ = wrong.policy
