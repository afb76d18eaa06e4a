"""The decisions of some days in one go: from the warehouse's file to rows in memory, with nothing written in between.

The assets decide the same in steps that can be looked at, by the same functions. Under a memory limit the customers are
decided in hash chunks, so that memory stays bounded however many there are.
"""

from functools import partial

import pandas as pd

from dunning_pipeline import sql
from dunning_pipeline.assets.decisions import fetch_invoice_ids, read_beside
from dunning_pipeline.assets.receivables import invoice_ids, with_own_workflows
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.categories import create_ledger_types
from dunning_pipeline.resources.unsettled import Unsettled
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules.carrying import carrying_invoices
from dunning_pipeline.rules.decisions import decide
from dunning_pipeline.rules.owed import balances, chaseable_invoices, open_invoices, owed_invoices
from dunning_pipeline.rules.standing import Ledger
from dunning_pipeline.tables import MANUAL


def decide_days(warehouse: Warehouse, policy: Policy, days: Days) -> pd.DataFrame:
    """The rows of `dunning.decisions` of the days, by key and without `run_id`.

    They are in order; within a memory limit, in order within each part of the customers.
    """
    with warehouse.transaction() as connection:
        sources = [*policy.sources, MANUAL]
        unsettled = Unsettled.of(connection, days.first, days.last, sources, policy.organisation.base_currency)
        parts = unsettled.split(connection, unsettled.parts_within(warehouse.memory_limit))
    return pd.concat([_decide_part(warehouse, policy, days, part) for part in parts], ignore_index=True)


def _decide_part(warehouse: Warehouse, policy: Policy, days: Days, part: Unsettled) -> pd.DataFrame:
    with warehouse.transaction() as connection:
        create_ledger_types(connection)
        invoices, payments = part.fetch(connection)
        pauses, promises = (fetch(connection, sql.load(name), {"last": days.last}) for name in ("pauses", "promises"))
    owed = owed_invoices(Ledger(invoices, payments, pauses, promises), policy.receivables.tolerance_minor, days.window)
    unpaid = with_own_workflows(warehouse, policy, open_invoices(owed), days.last)
    owing = balances(owed, payments, policy.receivables.minimum_amount_minor)
    candidates = chaseable_invoices(unpaid, owing)
    carrying = carrying_invoices(candidates, policy.organisation.rates, partial(invoice_ids, warehouse))
    own = unpaid.loc[(unpaid["level"] == "invoice").to_numpy(), "invoice_key"]
    with warehouse.transaction() as connection:
        ids = fetch_invoice_ids(connection, pd.concat([carrying["invoice_key"], own]))
        facts = read_beside(connection, policy, days, unpaid, owing, carrying, ids)
    return decide(facts, policy)
