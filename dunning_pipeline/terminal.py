"""How reports look on a terminal. What is in them is made in reports.py."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dunning_pipeline.preview import Preview
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


def print_preview(decided: Preview, limit: int, out: Console) -> None:
    """The first reminders of a day, at most `limit`, and then what `print_day` prints."""
    table = Table(title="Who would be reminded", title_justify="left", title_style="bold")
    for heading in ("customer", "name", "action", "carrying invoice"):
        table.add_column(heading)
    table.add_column("outstanding", justify="right")
    for row in decided.reminders[:limit]:
        cells = (row.customer_id, row.customer_name, row.action, row.carrying_invoice, row.outstanding)
        table.add_row(*map(escape, cells))
    if table.row_count:
        out.print(table)
    if omitted := len(decided.reminders) - table.row_count:
        out.print(f"{omitted} more are not listed; --limit lists more.")
    print_day(decided.report, out)
