"""The reminder itself: its id and its Klaviyo event, RULES.md section 7. Whether it goes is decided elsewhere."""

import hashlib
import uuid
from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import display
from dunning_pipeline.rules import json_columns as json
from dunning_pipeline.rules.money import minor_digits

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "dunning_pipeline")
SEPARATOR = "\x1f"
"""Stands between the parts of a reminder's identity; it occurs in no id."""
UUID_BYTES = 16

MOST_TEXT_BYTES = 100_000
"""Klaviyo takes texts of 100 KB (reference: Klaviyo); it does not say which KB."""
MOST_BODY_BYTES = 5_000_000 - 1_000
"""A single event must fit a request of 5 MB with what stands around it."""
Members = dict[str, json.Value]
_NO_INVOICES: Members = {"invoices": "[]", "invoices_omitted": "1234567"}


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
    event = {
        "time": json.constant(planned_at.replace(microsecond=0).isoformat()),
        "value": properties["outstanding"],
        "value_currency": properties["currency"],
        "unique_id": properties["reminder_id"],
        "metric": json.constant(_resource("metric", {"name": policy.klaviyo.metric})),
    }
    profile = _profile(people)
    bare = _bulk_entry(profile, properties | _NO_INVOICES | by_currency, event).sizes()
    lists = _invoice_lists(listed, language, policy.klaviyo.invoices_listed, MOST_BODY_BYTES - bare)
    return pd.DataFrame(
        {
            "body": json.series(_bulk_entry(profile, properties | lists | by_currency, event).array()),
            "refusal": _refusals(decisions, people, carrying, bare),
        }
    ).set_axis(decisions["index"])


def _refusals(
    decisions: pd.DataFrame, people: pd.DataFrame, carrying: pd.DataFrame, bare: np.ndarray
) -> "pd.Series[str]":
    """Why Klaviyo would not take an event, whatever is left off its list; empty where it would."""
    texts = {
        "customer_id": decisions["customer_id"],
        "customer_name": people["name"],
        "carrying_invoice_number": carrying["number"],
        "payment_url": carrying["pay_url"],
    }
    refusals = pd.Series(None, decisions.index, dtype="str")
    for name, text in texts.items():
        size = _bytes(text)
        sentence = f"{name} has " + pd.Series(size).astype("str") + f" bytes, Klaviyo takes {MOST_TEXT_BYTES}"
        refusals = refusals.where(size <= MOST_TEXT_BYTES, sentence)
    sentence = "the event has " + pd.Series(bare).astype("str") + f" bytes, Klaviyo takes {MOST_BODY_BYTES}"
    return refusals.where(refusals.notna() | (bare <= MOST_BODY_BYTES), sentence)


def _bytes(text: "pd.Series[str]") -> np.ndarray:
    """Bytes of each text in UTF-8, 0 of an empty one."""
    return pc.fill_null(pc.binary_length(pa.array(text, type=pa.large_string())), 0).to_numpy(zero_copy_only=False)


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
        "workflow": json.strings(decisions["workflow"]),
        "action": json.strings(decisions["action"]),
        "action_position": json.integers(decisions["action_position"]),
        "action_count": json.integers(decisions["workflow"].map(lengths)),
        **_date_members("previous_contact_on", decisions["last_contact_on"], language),
        **_date_members("sent_on", display.day_column(as_of, len(decisions)), language),
    }


def _carrying_members(carrying: pd.DataFrame, language: pd.Series) -> Members:
    return {
        "currency": json.strings(carrying["currency"]),
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


def _total_members(totals: pd.DataFrame, currency: pd.Series, language: pd.Series) -> Members:
    members: Members = {}
    for name in ("due", "overdue", "outstanding"):
        members |= _money_members(name, totals[f"{name}_minor"], currency, language)
        members[f"{name}_count"] = json.integers(totals[f"{name}_count"])
    return members


def _invoice_lists(listed: pd.DataFrame, language: pd.Series, most: int, room: np.ndarray) -> Members:
    """The listed invoices of each reminder and how many more there are; `room` is in bytes."""
    candidates = listed[(_bytes(listed["number"]) <= MOST_TEXT_BYTES) & (_bytes(listed["pay_url"]) <= MOST_TEXT_BYTES)]
    candidates = candidates[candidates.groupby("row").cumcount() < most]
    items = _invoice_items(candidates, language.iloc[candidates["row"]]).array()
    row = candidates["row"].to_numpy()
    fits = _fitting(pc.binary_length(items).to_numpy().astype("int64") + 1, row, room)
    shown = np.bincount(row[fits], minlength=len(language))
    return {
        "invoices": json.lists(items if fits.all() else items.filter(pa.array(fits)), shown),
        "invoices_omitted": json.integers(np.bincount(listed["row"], minlength=len(language)) - shown),
    }


def _fitting(size: np.ndarray, row: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Whether each item fits behind those before it in its row; items of a row stand together."""
    used = np.cumsum(size)
    before = used - size
    first = np.flatnonzero(np.diff(row, prepend=-1))
    start = np.repeat(before[first], np.diff(first, append=len(row)))
    return used - start <= room[row]


def _invoice_items(shown: pd.DataFrame, language: pd.Series) -> json.Texts:
    currency = json.strings(shown["currency"])
    return json.objects(
        {
            "number": json.strings(shown["number"]),
            **_date_members("issued_on", shown["issued_on"], language),
            **_date_members("due_on", shown["due_on"], language),
            "currency": currency,
            **_money_members("total", shown["total_minor"], shown["currency"], language),
            **_money_members("outstanding", shown["open_minor"], shown["currency"], language),
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


def _money_members(name: str, minor: "pd.Series[int]", currency: pd.Series, language: pd.Series) -> Members:
    amounts = minor.to_numpy()
    return {
        name: json.decimals(amounts, _digits(currency)),
        f"{name}_display": json.strings(display.amounts(amounts, currency, language)),
    }


def _date_members(name: str, days: "pd.Series[pd.Timestamp]", language: pd.Series) -> Members:
    return {
        name: json.strings(display.iso_dates(days)),
        f"{name}_display": json.strings(display.dates(days, language)),
    }


def _digits(currency: pd.Series) -> np.ndarray:
    by_category = np.array([minor_digits(code) for code in currency.cat.categories], dtype="int64")
    return by_category[currency.cat.codes.to_numpy()]


def _profile(people: pd.DataFrame) -> json.Texts:
    """Identifiers only: whatever else an event says of a profile would overwrite it in Klaviyo."""
    names = {"email": "email", "phone": "phone_number", "external_id": "external_id"}
    return json.objects(
        {names[column]: json.strings(people[column]) for column in names if column in people}, omit_null=True
    )


def _resource(kind: str, attributes: object) -> dict[str, object]:
    return {"data": {"type": kind, "attributes": attributes}}


def _bulk_entry(profile: json.Texts, properties: Members, event: Members) -> json.Texts:
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
    return json.joined(before, profile, between, json.objects({"properties": json.objects(properties)} | event), after)


_HOLE = "\x00"
"""Marks in a constant where a column's text goes; JSON escapes it, so no value can hold it by accident."""
