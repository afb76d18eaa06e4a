"""The named subset of the rules by the pipeline's own functions, from the file to rows in memory.

RULES 1.1 to 1.3, 2.1, 4.1 to 4.3 and 5.1 to 5.3, for one currency and one customer-level workflow: what
`sql/daily_decision.sql` decides too. Nothing is decided here: rules of the other sections are left out.
"""

from datetime import date
from functools import partial

import numpy as np
import pandas as pd

from benchmarks import sql
from dunning_pipeline.assets.receivables import invoice_ids, together
from dunning_pipeline.policy import Policy
from dunning_pipeline.resources.contacts import fetch_certain_contacts
from dunning_pipeline.resources.unsettled import Unsettled
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.rules import ladder, timing
from dunning_pipeline.rules.carrying import carrying_invoices
from dunning_pipeline.rules.contacts import executed_actions, latest_contacts
from dunning_pipeline.rules.owed import open_invoices, owed_invoices
from dunning_pipeline.rules.slices import within
from dunning_pipeline.rules.standing import Ledger, Window
from dunning_pipeline.tables import PAUSES, PROMISES
from dunning_pipeline.threads import side_by_side

OUTCOMES = ("workflow_completed", "waiting_for_trigger", "minimum_contact_delay", "non_working_day", "remind")


def decide_subset(warehouse: Warehouse, policy: Policy, as_of: date) -> pd.DataFrame:
    """One row per customer with an unpaid invoice, as the query of the same subset gives it."""
    with warehouse.transaction() as connection:
        unsettled = Unsettled.of(connection, as_of, as_of, [*policy.sources], policy.organisation.base_currency)
        ledger = Ledger(*unsettled.fetch(connection), pauses=PAUSES.empty_frame(), promises=PROMISES.empty_frame())
    ranges = ledger.key_ranges()
    carrying = together(side_by_side(partial(_carrying, warehouse, policy, ledger, as_of), ranges))
    with warehouse.transaction() as connection:
        keys = carrying["customer_key"].to_numpy()
        contacts = fetch_certain_contacts(connection, policy, as_of, as_of, keys, carrying)
        ids = fetch(connection, sql.load("subset_ids"))
    decide = partial(_timed, carrying, ids, contacts, policy, as_of)
    return together(side_by_side(decide, ranges))


def _carrying(warehouse: Warehouse, policy: Policy, ledger: Ledger, as_of: date, keys: range) -> pd.DataFrame:
    """What carries of the customers in a range."""
    owed = owed_invoices(ledger.within(keys), {}, Window.of(as_of, as_of))
    candidates = open_invoices(owed).assign(level="customer")
    return carrying_invoices(candidates, policy.organisation.rates, partial(invoice_ids, warehouse))


def _timed(
    carrying: pd.DataFrame, ids: pd.DataFrame, contacts: pd.DataFrame, policy: Policy, as_of: date, keys: range
) -> pd.DataFrame:
    """Next action of the customers in a range and when it goes (RULES 4.1 to 4.3, 5.1 to 5.3)."""
    carrying, ids, contacts = (within(frame, keys) for frame in (carrying, ids, contacts))
    rows = carrying[["invoice_key", "due_on"]].merge(ids, on="invoice_key", validate="1:1")
    day = np.datetime64(as_of)
    days, workflow = np.full(len(rows), day.astype("int64")), np.zeros(len(rows), dtype="int64")
    calendar = timing.WorkingDays.of(policy, rows["customer_id"], range(as_of.year - 4, as_of.year + 3))
    anchor, ladders = rows["due_on"].to_numpy().astype("datetime64[D]"), ladder.Ladders.of(policy)
    executed = executed_actions(contacts, policy, rows["invoice_key"].to_numpy(), workflow, days)
    following = ladder.next_actions(workflow, anchor, executed, day, ladders, calendar)
    last = latest_contacts(contacts, "customer_key", rows["customer_key"].to_numpy(), days)
    allowed = timing.earliest_contact(last, np.array([policy.workflows[0].minimum_contact_delay]), day)
    trigger, none = following.trigger, np.isnat(following.trigger)
    next_due = calendar.forward(timing.latest_of(trigger, allowed, np.full(len(rows), day)))
    held = [none, trigger > day, allowed > day, next_due > day]
    return pd.DataFrame(
        {
            "customer_id": rows["customer_id"],
            "carrying_invoice_id": rows["invoice_id"],
            "action": pd.Categorical.from_codes(following.position, ladders.name),
            "action_position": pd.Series(following.position + 1, dtype="Int64").mask(none),
            "trigger_on": trigger,
            "last_contact_on": last,
            "next_due_on": np.where(none, np.datetime64("NaT"), next_due),
            "outcome": pd.Categorical.from_codes(np.select(held, range(len(held)), len(held)), OUTCOMES),
        }
    )
