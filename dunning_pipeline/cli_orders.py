"""`dunning orders …`: the order side once, as its job does it; the story of an order."""

from datetime import date
from typing import Annotated

import typer
from rich.console import Console

from dunning_pipeline.cli_recording import date_option
from dunning_pipeline.errors import SendingRefused
from dunning_pipeline.settings import load_settings

app = typer.Typer(
    help="Events about edited orders that have something left to pay.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command()
def run(
    send: Annotated[bool, typer.Option("--send", help="Send what is due; needs sending.live: true.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm", help="With --send: however many events these are.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Pull everything again, not only what changed.")] = False,
) -> None:
    """Pull what changed about orders and decide; with --send, send the events that are due, as order_reminders does."""
    from dunning_pipeline.local_run import dagster_instance, run_orders  # noqa: PLC0415
    from dunning_pipeline.reports import order_report, sent_counts  # noqa: PLC0415
    from dunning_pipeline.resources.warehouse import Warehouse  # noqa: PLC0415
    from dunning_pipeline.sending import may_send  # noqa: PLC0415
    from dunning_pipeline.terminal import print_counts  # noqa: PLC0415

    settings = load_settings()
    if confirm and not send:
        raise typer.BadParameter("confirming events means sending them: add --send", param_hint="--confirm")
    if send and (refusal := may_send(settings)):
        raise SendingRefused(refusal)
    warehouse = Warehouse(settings.warehouse_path)
    with dagster_instance(settings.home) as instance, err.status("pulling and deciding"):
        run_id = run_orders(settings, instance, send=send, confirm=confirm, full=full)
    print_counts("Edited orders by outcome", "outcome", "orders", order_report(warehouse), out)
    if send:
        print_counts("Sent to Klaviyo", "outcome", "events", sent_counts(warehouse, run_id), out)


@app.command()
def explain(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="Name or id of the order, e.g. '#1031'.")],
    as_of: Annotated[date | None, date_option("By the end of this day, e.g. 2026-11-22; today by default.")] = None,
) -> None:
    """Tell what was done to an order, what was seen of it, and why events went about it, or not. Changes nothing."""
    from dunning_pipeline.explain_order import explain_order  # noqa: PLC0415
    from dunning_pipeline.terminal import print_steps  # noqa: PLC0415

    settings = load_settings()
    day = as_of or settings.today()
    print_steps(order, day, explain_order(settings, order, day), out)
