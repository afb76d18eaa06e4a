"""The form of the bodies that Klaviyo gets: events, frozen as JSON texts, put into requests byte for byte.

What an event says is decided in rules/reminders; nothing is sent here.
"""

import itertools
import json
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

BULK_HEAD = '{"data":{"type":"event-bulk-create-job","attributes":{"events-bulk-create":{"data":['
BULK_TAIL = "]}}}}"
MOST_EVENTS = 1_000
MOST_BYTES = 5 * 1024 * 1024
"""Of one request, both endpoints; decompressed."""

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def bulk_body(entries: "Sequence[str] | pd.Series[str]") -> bytes:
    """The body of a bulk request; `entries` are its `event-bulk-create` objects as JSON texts, at least one.

    They are joined as the bytes that they are in memory, and copied once: a string of each, or a second copy of the
    whole, costs ten times as much.
    """
    texts = _texts(entries)
    ends = np.frombuffer(texts.buffers()[1], dtype="int64")[texts.offset : texts.offset + len(texts) + 1]
    data = memoryview(texts.buffers()[2])
    parts: list[bytes | memoryview] = [data[start:end] for start, end in itertools.pairwise(ends.tolist())]
    parts[0] = BULK_HEAD.encode() + parts[0]
    parts[-1] = bytes(parts[-1]) + BULK_TAIL.encode()
    return b",".join(parts)


def sizes(entries: "pd.Series[str]") -> list[int]:
    """Bytes of each text in UTF-8."""
    lengths: list[int] = pc.binary_length(_texts(entries)).to_pylist()
    return lengths


def single_body(entry: str) -> bytes:
    """The body of a request for one event, from the entry of a bulk request with one event in it.

    All values stay the texts they were: parsed and written anew, an amount could become another one.

    Raises:
        ValueError: `entry` is not such an entry.
    """
    try:
        outer = _members(_members(entry)["attributes"])
        attributes = _members(_members(_only_item(_members(outer["events"])["data"]))["attributes"])
    except (LookupError, json.JSONDecodeError) as error:
        raise ValueError(f"not an entry of a bulk request with one event: {type(error).__name__}") from None
    attributes |= {name: outer[name] for name in ("backfill", "profile") if name in outer}
    written = ",".join(f"{json.dumps(name)}:{value}" for name, value in attributes.items())
    return ('{"data":{"type":"event","attributes":{' + written + "}}}").encode()


def _members(text: str) -> dict[str, str]:
    """The members of a JSON object, each value the very text it has there."""
    at = _after(text, 0, "{")
    members = {}
    while text[at] != "}":
        name, end = _DECODER.raw_decode(text, at)
        start = _after(text, end, ":")
        _, end = _DECODER.raw_decode(text, start)
        members[str(name)] = text[start:end]
        at = _past_space(text, end)
        at = _after(text, at, ",") if text[at] == "," else at
    return members


def _only_item(text: str) -> str:
    start = _after(text, 0, "[")
    _, end = _DECODER.raw_decode(text, start)
    _after(text, end, "]")
    return text[start:end]


def _after(text: str, at: int, sign: str) -> int:
    """The place of what follows `sign`, which must be the next thing at `at`."""
    at = _past_space(text, at)
    if text[at] != sign:
        raise LookupError(sign)
    return _past_space(text, at + 1)


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _texts(entries: "Sequence[str] | pd.Series[str]") -> pa.LargeStringArray:
    texts = pa.array(entries).cast(pa.large_string())
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
