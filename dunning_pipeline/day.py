"""The decisions of some days in one go: from the warehouse's file to rows in memory, with nothing written in between.

The assets decide the same in steps that can be looked at, by the same functions. Under a memory limit the customers are
decided in hash chunks, so that memory stays bounded however many there are.
"""

from functools import partial

import pandas as pd

from dunning_pipeline.assets.decisions import decide_customers, read_beside
from dunning_pipeline.assets.receivables import invoice_ids, owed_on, read_ledger, together, unsettled_parts
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.unsettled import Unsettled
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.carrying import carrying_invoices
from dunning_pipeline.rules.owed import chaseable_invoices
from dunning_pipeline.threads import side_by_side


def decide_days(warehouse: Warehouse, policy: Policy, days: Days) -> pd.DataFrame:
    """The rows of `dunning.decisions` of the days, by key and without `run_id`.

    They are in order; within a memory limit, in order within each part of the customers.
    """
    parts = unsettled_parts(warehouse, policy, days)
    return together([_decide_part(warehouse, policy, days, part) for part in parts])


def _decide_part(warehouse: Warehouse, policy: Policy, days: Days, part: Unsettled) -> pd.DataFrame:
    ranges = owed_on(warehouse, policy, read_ledger(warehouse, part), days)
    carry = partial(carrying_invoices, rates=policy.organisation.rates, ids=partial(invoice_ids, warehouse))
    carrying = together(side_by_side(lambda found: carry(chaseable_invoices(*found)), ranges))
    unpaid, owing = (together(frames) for frames in zip(*ranges, strict=True))
    del ranges
    with warehouse.transaction() as connection:
        facts = read_beside(connection, policy, days, unpaid, owing, carrying)
    return decide_customers(facts, policy, days)
