"""Customers as the rules want them: identifiers, and the columns that the policy's smart rules ask for."""

from collections.abc import Sequence

import duckdb
import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.warehouse import fetch
from dunning_pipeline.rules.smart_rules import ASKED, FIGURES, customer_column_names
from dunning_pipeline.tables import CUSTOMERS, Kind

_NOT_FOR_RULES = ("source", "customer_key")
COLUMNS = f"select column_name from (describe {CUSTOMERS.qualified})"
"""SQL of the names of all columns that customers have in the warehouse, custom ones included."""


def fetch_customers(connection: duckdb.DuckDBPyConnection, policy: Policy, customer_keys: pd.Series) -> pd.DataFrame:
    """Some customers, each once: keys, identifiers, language, and `asked.<name>` for each column that rules name.

    Raises:
        DunningError: a smart rule asks for a column that customers do not have.
    """
    connection.register("wanted_customers", customer_keys.drop_duplicates().to_frame("customer_key"))
    asked = [_as_text(connection, policy, name) for name in customer_column_names(policy)]
    columns = ", ".join(["wanted.*", *asked])
    wanted = f"({sql.load('customers')}) as wanted"
    return fetch(connection, f"select {columns} from {wanted} left join source.customers as c using (customer_key)")


def _as_text(connection: duckdb.DuckDBPyConnection, policy: Policy, name: str) -> str:
    """SQL of a column as text; of an instant its day in the organisation's time zone."""
    known = columns_for_rules(fetch(connection, COLUMNS)["column_name"].tolist())
    if name not in known:
        raise DunningError(missing_column(policy, name, known))
    column = f"c.{sql.quoted([name])}"
    if name in CUSTOMERS.column_names and CUSTOMERS.column(name).kind is Kind.INSTANT:
        column = f"({column} at time zone {sql.literal(policy.organisation.time_zone)})::date::varchar"
    return f"{column} as {sql.quoted([ASKED + name])}"


def columns_for_rules(names: Sequence[str]) -> list[str]:
    """Those among columns of customers that smart rules may name."""
    return [name for name in names if name not in _NOT_FOR_RULES]


def missing_column(policy: Policy, name: str, known: Sequence[str]) -> str:
    """The sentence about a column that smart rules name and nobody has."""
    rules = ", ".join(repr(rule.name) for rule in policy.smart_rules if name in rule.when)
    return (
        f"smart rule {rules} asks for the column '{name}', which customers do not have; "
        f"allowed: {', '.join([*known, *FIGURES])}, and for invoices their own columns"
    )
