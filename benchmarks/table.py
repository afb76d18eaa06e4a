"""One aligned table of what was measured, each figure beside its bound."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A row of the table; what is empty was not asked for."""

    size: str
    what: str
    seconds: float | None = None
    peak_gb: float | None = None
    ratio: str = ""
    bound: str = ""


HEADINGS = ("invoices", "what", "seconds", "peak GB", "ratio", "wanted")
TO_THE_RIGHT = (True, False, True, True, True, False)


def table(lines: Sequence[Line]) -> str:
    """The lines below their headings, columns as wide as they must be."""
    rows = [HEADINGS, *(_cells(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, TO_THE_RIGHT, strict=True)
        ]
        for row in rows
    ]
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def _cells(line: Line) -> tuple[str, ...]:
    return (line.size, line.what, _number(line.seconds), _number(line.peak_gb), line.ratio, line.bound)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
