"""Types that let DuckDB hand texts over as categories instead of strings, which cost most of all."""

from collections.abc import Iterable

import duckdb

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.sql import literal
from dunning_pipeline.tables import INVOICES


def create_ledger_types(connection: duckdb.DuckDBPyConnection) -> None:
    """`currency_code` and `invoice_status`."""
    _create(connection, "currency_code", CURRENCY.categories)
    _create(connection, "invoice_status", INVOICES.column("status").allowed)


def create_contact_types(connection: duckdb.DuckDBPyConnection, policy: Policy) -> None:
    """`contact_kind`, `contact_level`, and the names that a policy knows: `workflow_name`, `action_name`."""
    _create(connection, "contact_kind", ("accepted", "unknown", "recorded"))
    _create(connection, "contact_level", ("customer", "invoice"))
    _create(connection, "workflow_name", (workflow.name for workflow in policy.workflows))
    _create(connection, "action_name", (name for workflow in policy.workflows for name in workflow.action_names))


def _create(connection: duckdb.DuckDBPyConnection, name: str, values: Iterable[str]) -> None:
    """A type with these values, each once; a text that no row has stands in where there are none."""
    listed = ", ".join(map(literal, dict.fromkeys(values))) or "''"
    connection.execute(f"create or replace temp type {name} as enum ({listed})")
