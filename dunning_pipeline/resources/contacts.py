"""Reads of all contacts what can still matter to some customers in a window of days.

A history grows with the years; a decision looks at the latest contact of a customer, at the contacts about invoices
that may carry, and at those of the days themselves. What it makes of them is no matter of this module.
"""

from datetime import date

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.categories import create_contact_types
from dunning_pipeline.resources.warehouse import fetch


def fetch_contacts(
    connection: duckdb.DuckDBPyConnection,
    policy: Policy,
    first: date,
    last: date,
    customer_key: np.ndarray,
    invoices: pd.DataFrame,
) -> pd.DataFrame:
    """Contacts of some customers as `rules.decisions.Facts` wants them, texts as categories.

    Of reminders before the window that are about none of the invoices only each customer's latest is read, with
    neither workflow nor action. Names that the policy does not know are empty; so are ids of reminders before the
    window.

    Args:
        connection: in a transaction of the warehouse.
        policy: whose names of workflows and actions matter.
        first: first day of the window.
        last: its last day.
        customer_key: the customers, each once.
        invoices: customer_key and invoice_key of those that may carry on a day of the window, each once.
    """
    certain = fetch_certain_contacts(connection, policy, first, last, customer_key, invoices)
    uncertain = fetch(connection, sql.load("uncertain_contacts"), {"last": last})
    if certain.empty or uncertain.empty:
        # Categories of no rows are none, which the others could not be brought to.
        return certain if uncertain.empty else uncertain
    return pd.concat([certain, uncertain.astype(certain.dtypes)], ignore_index=True)


def fetch_certain_contacts(
    connection: duckdb.DuckDBPyConnection,
    policy: Policy,
    first: date,
    last: date,
    customer_key: np.ndarray,
    invoices: pd.DataFrame,
) -> pd.DataFrame:
    """`fetch_contacts` without the reminders that were perhaps accepted (RULES 9.3).

    Leaves the customers and invoices as `contacted_customers` and `contacted_invoices` to the rest of the transaction.
    """
    create_contact_types(connection, policy)
    owned = {name: invoices[name].to_numpy() for name in ("customer_key", "invoice_key")}
    connection.register("contacted_customers", pa.table({"customer_key": customer_key}))
    connection.register("contacted_invoices", pa.table(owned))
    return fetch(connection, sql.load("certain_contacts"), {"first": first, "last": last})
