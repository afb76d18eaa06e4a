"""The reminder itself: its id and its Klaviyo event, RULES.md section 7. Whether it goes is decided elsewhere."""

import hashlib
import uuid
from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import display
from dunning_pipeline.rules import json_columns as json
from dunning_pipeline.rules.money import minor_digits

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "dunning_pipeline")
SEPARATOR = "\x1f"
"""Stands between the parts of a reminder's identity; it occurs in no id."""
UUID_BYTES = 16


def reminder_ids(stream: str, identity: pd.DataFrame) -> "pd.Series[str]":
    """UUIDv5 over the stream and the columns of `identity` (RULES 7.2).

    Args:
        stream: `invoice` or `order`.
        identity: text columns in the order that makes the id; none may be empty.
    """
    names = identity.iloc[:, 0].str.cat(identity.iloc[:, 1:], sep=SEPARATOR).tolist()
    base = hashlib.sha1(NAMESPACE.bytes + f"{stream}{SEPARATOR}".encode(), usedforsecurity=False)
    # A hash has no vectorised form: this is the one step that goes through the reminders one by one.
    digests = b"".join([_digest(base, name) for name in names])
    return pd.Series(_uuid_texts(digests), identity.index, dtype="str")


def _digest(base: "hashlib._Hash", name: str) -> bytes:
    digest = base.copy()
    digest.update(name.encode())
    return digest.digest()[:UUID_BYTES]


def _uuid_texts(digests: bytes) -> np.ndarray:
    """Digests, one behind the other, as UUIDs of version 5 and the variant of RFC 9562."""
    octets = np.frombuffer(digests, dtype="uint8").reshape(-1, UUID_BYTES).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x50
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(octets.tobytes().hex().encode(), dtype="S1").reshape(-1, 2 * UUID_BYTES)
    texts = np.insert(digits, [8, 12, 16, 20], b"-", axis=1)
    return np.ascontiguousarray(texts).view(f"S{texts.shape[1]}").ravel().astype(str)


def reminder_events(
    decisions: pd.DataFrame,
    listed: pd.DataFrame,
    customers: pd.DataFrame,
    policy: Policy,
    as_of: date,
    planned_at: datetime,
) -> "pd.Series[str]":
    """The exact event of each reminder: one entry of Klaviyo's bulk request as JSON text (RULES 7.1, 7.3).

    Amounts at the top level are in the carrying invoice's currency; counts are over all listed invoices;
    `totals_by_currency` has both per currency. The oldest due invoices are listed first, at most
    `klaviyo.invoices_listed` of them; totals are over all.

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
        JSON texts, indexed like `decisions`.
    """
    decisions = decisions.reset_index()
    people = decisions[["customer_key"]].merge(customers, on="customer_key", how="left", validate="m:1")
    language = display.languages(people["language"], policy.organisation.language)
    listed = _in_order(listed, decisions)
    carrying = listed[listed["carries"]].reset_index(drop=True)
    totals = _totals(listed, listed["row"], listed["carrying_currency"])
    properties = {
        **_who_and_what(decisions, people, policy, language, as_of),
        **_carrying_members(carrying, language),
        **_total_members(totals, carrying["currency"], language),
        "days_since_due": json.integers(_days_since(carrying["due_on"], as_of)),
        "oldest_days_overdue": json.integers(listed.groupby("row")["days_overdue"].max()),
        "broken_promise": json.booleans(listed.groupby("row")["broken_promise"].any()),
        **_invoice_lists(listed, language, policy.klaviyo.invoices_listed),
        "totals_by_currency": _totals_by_currency(listed, language),
    }
    event = json.objects(
        {
            "properties": json.objects(properties),
            "time": json.constant(planned_at.replace(microsecond=0).isoformat()),
            "value": json.decimals(totals["outstanding_minor"].to_numpy(), _digits(carrying["currency"])),
            "value_currency": json.strings(carrying["currency"].astype("str")),
            "unique_id": json.strings(decisions["reminder_id"]),
            "metric": json.constant(_resource("metric", {"name": policy.klaviyo.metric})),
        }
    )
    return json.series(_bulk_entry(_profile(people), event)).set_axis(decisions["index"])


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
    decisions: pd.DataFrame, people: pd.DataFrame, policy: Policy, language: "pd.Series[str]", as_of: date
) -> dict[str, pa.Array | str]:
    lengths = {workflow.name: len(workflow.actions) for workflow in policy.workflows}
    return {
        "reminder_id": json.strings(decisions["reminder_id"]),
        "customer_id": json.strings(decisions["customer_id"]),
        "customer_name": json.strings(people["name"]),
        "workflow": json.strings(decisions["workflow"]),
        "action": json.strings(decisions["action"]),
        "action_position": json.integers(decisions["action_position"]),
        "action_count": json.integers(decisions["workflow"].map(lengths)),
        **_date_members("previous_contact_on", decisions["last_contact_on"], language),
        **_date_members("sent_on", display.day_column(as_of, len(decisions)), language),
    }


def _carrying_members(carrying: pd.DataFrame, language: "pd.Series[str]") -> dict[str, pa.Array | str]:
    return {
        "currency": json.strings(carrying["currency"].astype("str")),
        "carrying_invoice_number": json.strings(carrying["number"]),
        **_money_members("carrying_invoice_total", carrying["total_minor"], carrying["currency"], language),
        **_money_members("carrying_invoice_outstanding", carrying["open_minor"], carrying["currency"], language),
        **_date_members("carrying_invoice_issued_on", carrying["issued_on"], language),
        **_date_members("carrying_invoice_due_on", carrying["due_on"], language),
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


def _total_members(totals: pd.DataFrame, currency: pd.Series, language: "pd.Series[str]") -> dict[str, pa.Array | str]:
    members: dict[str, pa.Array | str] = {}
    for name in ("due", "overdue", "outstanding"):
        members |= _money_members(name, totals[f"{name}_minor"], currency, language)
        members[f"{name}_count"] = json.integers(totals[f"{name}_count"])
    return members


def _invoice_lists(listed: pd.DataFrame, language: "pd.Series[str]", most: int) -> dict[str, pa.Array | str]:
    shown = listed[listed.groupby("row").cumcount() < most]
    spoken = language.iloc[shown["row"]]
    items = json.objects(
        {
            "number": json.strings(shown["number"]),
            **_date_members("issued_on", shown["issued_on"], spoken),
            **_date_members("due_on", shown["due_on"], spoken),
            "currency": json.strings(shown["currency"].astype("str")),
            **_money_members("total", shown["total_minor"], shown["currency"], spoken),
            **_money_members("outstanding", shown["open_minor"], shown["currency"], spoken),
            "days_overdue": json.integers(shown["days_overdue"]),
            "payment_url": json.strings(shown["pay_url"]),
        }
    )
    counts = np.bincount(listed["row"], minlength=len(language))
    return {
        "invoices": json.lists(items, np.minimum(counts, most)),
        "invoices_omitted": json.integers(np.maximum(counts - most, 0)),
    }


def _totals_by_currency(listed: pd.DataFrame, language: "pd.Series[str]") -> pa.Array:
    grouped = listed.groupby(["row", "currency"], observed=True)
    groups = grouped.size().index.to_frame(index=False)
    totals = _totals(listed, grouped.ngroup(), pd.Series(True, listed.index))
    spoken = language.iloc[groups["row"]]
    items = json.objects(
        {
            "currency": json.strings(groups["currency"].astype("str")),
            **_total_members(totals, groups["currency"], spoken),
        }
    )
    return json.lists(items, np.bincount(groups["row"], minlength=len(language)))


def _money_members(
    name: str, minor: "pd.Series[int]", currency: pd.Series, language: "pd.Series[str]"
) -> dict[str, pa.Array | str]:
    amounts = minor.to_numpy()
    return {
        name: json.decimals(amounts, _digits(currency)),
        f"{name}_display": json.strings(display.amounts(amounts, currency, language)),
    }


def _date_members(name: str, days: "pd.Series[pd.Timestamp]", language: "pd.Series[str]") -> dict[str, pa.Array | str]:
    return {
        name: json.strings(display.iso_dates(days)),
        f"{name}_display": json.strings(display.dates(days, language)),
    }


def _digits(currency: pd.Series) -> np.ndarray:
    by_category = np.array([minor_digits(code) for code in currency.cat.categories], dtype="int64")
    return by_category[currency.cat.codes.to_numpy()]


def _profile(people: pd.DataFrame) -> pa.Array:
    """Identifiers only: whatever else an event says of a profile would overwrite it in Klaviyo."""
    names = {"email": "email", "phone": "phone_number", "external_id": "external_id"}
    return json.objects(
        {names[column]: json.strings(people[column]) for column in names if column in people}, omit_null=True
    )


def _resource(kind: str, attributes: object) -> dict[str, object]:
    return {"data": {"type": kind, "attributes": attributes}}


def _bulk_entry(profile: pa.Array, event: pa.Array) -> pa.Array:
    """One `event-bulk-create` per event, so that an error pointer names one reminder (reference: Klaviyo)."""
    before, between, after = json.constant(
        {
            "type": "event-bulk-create",
            "attributes": {
                "profile": _resource("profile", _HOLE),
                "events": {"data": [{"type": "event", "attributes": _HOLE}]},
            },
        }
    ).split(json.constant(_HOLE))
    return json.joined(before, profile, between, event, after)


_HOLE = "\x00"
"""Marks in a constant where a column's text goes; JSON escapes it, so no value can hold it by accident."""
