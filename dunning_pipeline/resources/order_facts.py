"""Reads of orders, edits and history what decides about events, and what these tell. Nothing is decided here."""

from datetime import datetime, timedelta

import duckdb
import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.categories import create_ledger_types
from dunning_pipeline.resources.warehouse import fetch
from dunning_pipeline.rules.money import minor_digits
from dunning_pipeline.rules.order_series import STREAM, OrderFacts
from dunning_pipeline.tables import ORDERS

NOT_LISTED = "not_listed"
"""The error code of reminders that the allow list keeps back."""

MOST_AGE = timedelta(hours=1)
"""How old what is known of orders may be, unless `quality.max_source_age` says otherwise."""

_DECIMALS = 4


def fetch_order_facts(connection: duckdb.DuckDBPyConnection, policy: Policy, now: datetime) -> OrderFacts:
    """What is known at an instant of the orders that were edited or replaced, or replace others.

    Args:
        connection: in a transaction of the warehouse.
        policy: in force.
        now: the instant: sources that were pulled too long before it are unclear.
    """
    create_ledger_types(connection)
    clear = [name for name, age in source_ages(connection, policy, now).items() if age <= max_age(policy)]
    connection.execute(sql.load("decided_orders"))
    return OrderFacts(
        orders=fetch(connection, sql.load("orders_for_rules"), {"clear_sources": clear}),
        edits=fetch(connection, _EDITS),
        observations=fetch(connection, _OBSERVATIONS),
        sent=fetch(
            connection,
            sql.load("sent_of_orders"),
            {
                "today": now.astimezone(policy.organisation.zone).date(),
                "policy_hash": policy.hash,
                "not_listed": NOT_LISTED,
            },
        ),
        rejections=fetch(connection, sql.load("rejections"), {"stream": STREAM}),
    )


_EDITS = """
    select order_key, edit_id, edited_at, coalesce(seen_at, edited_at) as seen_at, edited_by, kind
    from source.order_edits semi join decided_orders using (order_key)
    order by edit_id
"""

_OBSERVATIONS = """
    select
        order_key, observed_at, currency::currency_code as currency, outstanding_minor, financial_status,
        fulfillment_status, cancelled_at
    from source.order_observations semi join decided_orders using (order_key)
"""


def source_ages(connection: duckdb.DuckDBPyConnection, policy: Policy, now: datetime) -> dict[str, timedelta]:
    """How old what is known of the orders of each source of the policy is; sources never pulled are left out."""
    query = f"select source, newest_at from source.watermarks where \"table\" = '{ORDERS.name}'"
    pulled = fetch(connection, query)
    pulled = pulled[pulled["source"].isin([*policy.sources])]
    return {name: now - at.to_pydatetime() for name, at in pulled.itertuples(index=False)}


def max_age(policy: Policy) -> timedelta:
    """How old what is known of orders may be before no event goes by it."""
    return policy.quality.max_source_age.get("orders", MOST_AGE)


def fetch_told(connection: duckdb.DuckDBPyConnection, orders: pd.DataFrame) -> pd.DataFrame:
    """What events tell of some orders: what decided about them, and what is read only for those that are due.

    Args:
        connection: in a transaction of the warehouse.
        orders: rows of `OrderFacts.orders`.

    Returns:
        These with customer_id, customer_name, language, total_minor, received_minor, pay_url, status_url.
    """
    connection.register("wanted_orders", orders[["order_key"]])
    told = fetch(connection, sql.load("told_orders"))
    connection.unregister("wanted_orders")
    return orders.merge(told, on="order_key", validate="1:1")


def fetch_changes(connection: duckdb.DuckDBPyConnection, edits: pd.DataFrame, currency: pd.Series) -> pd.DataFrame:
    """What some edits changed.

    Args:
        connection: in a transaction of the warehouse.
        edits: edit_id, each once.
        currency: of the order of each.

    Returns:
        edit_id, place (from 1), title, quantity, amount_minor (both may be empty).
    """
    connection.register("wanted_edits", edits[["edit_id"]])
    changes = fetch(connection, sql.load("changes_of_edits"))
    connection.unregister("wanted_edits")
    by_edit = pd.Series(currency.astype("str").map(minor_digits).to_numpy(dtype="int64"), edits["edit_id"])
    unit = 10 ** (_DECIMALS - by_edit.reindex(changes["edit_id"]).to_numpy(dtype="int64"))
    amounts = changes["amount_ten_thousandths"].astype("Int64")
    return changes.assign(amount_minor=amounts // unit, quantity=changes["quantity"].astype("Int64"))
