"""JSON text built column by column: one Arrow string array in, one out, no loop over rows.

Every function returns JSON texts; members of objects and items of lists are such texts already.
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

CONTROL_CHARACTERS = [chr(code) for code in (*range(0x20), 0x7F)]


def constant(value: object) -> str:
    """The JSON text of one value, the same for every row."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def strings(values: Iterable[object]) -> pa.Array:
    """JSON strings; empty values become `null`."""
    text = _array(values)
    text = pc.replace_substring(text, "\\", "\\\\")
    text = pc.replace_substring(text, '"', '\\"')
    if pc.any(pc.match_substring_regex(text, r"[\x00-\x1f\x7f]")).as_py():
        for character in CONTROL_CHARACTERS:
            text = pc.replace_substring(text, character, json.dumps(character)[1:-1])
    return _or_null(joined('"', text, '"'))


def integers(values: Iterable[object]) -> pa.Array:
    """JSON numbers of whole numbers; empty values become `null`."""
    return _or_null(pc.cast(pa.array(values, type=pa.int64(), from_pandas=True), pa.string()))


def booleans(values: Iterable[object]) -> pa.Array:
    """`true` and `false`."""
    return pc.if_else(pa.array(values, type=pa.bool_()), "true", "false")


def decimals(minor: np.ndarray, digits: np.ndarray) -> pa.Array:
    """Exact JSON numbers of money: 30853 minor units with 2 digits are `308.53`, without any detour by floats."""
    result = np.empty(len(minor), dtype=object)
    for places in np.unique(digits):
        rows = digits == places
        result[rows] = _decimal_text(minor[rows], int(places)).to_numpy(zero_copy_only=False)
    return pa.array(result, type=pa.string())


def objects(members: Mapping[str, pa.Array | str], *, omit_null: bool = False) -> pa.Array:
    """JSON objects from columns of member values; a plain `str` is the same value in every object.

    Args:
        members: values by name, at least one of them a column.
        omit_null: leave out members that are `null` instead of writing them.
    """
    parts: list[pa.Array | str] = []
    for name, value in members.items():
        member = joined(f",{json.dumps(name)}:", value)
        parts.append(pc.if_else(pc.equal(value, "null"), "", member) if omit_null else member)
    inner = pc.utf8_slice_codeunits(joined(*parts), start=1)
    return joined("{", inner, "}")


def lists(items: pa.Array, counts: np.ndarray) -> pa.Array:
    """JSON lists: the first `counts[0]` items, the next `counts[1]`, and so on."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), type=pa.int32())
    return joined("[", pc.binary_join(pa.ListArray.from_arrays(offsets, _combined(items)), ","), "]")


def _decimal_text(minor: np.ndarray, places: int) -> pa.Array:
    unit = 10**places
    sign = pc.if_else(pa.array(minor < 0), "-", "")
    whole = pc.cast(pa.array(np.abs(minor) // unit), pa.string())
    if not places:
        return joined(sign, whole)
    return joined(sign, whole, ".", padded(np.abs(minor) % unit, places))


def padded(numbers: np.ndarray, width: int) -> pa.Array:
    """Whole numbers as text with leading zeros."""
    return pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")


def joined(*parts: pa.Array | str) -> pa.Array:
    """Texts one behind the other, row by row."""
    return pc.binary_join_element_wise(*parts, "")


def _or_null(texts: pa.Array) -> pa.Array:
    return pc.fill_null(texts, "null")


def _array(values: Iterable[object]) -> pa.Array:
    return _combined(pa.array(values, type=pa.string(), from_pandas=True))


def _combined(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def series(texts: pa.Array) -> "pd.Series[str]":
    """Texts as a pandas column."""
    return pd.Series(_combined(texts).to_pandas(), dtype="str")
