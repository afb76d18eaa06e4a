"""The reminder itself: its Klaviyo event, RULES.md section 7. Whether it goes is decided elsewhere."""

from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import display
from dunning_pipeline.rules import json_columns as json
from dunning_pipeline.rules.events import (
    MOST_BODY_BYTES,
    MOST_TEXT_BYTES,
    Members,
    bulk_entry,
    date_members,
    event_members,
    fitting,
    money_members,
    profile,
    text_bytes,
    too_long,
)

_NO_INVOICES: Members = {"invoices": "[]", "invoices_omitted": "1234567"}


def reminder_events(
    decisions: pd.DataFrame,
    listed: pd.DataFrame,
    customers: pd.DataFrame,
    policy: Policy,
    as_of: date,
    planned_at: datetime,
) -> pd.DataFrame:
    """The exact event of each reminder: one entry of Klaviyo's bulk request as JSON text (RULES 7.1, 7.3).

    Amounts at the top level are in the carrying invoice's currency; counts are over all listed invoices;
    `totals_by_currency` has both per currency. The oldest due invoices are listed first: at most
    `klaviyo.invoices_listed` of them, no more than fit into a request, and none with a text that Klaviyo does not
    take. Totals are over all.

    Args:
        decisions: the `remind` rows of `dunning.decisions`.
        listed: unpaid, unpaused invoices in chaseable currencies, as `dunning.open_invoices` with `pay_url`, the
            carrying ones among them. A reminder about one invoice lists that one, any other those of its customer
            at the customer level (RULES 2.4).
        customers: customer_key, name, language and the usable identifiers (email, phone, external_id).
        policy: names, metric, cap, language.
        as_of: the day of the reminder.
        planned_at: the event's time, an aware instant.

    Returns:
        `body`, a JSON text, and `refusal`: why Klaviyo would not take it, as a sentence, mostly empty. Indexed like
        `decisions`.
    """
    decisions = decisions.reset_index()
    people = decisions[["customer_key"]].merge(customers, on="customer_key", how="left", validate="m:1")
    language = display.languages(people["language"], policy.organisation.language)
    listed = _in_order(listed, decisions)
    carrying = listed[listed["carries"]].reset_index(drop=True)
    totals = _totals(listed, listed["row"], listed["carrying_currency"])
    properties: Members = {
        **_who_and_what(decisions, people, policy, language, as_of),
        **_carrying_members(carrying, language),
        **_total_members(totals, carrying["currency"], language),
        "days_since_due": json.integers(_days_since(carrying["due_on"], as_of)),
        "oldest_days_overdue": json.integers(listed.groupby("row")["days_overdue"].max()),
        "broken_promise": json.booleans(listed.groupby("row")["broken_promise"].any()),
    }
    by_currency = {"totals_by_currency": _totals_by_currency(listed, language)}
    event = event_members(properties, policy.klaviyo.metric, planned_at)
    person = profile(people)
    bare = bulk_entry(person, properties | _NO_INVOICES | by_currency, event).sizes()
    lists = _invoice_lists(listed, language, policy.klaviyo.invoices_listed, MOST_BODY_BYTES - bare)
    return pd.DataFrame(
        {
            "body": json.series(bulk_entry(person, properties | lists | by_currency, event).array()),
            "refusal": too_long(_texts(decisions, people, carrying), bare),
        }
    ).set_axis(decisions["index"])


def _texts(decisions: pd.DataFrame, people: pd.DataFrame, carrying: pd.DataFrame) -> "dict[str, pd.Series[str]]":
    """The texts of an event that nothing can be left off of."""
    return {
        "customer_id": decisions["customer_id"],
        "customer_name": people["name"],
        "carrying_invoice_number": carrying["number"],
        "payment_url": carrying["pay_url"],
    }


def _in_order(listed: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """Listed invoices by reminder (`row`) and due date, with `carries` and `carrying_currency` flags."""
    listed = listed.assign(row=_reminder_of(listed, decisions))
    listed = listed[listed["row"] >= 0].sort_values(["row", "due_on", "invoice_id"], ignore_index=True)
    row = listed["row"].to_numpy()
    carries = listed["invoice_key"].to_numpy() == decisions["invoice_key"].to_numpy(dtype="int64")[row]
    codes = listed["currency"].cat.codes.to_numpy()
    return listed.assign(carries=carries, carrying_currency=codes == codes[carries][row])


def _reminder_of(listed: pd.DataFrame, decisions: pd.DataFrame) -> np.ndarray:
    """The place of the reminder that lists each invoice, or -1."""
    place = np.full(len(listed), -1)
    for level, key in (("customer", "customer_key"), ("invoice", "invoice_key")):
        reminders = np.flatnonzero(decisions["level"] == level)
        at = pd.Index(decisions[key].to_numpy(dtype="int64")[reminders]).get_indexer(pd.Index(listed[key]))
        rows = (listed["level"] == level).to_numpy() & (at >= 0)
        place[rows] = reminders[at[rows]]
    return place


def _days_since(days: "pd.Series[pd.Timestamp]", as_of: date) -> np.ndarray:
    return (np.datetime64(as_of) - days.to_numpy().astype("datetime64[D]")).astype("int64")


def _who_and_what(
    decisions: pd.DataFrame, people: pd.DataFrame, policy: Policy, language: pd.Series, as_of: date
) -> Members:
    lengths = {workflow.name: len(workflow.actions) for workflow in policy.workflows}
    return {
        "reminder_id": json.strings(decisions["reminder_id"]),
        "customer_id": json.strings(decisions["customer_id"]),
        "customer_name": json.strings(people["name"]),
        "language": json.strings(language),
        "workflow": json.strings(decisions["workflow"]),
        "action": json.strings(decisions["action"]),
        "action_position": json.integers(decisions["action_position"]),
        "action_count": json.integers(decisions["workflow"].map(lengths)),
        **date_members("previous_contact_on", decisions["last_contact_on"], language),
        **date_members("sent_on", display.day_column(as_of, len(decisions)), language),
    }


def _carrying_members(carrying: pd.DataFrame, language: pd.Series) -> Members:
    return {
        "currency": json.strings(carrying["currency"]),
        "carrying_invoice_number": json.strings(carrying["number"]),
        **money_members("carrying_invoice_total", carrying["total_minor"], carrying["currency"], language),
        **money_members("carrying_invoice_outstanding", carrying["open_minor"], carrying["currency"], language),
        **date_members("carrying_invoice_issued_on", carrying["issued_on"], language),
        **date_members("carrying_invoice_due_on", carrying["due_on"], language),
        "payment_url": json.strings(carrying["pay_url"]),
    }


def _totals(listed: pd.DataFrame, group: pd.Series, counted: "pd.Series[bool]") -> pd.DataFrame:
    """Sums of open balances (of the `counted` rows) and counts (of all), for what is due, overdue and both."""
    overdue = listed["days_overdue"] > 0
    amount = listed["open_minor"].where(counted, 0)
    return (
        pd.DataFrame(
            {
                "due_minor": amount.where(~overdue, 0),
                "overdue_minor": amount.where(overdue, 0),
                "outstanding_minor": amount,
                "due_count": ~overdue,
                "overdue_count": overdue,
                "outstanding_count": 1,
            }
        )
        .groupby(group.to_numpy())
        .sum()
        .astype("int64")
    )


def _total_members(totals: pd.DataFrame, currency: pd.Series, language: pd.Series) -> Members:
    members: Members = {}
    for name in ("due", "overdue", "outstanding"):
        members |= money_members(name, totals[f"{name}_minor"], currency, language)
        members[f"{name}_count"] = json.integers(totals[f"{name}_count"])
    return members


def _invoice_lists(listed: pd.DataFrame, language: pd.Series, most: int, room: np.ndarray) -> Members:
    """The listed invoices of each reminder and how many more there are; `room` is in bytes."""
    candidates = listed[
        (text_bytes(listed["number"]) <= MOST_TEXT_BYTES) & (text_bytes(listed["pay_url"]) <= MOST_TEXT_BYTES)
    ]
    candidates = candidates[candidates.groupby("row").cumcount() < most]
    items = _invoice_items(candidates, language.iloc[candidates["row"]]).array()
    row = candidates["row"].to_numpy()
    fits = fitting(pc.binary_length(items).to_numpy().astype("int64") + 1, row, room)
    shown = np.bincount(row[fits], minlength=len(language))
    return {
        "invoices": json.lists(items if fits.all() else items.filter(pa.array(fits)), shown),
        "invoices_omitted": json.integers(np.bincount(listed["row"], minlength=len(language)) - shown),
    }


def _invoice_items(shown: pd.DataFrame, language: pd.Series) -> json.Texts:
    currency = json.strings(shown["currency"])
    return json.objects(
        {
            "number": json.strings(shown["number"]),
            **date_members("issued_on", shown["issued_on"], language),
            **date_members("due_on", shown["due_on"], language),
            "currency": currency,
            **money_members("total", shown["total_minor"], shown["currency"], language),
            **money_members("outstanding", shown["open_minor"], shown["currency"], language),
            "days_overdue": json.integers(shown["days_overdue"]),
            "payment_url": json.strings(shown["pay_url"]),
        }
    )


def _totals_by_currency(listed: pd.DataFrame, language: pd.Series) -> json.Texts:
    grouped = listed.groupby(["row", "currency"], observed=True)
    groups = grouped.size().index.to_frame(index=False)
    totals = _totals(listed, grouped.ngroup(), pd.Series(True, listed.index))
    spoken = language.iloc[groups["row"]]
    items = json.objects(
        {
            "currency": json.strings(groups["currency"]),
            **_total_members(totals, groups["currency"], spoken),
        }
    )
    return json.lists(items.array(), np.bincount(groups["row"], minlength=len(language)))
