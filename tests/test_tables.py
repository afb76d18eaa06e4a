"""The declarations themselves: sound keys, known defaults, and a schema version that moves with them."""

import hashlib

import pytest

from dunning_pipeline.policy import SOURCE_TABLES as POLICY_TABLES
from dunning_pipeline.resources.warehouse import SCHEMA_VERSION
from dunning_pipeline.tables import ALL_TABLES, SOURCE_TABLES, Kind, Table

FINGERPRINTS = {1: "abd77c006ff12c07", 2: "2b371049a12be90c", 3: "0cd103e7828d563a", 4: "20c69dc85c870aa0"}
"""SHA-256 of all DDL by schema version. A version that was released keeps its fingerprint."""


def test_a_changed_declaration_raises_the_schema_version() -> None:
    """Without a new version an older file would not get the new columns."""
    fingerprint = hashlib.sha256("\n".join(table.ddl() for table in ALL_TABLES).encode()).hexdigest()
    assert FINGERPRINTS[SCHEMA_VERSION] == fingerprint[:16], "raise SCHEMA_VERSION and add its fingerprint"


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.qualified)
def test_key_columns_are_declared_and_every_column_has_a_meaning(table: Table) -> None:
    assert set(table.key) <= set(table.column_names)
    assert len(set(table.column_names)) == len(table.columns)
    assert all(column.meaning for column in table.columns)


@pytest.mark.parametrize("table", SOURCE_TABLES, ids=lambda table: table.qualified)
def test_source_tables_have_one_key_column_a_source_and_names_that_a_policy_may_feed(table: Table) -> None:
    assert len(table.key) == 1
    assert "source" in table.column_names
    assert table.name in POLICY_TABLES


def test_money_columns_are_mapped_by_their_name_without_minor() -> None:
    money = [column for table in SOURCE_TABLES for column in table.incoming if column.kind is Kind.MONEY]
    assert {column.incoming_name for column in money} == {
        *("total", "outstanding", "amount"),
        *("received", "outstanding_after"),
    }
