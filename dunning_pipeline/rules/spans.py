"""Spans of days: what holds for a key from `start` up to the day before `stop`. Arrays only; no rule is in here.

Keys are int64 from 0 to 2^38, days int64 since 1970. No span is empty; those of a key may overlap unless it is said
that they are disjoint.
"""

from dataclasses import dataclass

import numpy as np

DAY_BITS = 24
_EPOCH = 1 << DAY_BITS - 1
NOTHING = np.iinfo("int64").max
"""Marks days on which no span holds."""


@dataclass(frozen=True)
class Spans:
    """One span per row."""

    key: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: np.ndarray) -> "Spans":
        """Some of the spans."""
        return Spans(self.key[rows], self.start[rows], self.stop[rows])


def packed(key: np.ndarray, day: np.ndarray) -> np.ndarray:
    """Integers that order by key, then by day."""
    return (key << DAY_BITS) + (day + _EPOCH)


def unpacked(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys and days of what was `packed`."""
    return places >> DAY_BITS, (places & (1 << DAY_BITS) - 1) - _EPOCH


def distinct(values: np.ndarray) -> np.ndarray:
    """The values in order, each once. (np.unique hashes, which takes a hundred times as long.)"""
    values = np.sort(values)
    return values[begins(values)]


def begins(ordered: np.ndarray) -> np.ndarray:
    """Whether each value differs from the one before it."""
    different = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=different[1:])
    return different


def place_in(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each value stands among distinct ones in order; -1 where it does not."""
    if not len(ordered):
        return np.full(len(values), -1)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.where(ordered[place] == values, place, -1)


def numbered(values: np.ndarray) -> np.ndarray:
    """For each value its place among the distinct ones."""
    order = np.argsort(values)
    numbers = np.empty(len(values), dtype="int64")
    numbers[order] = np.cumsum(begins(values[order])) - 1
    return numbers


def running_sums(amounts: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Sums so far, each from the last row marked in `begin` on (the first row is one)."""
    sums = np.cumsum(amounts)
    before = (sums - amounts)[begin]
    return sums - before[np.cumsum(begin) - 1]


def sums_at(cuts: np.ndarray, places: np.ndarray, amounts: np.ndarray | int) -> np.ndarray:
    """The sum of the amounts at each of the cuts, which are distinct, in order, and among them all places."""
    sums = np.zeros(len(cuts), dtype="int64")
    order = np.argsort(places)
    np.add.at(sums, np.searchsorted(cuts, places[order]), np.broadcast_to(amounts, places.shape)[order])
    return sums


@dataclass(frozen=True)
class Steps:
    """A number for each key and day: one of `values` from the key and day on that `places` has packed, 0 before."""

    places: np.ndarray
    values: np.ndarray

    @classmethod
    def sums(cls, spans: Spans, amounts: np.ndarray | int) -> "Steps":
        """Of all spans that hold for a key the sum of their amounts."""
        begun, ended = packed(spans.key, spans.start), packed(spans.key, spans.stop)
        places = distinct(np.concatenate([begun, ended]))
        changes = sums_at(places, begun, amounts) - sums_at(places, ended, amounts)
        return cls(places, running_sums(changes, begins(unpacked(places)[0])))

    def on(self, key: np.ndarray, day: np.ndarray) -> np.ndarray:
        """The number of each key on a day."""
        wanted = packed(key, day)
        at = np.searchsorted(self.places, wanted, "right") - 1
        known = (at >= 0) & (np.append(self.places, -1)[at] >> DAY_BITS == key)
        return np.where(known, np.append(self.values, 0)[at], 0)


def first_of(spans: Spans) -> tuple[Spans, np.ndarray]:
    """For each key and day the first of the spans that hold.

    Args:
        spans: in order of precedence; may overlap.

    Returns:
        Disjoint spans in order of key and day, cut wherever one of the key's spans begins or ends, and for each of
        them the row of `spans` that it is of.
    """
    begin, end = packed(spans.key, spans.start), packed(spans.key, spans.stop)
    cuts = distinct(np.concatenate([begin, end]))
    first = _lowest(np.searchsorted(cuts, begin), np.searchsorted(cuts, end), len(cuts))
    held = np.flatnonzero(first != NOTHING)
    key, start = unpacked(cuts[held])
    _, stop = unpacked(cuts[held + 1])
    return Spans(key, start, stop), first[held]


def _lowest(begin: np.ndarray, end: np.ndarray, cells: int) -> np.ndarray:
    """For each cell the lowest row whose range [begin, end) has it in it; NOTHING where none has.

    A range is covered by two that overlap and whose length is a power of two. Long ones are handed down to the two
    halves that they consist of, so that the work grows with the rows and the cells, and not with the ranges' lengths.
    """
    level = np.log2(end - begin).astype("int64")
    lowest = np.full(cells, NOTHING)
    for size in range(level.max(initial=0), -1, -1):
        rows = np.flatnonzero(level == size)
        np.minimum.at(lowest, begin[rows], rows)
        np.minimum.at(lowest, end[rows] - (1 << size), rows)
        if size:
            half = 1 << size - 1
            lowest[half:] = np.minimum(lowest[half:], lowest[:-half])
    return lowest


def crossed(left: Spans, right: Spans) -> tuple[Spans, np.ndarray, np.ndarray]:
    """Where spans of the same key hold on both sides.

    Args:
        left: may overlap.
        right: disjoint, in order of key and day.

    Returns:
        The common spans in order of `left`, then of `right`, and the rows of `left` and `right` that they are of.
    """
    low = np.searchsorted(packed(right.key, right.stop), packed(left.key, left.start), "right")
    high = np.searchsorted(packed(right.key, right.start), packed(left.key, left.stop), "left")
    of_left, of_right = expanded(low, high)
    start = np.maximum(left.start[of_left], right.start[of_right])
    stop = np.minimum(left.stop[of_left], right.stop[of_right])
    return Spans(left.key[of_left], start, stop), of_left, of_right


def cut(spans: Spans, key: np.ndarray, day: np.ndarray) -> tuple[Spans, np.ndarray]:
    """The spans, cut at days of their keys, and for each piece the row of `spans` that it is of."""
    cuts = distinct(packed(key, day))
    low = np.searchsorted(cuts, packed(spans.key, spans.start), "right")
    high = np.searchsorted(cuts, packed(spans.key, spans.stop), "left")
    row, piece = expanded(low, high + 1)
    days = unpacked(np.append(cuts, 0))[1]
    start = np.where(piece == low[row], spans.start[row], days[piece - 1])
    stop = np.where(piece == high[row], spans.stop[row], days[piece])
    return Spans(spans.key[row], start, stop), row


def joined(spans: Spans, content: np.ndarray) -> tuple[Spans, np.ndarray]:
    """Neighbouring spans of a key with the same content as one, and for each the first row that it is of.

    Args:
        spans: disjoint, in order of key and day.
        content: what holds in each span, as integers.
    """
    new = begins(spans.key) | begins(content)
    new[1:] |= spans.start[1:] != spans.stop[:-1]
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(spans)) - 1 if len(spans) else first
    return Spans(spans.key[first], spans.start[first], spans.stop[last]), first


def expanded(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of a row and an integer of its range [low, high), in that order."""
    count = np.maximum(high - low, 0)
    row = np.repeat(np.arange(len(low)), count)
    return row, np.arange(count.sum()) - np.repeat(np.cumsum(count) - count - low, count)
