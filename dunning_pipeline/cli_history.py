"""`dunning history …`: the sent history in files, from another system, back into the warehouse, beside Klaviyo's."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dunning_pipeline.cli_recording import date_option
from dunning_pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from dunning_pipeline.history_import import Imported
    from dunning_pipeline.reconciling import Reconciliation
    from dunning_pipeline.resources.warehouse import Warehouse

app = typer.Typer(
    help="The sent history: in files, from another system, back into the warehouse, beside Klaviyo's.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

DEFAULT_LISTED = 20


def parse_pair(text: str) -> tuple[str, str]:
    """`theirs=ours` of an option. Raises BadParameter."""
    left, separator, right = (part.strip() for part in text.partition("="))
    if not (left and separator and right):
        raise typer.BadParameter(f"'{text}' is not of the form NAME=VALUE")
    return left, right


@app.command("export")
def export(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Also write all of it here: .parquet or .csv.")
    ] = None,
) -> None:
    """Write what is not yet in DUNNING_HOME/history to files there; with FILE, a copy of the whole sent history."""
    from dunning_pipeline.history import history_folder, keep_history  # noqa: PLC0415
    from dunning_pipeline.history_export import export_history  # noqa: PLC0415

    settings, warehouse = _opened()
    with err.status("comparing warehouse and files"):
        written = keep_history(warehouse, settings.clock(), thorough=True)
    added = ", ".join(f"{number} rows of {name}" for name, number in written.rows.items())
    out.print(f"{history_folder(warehouse)} holds the whole history; added: {added or 'nothing'}.")
    if file:
        with err.status(f"writing {file}"):
            number = export_history(warehouse, file)
        out.print(f"{file} holds {number} rows of the sent history.")
    _name_damaged(written.damaged, "what the warehouse knows is in other files; put it away")


@app.command("restore")
def restore(
    add: Annotated[
        bool, typer.Option("--add", help="Into a warehouse that holds some history, such as an older copy.")
    ] = False,
) -> None:
    """Bring back from DUNNING_HOME/history what an empty warehouse lacks: sent history, and what people recorded."""
    from dunning_pipeline.history import restore_history  # noqa: PLC0415

    settings, warehouse = _opened()
    with err.status("restoring"):
        restored = restore_history(warehouse, settings.clock(), add=add)
    brought = ", ".join(f"{number} rows of {name}" for name, number in restored.rows.items())
    out.print(f"Restored: {brought or 'nothing, the warehouse has it all'}. `dunning run` pulls and decides anew.")
    _name_damaged(restored.damaged, "it was skipped")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV or Parquet, one row a contact.")],
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="THEIRS=OURS", help="Their name of a column, and ours. Repeatable."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=TEXT", help="The same text in every row. Repeatable."),
    ] = None,
    date_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help='Such as "%d.%m.%Y"; ISO dates by default.')
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHARACTER", help="Between columns; detected by default.")
    ] = None,
    as_events: Annotated[
        bool, typer.Option("--as-events", help="Also record them in Klaviyo, as events of the past that start no flow.")
    ] = False,
) -> None:
    """Take over contacts that another system made. Those whose contact_id is known stay as they are."""
    from dunning_pipeline.history_events import record_events, refuse_events  # noqa: PLC0415
    from dunning_pipeline.history_import import contacts_file, import_contacts  # noqa: PLC0415

    columns, values = dict(map(parse_pair, column or ())), dict(map(parse_pair, value or ()))
    settings, warehouse = _opened()
    mapped = contacts_file(file, columns=columns, values=values, date_format=date_format, delimiter=delimiter)
    if as_events:
        refuse_events(settings)
    with err.status(f"importing {file}"):
        imported = import_contacts(settings, warehouse, mapped)
    _print_imported(imported)
    if as_events:
        with err.status("recording events in Klaviyo"):
            recorded = record_events(settings, warehouse, imported.contact_ids)
        out.print(
            f"Klaviyo took {recorded.events} events of the past; left out: {recorded.unreachable} without an address "
            f"that works, {recorded.unlisted} not on sending.allow_list."
        )


@app.command("reconcile")
def reconcile(
    since: Annotated[date, date_option("The first day to compare, e.g. 2026-11-22.", "--since")],
    limit: Annotated[int, typer.Option(min=0, help="Most differences of each kind to list.")] = DEFAULT_LISTED,
) -> None:
    """Compare what was accepted here with what Klaviyo holds, both ways. Changes nothing; exits 1 on differences."""
    from dunning_pipeline.reconciling import reconcile as compare  # noqa: PLC0415

    settings, warehouse = _opened()
    with err.status("reading events from Klaviyo"):
        found = compare(settings, warehouse, since)
    _print_reconciliation(found, limit)
    if not found.agrees:
        raise typer.Exit(1)


def _opened() -> tuple[Settings, "Warehouse"]:
    from dunning_pipeline.resources.warehouse import Warehouse  # noqa: PLC0415

    settings = load_settings()
    return settings, Warehouse(settings.warehouse_path)


def _name_damaged(damaged: Mapping[str, str], consequence: str) -> None:
    """Names the files that cannot be trusted; there being some is an error."""
    for name, problem in damaged.items():
        err.print(f"{name} is {problem}; {consequence}")
    if damaged:
        raise typer.Exit(1)


def _print_imported(imported: "Imported") -> None:
    from dunning_pipeline.masking import masked  # noqa: PLC0415

    out.print(
        f"{imported.contacts} contacts were imported; {imported.known} were known already; "
        f"{imported.duplicates} stood in the file twice; {imported.rejected} rows were rejected."
    )
    for reason, number in imported.reasons.items():
        out.print(f"  {number} rejected: {masked(reason)}")
    for doubt in imported.doubts:
        out.print(f"Of the contacts in the file, {masked(doubt)}.")


def _print_reconciliation(found: "Reconciliation", limit: int) -> None:
    out.print(
        f"Since {found.since}, {found.accepted} reminders were accepted here, and Klaviyo holds {found.held} events."
    )
    if found.settling:
        out.print(f"{found.settling} were accepted a few minutes ago and may not show in Klaviyo yet.")
    if found.agrees:
        out.print("Both sides know the same.")
        return
    out.print(f"Accepted here but not held there: {len(found.missing_there)}")
    for ours in found.missing_there[:limit]:
        out.print(f"  {ours.reminder_id}  customer {ours.customer_id}, {ours.contact_on}")
    out.print(f"Held there but not accepted here: {len(found.unknown_here)}")
    for theirs in found.unknown_here[:limit]:
        here = f"last outcome here: {theirs.outcome}" if theirs.outcome else "unknown here"
        out.print(f"  {theirs.reminder_id}  {theirs.time:%Y-%m-%d %H:%M} UTC, {here}")
    omitted = sum(max(0, len(side) - limit) for side in (found.missing_there, found.unknown_here))
    if omitted:
        out.print(f"{omitted} more are not listed; --limit lists more.")
