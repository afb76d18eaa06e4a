"""How reports look on a terminal. What is in them is made in reports.py, preview.py, replay.py and explain.py."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date
from itertools import chain

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dunning_pipeline.explaining.explanation import Explanation, Step
from dunning_pipeline.preview import Preview
from dunning_pipeline.replay import Differences, Judgement, Stored, Summary
from dunning_pipeline.reports import DayReport

INDENT = "  "
WIDEST = 100
"""Columns of text on a terminal, where that is wider."""

MOST_DAYS_LISTED = 31
SHORT_HASH = 12
"""Characters of a policy's hash that tell it from others."""

Counts = Mapping[tuple[str, ...], int]
"""How many, by the texts of the first columns of a table."""


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


def print_explanation(told: Explanation, out: Console) -> None:
    """A story in paragraphs. Sentences are wrapped on a terminal and stay one line each where they are piped."""
    name = f"{told.customer_name} ({told.customer_id})" if told.customer_name else f"Customer {told.customer_id}"
    out.print(f"[bold]{escape(name)}[/bold] on {told.as_of:%a} {told.as_of.day} {told.as_of:%b %Y}")
    for outcome in told.outcomes:
        _print_sentence(outcome, out)
    for part in told.parts:
        if part.heading:
            out.print(f"\n[bold]{escape(part.heading)}[/bold]")
        for step in part.steps:
            _print_step(step, out)


def print_steps(subject: str, day: date, steps: Sequence[Step], out: Console) -> None:
    """A story in steps, of what it is about and by the end of a day."""
    out.print(f"[bold]{escape(subject)}[/bold] by the end of {day:%a} {day.day} {day:%b %Y}")
    for step in steps:
        _print_step(step, out)


def _print_step(step: Step, out: Console) -> None:
    rules = f"rule{'' if len(step.rules) == 1 else 's'} {', '.join(step.rules)}"
    out.print(f"\n[bold]{step.title}[/bold]  [dim]{rules}[/dim]")
    for sentence in step.sentences:
        _print_sentence(sentence, out)


def _print_sentence(sentence: str, out: Console) -> None:
    lines = [sentence]
    if out.is_terminal:
        width = min(out.width, WIDEST) - len(INDENT)
        lines = textwrap.wrap(sentence, width, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False)
    for line in lines:
        out.print(f"{INDENT}{line}", markup=False, soft_wrap=True)


def print_judgement(judged: Judgement, out: Console) -> None:
    """A replay in figures; with another one beside it, how they differ."""
    replays = [one for one in (judged.summary, judged.other) if one]
    for one in replays:
        out.print(
            f"Replay {one.replay_id}, {one.first} to {one.last}: {one.reminders} reminders to {one.reached} customers. "
            f"{one.chaseable_customers} had something chaseable; {one.never_reached} of them were never reached."
        )
    unit, by_time = _by_day_or_month(replays)
    _print_beside("Reminders by action", ("workflow", "action"), [one.by_action for one in replays], out)
    _print_beside(f"Reminders by {unit}", (unit,), by_time, out)
    _print_beside("Customers by number of reminders", ("reminders",), [_by_number(one) for one in replays], out)
    if judged.differences:
        _print_differences(judged.differences, out)


def _by_day_or_month(replays: Sequence[Summary]) -> tuple[str, Sequence[Counts]]:
    """The reminders of each day, or of each month where that would be a long list."""
    is_long = any((one.last - one.first).days >= MOST_DAYS_LISTED for one in replays)
    form, unit = ("%Y-%m", "month") if is_long else ("%Y-%m-%d", "day")
    # Every replay begins with all of them, so that they stay in order.
    every = sorted({day.strftime(form) for one in replays for day in one.by_day})
    counts: list[Counter[tuple[str, ...]]] = [Counter({(name,): 0 for name in every}) for _ in replays]
    for count, one in zip(counts, replays, strict=True):
        for day, reminders in one.by_day.items():
            count[day.strftime(form),] += reminders
    return unit, counts


NUMBERS = {"none": 0, **{str(number): number for number in range(1, 11)}, "11 to 20": 20, "21 to 50": 50}
"""Names of ranges of numbers by their ends; what is beyond has none."""


def _by_number(replay: Summary) -> Counts:
    """How many customers got how many reminders, large numbers taken together."""
    counts: Counter[tuple[str, ...]] = Counter({(name,): 0 for name in NUMBERS})
    for number, customers in {0: replay.never_reached, **replay.by_customer}.items():
        counts[next((name for name, end in NUMBERS.items() if number <= end), "more"),] += customers
    return counts


def _print_beside(title: str, headings: Sequence[str], replays: Sequence[Counts], out: Console) -> None:
    """A table of counts with a column for each replay."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading)
    for name in ("this policy", "the other") if len(replays) > 1 else ("number",):
        table.add_column(name, justify="right")
    for row in dict.fromkeys(chain.from_iterable(replays)):
        table.add_row(*map(escape, row), *(str(one.get(row, 0)) for one in replays))
    if table.row_count:
        out.print(table)


def _print_differences(found: Differences, out: Console) -> None:
    out.print(
        f"The same reminder on the same day: {found.same_day}; on another day: {found.moved}; "
        f"of this policy alone: {found.only_one}; of the other alone: {found.only_other}."
    )
    out.print(
        f"Customers that only this policy reaches: {found.customers_only_one}; "
        f"that only the other reaches: {found.customers_only_other}."
    )


def print_replays(title: str, replays: Sequence[Stored], out: Console) -> None:
    """A table of stored replays in the order given."""
    table = Table(title=title, title_justify="left", title_style="bold")
    # Its id is what a replay is deleted by, so that it is whole on narrow terminals too.
    table.add_column("id", min_width=max(len(one.replay_id) for one in replays))
    for heading in ("first day", "last day"):
        table.add_column(heading)
    table.add_column("reminders", justify="right")
    table.add_column("policy", min_width=SHORT_HASH)
    table.add_column("made at")
    for one in replays:
        made_at = one.created_at.astimezone(UTC)
        table.add_row(
            one.replay_id,
            str(one.first),
            str(one.last),
            str(one.reminders),
            one.policy_hash[:SHORT_HASH],
            f"{made_at:%Y-%m-%d %H:%M} UTC",
        )
    out.print(table)
