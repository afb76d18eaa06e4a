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
    cpu_seconds: float | None = None


HEADINGS = ("invoices", "what", "seconds", "CPU s", "peak GB", "ratio", "wanted")
SENDING_HEADINGS = ("reminders", "what", "seconds", "CPU s", "peak GB", "figure", "wanted")
ORDER_HEADINGS = ("number", "what", "seconds", "CPU s", "peak GB", "figure", "wanted")
TO_THE_RIGHT = (True, False, True, True, True, True, False)


def table(lines: Sequence[Line], headings: Sequence[str] = HEADINGS) -> str:
    """The lines below their headings, columns as wide as they must be; one that nobody fills is left out."""
    columns = list(zip(headings, *(_cells(line) for line in lines), strict=True))
    aligned = [
        [cell.rjust(width) if right else cell.ljust(width) for cell in column]
        for column, right in zip(columns, TO_THE_RIGHT, strict=True)
        if any(column[1:])
        for width in [max(map(len, column))]
    ]
    return "\n".join("  ".join(row).rstrip() for row in zip(*aligned, strict=True))


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.size,
        line.what,
        _number(line.seconds),
        _number(line.cpu_seconds),
        _number(line.peak_gb),
        line.ratio,
        line.bound,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
