"""How reports look on a terminal. What is in them is made in reports.py."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dunning_pipeline.reports import DayReport


def print_day(report: DayReport, out: Console) -> None:
    """How many owe, how many are reminded, and why the others are not."""
    out.print(f"{report.as_of}: {report.owing} customers owe something, {report.reminded} are to be reminded.")
    print_counts("Customers by outcome", "outcome", "customers", report.by_outcome, out)
    if report.rejected_rows:
        out.print(f"{report.rejected_rows} source rows were rejected: look at source.rejected_rows.")


def print_counts(title: str, of: str, counted: str, counts: Mapping[str, int], out: Console) -> None:
    """A table of counts."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(of)
    table.add_column(counted, justify="right")
    for name, number in counts.items():
        table.add_row(name, str(number))
    out.print(table)
