"""The event about an edited order, as Klaviyo gets it (RULES.md 8, CONTRACT.md). What goes is decided elsewhere."""

from datetime import datetime

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import display
from dunning_pipeline.rules import json_columns as json
from dunning_pipeline.rules.decisions import usable_identifiers
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

CHANGES_LISTED = 50
"""Most changes that an event lists; how many more there are is told."""

_NO_CHANGES: Members = {"changes": "[]", "changes_omitted": "1234567"}


def order_events(
    decisions: pd.DataFrame,
    orders: pd.DataFrame,
    edits: pd.DataFrame,
    changes: pd.DataFrame,
    policy: Policy,
    now: datetime,
) -> pd.DataFrame:
    """The exact event about each order: one entry of Klaviyo's bulk request as JSON text.

    The edit that is told is the latest one of the series; `changes` are those of all its edits, the latest last.

    Args:
        decisions: the `remind` rows of `OrdersDecided.decisions`: order_key, reminder_id, occurrence.
        orders: order_key (unique), order_id, name, customer_id, customer_name, language, currency (category),
            total_minor, outstanding_minor, received_minor (may be empty), pay_url, status_url, email, phone,
            external_id.
        edits: `OrdersDecided.edits`: order_key, edit_id, edited_at, kind; by order and time.
        changes: what edits changed: edit_id, place (from 1), title, quantity, amount_minor (both may be empty).
        policy: names, metric, language, time zone.
        now: the event's time.

    Returns:
        `body`, a JSON text, and `refusal`: why Klaviyo would not take it, mostly empty. Indexed like `decisions`.
    """
    due = decisions.reset_index(names="row")
    orders = due[["order_key"]].merge(orders, on="order_key", how="left", validate="1:1")
    language = display.languages(orders["language"], policy.organisation.language)
    edits = edits.assign(of=_places(due["order_key"], edits["order_key"]))
    edits = edits[edits["of"] >= 0].reset_index(drop=True)
    zone = policy.organisation.zone
    latest = edits.drop_duplicates("of", keep="last").set_index("of").reindex(due.index)
    edited_at = latest["edited_at"].dt.tz_convert(zone)
    properties: Members = {
        "reminder_id": json.strings(due["reminder_id"]),
        **_order_members(orders, language),
        **_edit_members(latest["kind"], edited_at, language, now),
        "occurrence": json.integers(due["occurrence"]),
        **date_members("sent_on", display.day_column(now.astimezone(zone).date(), len(due)), language),
    }
    event = event_members(properties, policy.order_reminders.metric, now)
    person = profile(usable_identifiers(orders, policy))
    bare = bulk_entry(person, properties | _NO_CHANGES, event).sizes()
    lists = _change_lists(changes, edits, orders["currency"], language, MOST_BODY_BYTES - bare)
    body = json.series(bulk_entry(person, properties | lists, event).array())
    return pd.DataFrame({"body": body, "refusal": too_long(_texts(orders), bare)}).set_axis(due["row"])


def _places(keys: "pd.Series[int]", wanted: "pd.Series[int]") -> np.ndarray:
    places: np.ndarray = pd.Index(keys).get_indexer(pd.Index(wanted))
    return places


def _order_members(orders: pd.DataFrame, language: pd.Series) -> Members:
    paid = orders["received_minor"].fillna(orders["total_minor"] - orders["outstanding_minor"]).astype("int64")
    amounts = {"outstanding": orders["outstanding_minor"], "total": orders["total_minor"], "paid": paid}
    members: Members = {
        "customer_id": json.strings(orders["customer_id"]),
        "customer_name": json.strings(orders["customer_name"]),
        "language": json.strings(language),
        "currency": json.strings(orders["currency"]),
        "payment_url": json.strings(orders["pay_url"]),
        "order_id": json.strings(orders["order_id"]),
        "order_name": json.strings(orders["name"]),
        "order_status_url": json.strings(orders["status_url"]),
    }
    for name, minor in amounts.items():
        members |= money_members(name, minor, orders["currency"], language)
    return members


def _edit_members(
    kind: "pd.Series[str]", edited_at: "pd.Series[pd.Timestamp]", language: pd.Series, now: datetime
) -> Members:
    hours = ((pd.Timestamp(now) - edited_at) // pd.Timedelta(hours=1)).astype("Int64")
    text = edited_at.dt.strftime("%Y-%m-%dT%H:%M:%S%z")
    return {
        "edited_at": json.strings(text.str[:-2] + ":" + text.str[-2:]),
        "edited_at_display": json.strings(display.dates(edited_at.dt.tz_localize(None), language)),
        "edit_kind": json.strings(kind),
        "hours_since_edit": json.integers(hours),
    }


def _change_lists(
    changes: pd.DataFrame, edits: pd.DataFrame, currency: pd.Series, language: pd.Series, room: np.ndarray
) -> Members:
    """The changes of each order and how many more there are; `room` is in bytes."""
    of_edit = edits.reset_index(names="edit_place")[["edit_id", "of", "edit_place"]]
    listed = changes.merge(of_edit, on="edit_id", validate="m:1").sort_values(["of", "edit_place", "place"])
    there = np.bincount(listed["of"], minlength=len(room))
    listed = listed[text_bytes(listed["title"]) <= MOST_TEXT_BYTES]
    listed = listed[listed.groupby("of").cumcount() < CHANGES_LISTED]
    of, known = listed["of"].to_numpy(), listed["amount_minor"].notna()
    amounts = money_members("amount", listed["amount_minor"].fillna(0), currency.iloc[of], language.iloc[of])
    items = json.objects(
        {
            "title": json.strings(listed["title"]),
            "quantity": json.integers(listed["quantity"]),
            **{name: json.where(known, value) for name, value in amounts.items()},
        }
    ).array()
    fits = fitting(text_bytes(items) + 1, of, room)
    shown = np.bincount(of[fits], minlength=len(room))
    return {
        "changes": json.lists(items.filter(fits), shown),
        "changes_omitted": json.integers(there - shown),
    }


def _texts(orders: pd.DataFrame) -> "dict[str, pd.Series[str]]":
    """The texts of an event that nothing can be left off of."""
    return {
        "customer_id": orders["customer_id"],
        "customer_name": orders["customer_name"],
        "order_id": orders["order_id"],
        "order_name": orders["name"],
        "payment_url": orders["pay_url"],
        "order_status_url": orders["status_url"],
    }
