"""JSON text built column by column: Arrow string arrays in, one out, no loop over rows.

Members of objects and items of lists are JSON texts already. Texts are joined as late as possible, because each joining
copies every byte: an object holds the parts of its members until `Texts.array` asks for the whole.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

CONTROL_CHARACTERS = [chr(code) for code in (*range(0x20), 0x7F)]
ESCAPED = ("\\", '"', *CONTROL_CHARACTERS)
"""What a JSON string may not hold as it is, the backslash first."""
_ESCAPED_BYTES = "".join(ESCAPED).encode()


@dataclass(frozen=True)
class Texts:
    """A column of texts as what stands behind each other in every row: columns, and texts that are always the same."""

    parts: tuple[pa.Array | str, ...]

    def array(self) -> pa.Array:
        """The texts themselves."""
        merged: list[pa.Array | str] = []
        for part in self.parts:
            if isinstance(part, str) and merged and isinstance(merged[-1], str):
                merged[-1] += part
            else:
                merged.append(part)
        return pc.binary_join_element_wise(*merged, "") if len(merged) > 1 else merged[0]

    def sizes(self) -> np.ndarray:
        """Bytes of each text in UTF-8."""
        constants = sum(len(part.encode()) for part in self.parts if isinstance(part, str))
        columns = [pc.binary_length(part) for part in self.parts if not isinstance(part, str)]
        return sum((column.to_numpy(zero_copy_only=False).astype("int64") for column in columns), np.array(constants))


Value: TypeAlias = Texts | pa.Array | str
"""A column of JSON texts, or one that is the same in every row."""


def constant(value: object) -> str:
    """The JSON text of one value, the same for every row."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def strings(values: Iterable[object]) -> Texts:
    """JSON strings; empty values become `null`."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
        return Texts((_taken(strings(values.cat.categories).array(), values.cat.codes.to_numpy()),))
    text = _escaped(_array(values))
    quoted = Texts(('"', text, '"'))
    return Texts((_or_null(quoted.array()),)) if text.null_count else quoted


def integers(values: Iterable[object]) -> Texts:
    """JSON numbers of whole numbers; empty values become `null`."""
    return Texts((_or_null(pc.cast(pa.array(values, type=pa.int64(), from_pandas=True), pa.string())),))


def booleans(values: Iterable[object]) -> Texts:
    """`true` and `false`."""
    return Texts((pc.if_else(pa.array(values, type=pa.bool_()), "true", "false"),))


def decimals(minor: np.ndarray, digits: np.ndarray) -> Texts:
    """Exact JSON numbers of money: 30853 minor units with 2 digits are `308.53`, without any detour by floats."""
    places = np.unique(digits)
    if len(places) == 1:
        return _decimal_texts(minor, int(places[0]))
    return Texts((in_groups(digits, places, lambda rows, at: _decimal_texts(minor[rows], int(places[at])).array()),))


def in_groups(keys: np.ndarray, distinct: np.ndarray, texts_of: Callable[[np.ndarray, int], pa.Array]) -> pa.Array:
    """One column of what `texts_of` gives for the rows of each of the `distinct` keys, which it knows by its place."""
    rows = [np.flatnonzero(keys == key) for key in distinct]
    if not rows:
        return pa.array([], type=pa.string())
    texts = pa.concat_arrays([texts_of(some, at) for at, some in enumerate(rows)])
    place = np.empty(len(keys), dtype="int64")
    place[np.concatenate(rows)] = np.arange(len(keys))
    return texts.take(pa.array(place))


def objects(members: Mapping[str, Value], *, omit_null: bool = False) -> Texts:
    """JSON objects from columns of member values; a plain `str` is the same value in every object.

    Args:
        members: values by name, at least one of them a column.
        omit_null: leave out members that are `null` instead of writing them.
    """
    if omit_null:
        return _objects_without_null(members)
    parts: list[Value] = []
    for separator, (name, value) in zip(["{", *[","] * len(members)], members.items(), strict=False):
        parts += [f"{separator}{json.dumps(name)}:", value]
    return joined(*parts, "}")


def _objects_without_null(members: Mapping[str, Value]) -> Texts:
    parts = []
    for name, value in members.items():
        text = joined(value).array()
        member = joined(f",{json.dumps(name)}:", text).array()
        parts.append(pc.if_else(pc.equal(text, "null"), "", member))
    return joined("{", pc.utf8_slice_codeunits(joined(*parts).array(), start=1), "}")


def lists(items: pa.Array, counts: np.ndarray) -> Texts:
    """JSON lists: the first `counts[0]` items, the next `counts[1]`, and so on."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), type=pa.int32())
    return Texts(("[", pc.binary_join(pa.ListArray.from_arrays(offsets, _combined(items)), ","), "]"))


def where(there: "pd.Series[bool]", value: Value) -> Texts:
    """The values where there is one; `null` in the other rows."""
    return Texts((pc.if_else(pa.array(there, type=pa.bool_()), joined(value).array(), "null"),))


def joined(*parts: Value) -> Texts:
    """Texts one behind the other, row by row."""
    return Texts(tuple(piece for part in parts for piece in (part.parts if isinstance(part, Texts) else (part,))))


def padded(numbers: np.ndarray, width: int) -> pa.Array:
    """Whole numbers below 10 to the power of `width` as text with leading zeros."""
    return _padded_numbers(width).take(pa.array(numbers))


def series(texts: pa.Array) -> "pd.Series[str]":
    """Texts as a pandas column."""
    return pd.Series(pd.array(_combined(texts), dtype="str"))


@cache
def _padded_numbers(width: int) -> pa.Array:
    return pa.array([f"{number:0{width}d}" for number in range(10**width)])


def _decimal_texts(minor: np.ndarray, places: int) -> Texts:
    unit = 10**places
    size = np.abs(minor)
    sign = pc.if_else(pa.array(minor < 0), "-", "") if (minor < 0).any() else ""
    whole = pc.cast(pa.array(size // unit), pa.string())
    return joined(sign, whole, ".", padded(size % unit, places)) if places else joined(sign, whole)


def _escaped(text: pa.Array) -> pa.Array:
    if not _holds_escaped(text):
        return text
    for character in ESCAPED:
        text = pc.replace_substring(text, character, json.dumps(character)[1:-1])
    return text


def _holds_escaped(text: pa.Array) -> bool:
    """Whether anything must be escaped: asked of the bytes of the whole column, which costs next to nothing."""
    held = memoryview(text.buffers()[2] or b"")
    return len(bytes(held).translate(None, _ESCAPED_BYTES)) < len(held)


def _taken(texts: pa.Array, codes: np.ndarray) -> pa.Array:
    """The text of each code; -1 is none, `null`."""
    with_null = pa.concat_arrays([texts, pa.array(["null"], type=texts.type)])
    return with_null.take(pa.array(np.where(codes < 0, len(texts), codes)))


def _or_null(texts: pa.Array) -> pa.Array:
    return pc.fill_null(texts, "null")


def _array(values: Iterable[object]) -> pa.Array:
    return _combined(pa.array(values, type=pa.string(), from_pandas=True))


def _combined(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
