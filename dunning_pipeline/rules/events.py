"""What the events of both streams are made of: ids, members for amounts and dates, the entry of a bulk request.

What a reminder says is reminders.py's and order_events.py's.
"""

import hashlib
import uuid
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

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
"""Columns of JSON texts by the name of the member they are."""


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


def text_bytes(text: "pd.Series[str]") -> np.ndarray:
    """Bytes of each text in UTF-8, 0 of an empty one."""
    return pc.fill_null(pc.binary_length(pa.array(text, type=pa.large_string())), 0).to_numpy(zero_copy_only=False)


def too_long(texts: Mapping[str, "pd.Series[str]"], bare: np.ndarray) -> "pd.Series[str]":
    """Why Klaviyo would not take an event, as a sentence; empty where it would.

    Args:
        texts: texts of the events, by name.
        bare: bytes of each event without what can be left off it.
    """
    refusals = pd.Series(None, pd.RangeIndex(len(bare)), dtype="str")
    for name, text in texts.items():
        size = text_bytes(text)
        sentence = f"{name} has " + pd.Series(size).astype("str") + f" bytes, Klaviyo takes {MOST_TEXT_BYTES}"
        refusals = refusals.where(size <= MOST_TEXT_BYTES, sentence)
    sentence = "the event has " + pd.Series(bare).astype("str") + f" bytes, Klaviyo takes {MOST_BODY_BYTES}"
    return refusals.where(refusals.notna() | (bare <= MOST_BODY_BYTES), sentence)


def fitting(size: np.ndarray, row: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Whether each item fits behind those before it in its row; items of a row stand together."""
    used = np.cumsum(size)
    before = used - size
    first = np.flatnonzero(np.diff(row, prepend=-1))
    start = np.repeat(before[first], np.diff(first, append=len(row)))
    return used - start <= room[row]


def event_members(properties: Members, metric: str, planned_at: datetime) -> Members:
    """What Klaviyo wants of an event beside its properties; its value is what is outstanding.

    Args:
        properties: with reminder_id, outstanding and currency.
        metric: name of the metric.
        planned_at: the event's time, an aware instant.
    """
    return {
        "time": json.constant(planned_at.replace(microsecond=0).isoformat()),
        "value": properties["outstanding"],
        "value_currency": properties["currency"],
        "unique_id": properties["reminder_id"],
        "metric": json.constant(_resource("metric", {"name": metric})),
    }


def money_members(name: str, minor: "pd.Series[int]", currency: pd.Series, language: pd.Series) -> Members:
    amounts = minor.to_numpy()
    return {
        name: json.decimals(amounts, _digits(currency)),
        f"{name}_display": json.strings(display.amounts(amounts, currency, language)),
    }


def date_members(name: str, days: "pd.Series[pd.Timestamp]", language: pd.Series) -> Members:
    return {
        name: json.strings(display.iso_dates(days)),
        f"{name}_display": json.strings(display.dates(days, language)),
    }


def _digits(currency: pd.Series) -> np.ndarray:
    by_category = np.array([minor_digits(code) for code in currency.cat.categories], dtype="int64")
    return by_category[currency.cat.codes.to_numpy()]


def profile(people: pd.DataFrame) -> json.Texts:
    """Identifiers only: whatever else an event says of a profile would overwrite it in Klaviyo."""
    names = {"email": "email", "phone": "phone_number", "external_id": "external_id"}
    return json.objects(
        {names[column]: json.strings(people[column]) for column in names if column in people}, omit_null=True
    )


def _resource(kind: str, attributes: object) -> dict[str, object]:
    return {"data": {"type": kind, "attributes": attributes}}


def bulk_entry(profile: json.Texts, properties: Members, event: Members) -> json.Texts:
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
