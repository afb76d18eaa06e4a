"""The `dunning` command: reads arguments, calls the pipeline, prints. Nothing is decided here.

Exit codes: 0 success, 1 something is wrong with the data or a service, 2 wrong usage or a wrong policy.
"""

import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dunning_pipeline.cli_history import app as history
from dunning_pipeline.cli_orders import app as orders
from dunning_pipeline.cli_recording import Customer, date_option
from dunning_pipeline.cli_recording import app as recording
from dunning_pipeline.errors import DunningError, SendingRefused
from dunning_pipeline.policy import MissingVariable, PolicyError
from dunning_pipeline.settings import load_settings

app = typer.Typer(
    help="Reminds customers of what they owe.",
    epilog="Environment: DUNNING_POLICY (the policy file; dunning.yaml), DUNNING_HOME (the data folder; data) and "
    "DUNNING_MEMORY_LIMIT (such as 2GB: customers are decided in parts that fit into it; none by default).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

DEFAULT_SANDBOX_PORT = 8765
DEFAULT_LISTED = 100
_MARKS = {"wrong": "[red]wrong[/red]", "note": "[yellow]note[/yellow]", "fine": "[green]fine[/green]"}


@app.command()
def demo() -> None:
    """Run the main job on sample data against a Klaviyo sandbox on this machine; nobody real is contacted."""
    from dunning_pipeline.sandbox.demo import run_demo  # noqa: PLC0415 (starts fast without the demo's imports)

    run_demo(load_settings(), out)


@app.command()
def check() -> None:
    """Say everything that is wrong with the policy, the sources and the Klaviyo key. Changes nothing."""
    from dunning_pipeline.preflight import check as findings  # noqa: PLC0415

    wrong = 0
    for finding in findings(load_settings()):
        wrong += finding.level == "wrong"
        console = err if finding.level == "wrong" else out
        console.print(_MARKS[finding.level], escape(finding.sentence))
    if wrong:
        raise typer.Exit(1)


@app.command()
def run(
    as_of: Annotated[date | None, date_option("The day to decide, e.g. 2026-11-22; today by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make a batch that can never be sent.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Send today's batch; needs sending.live: true.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Pull everything again, not only what changed.")] = False,
    confirm_batch: Annotated[
        str | None,
        typer.Option("--confirm-batch", metavar="ID", help="With --send: send this batch as it is, however large."),
    ] = None,
) -> None:
    """Pull the sources and decide a day, in one process, as the daily job does.

    With --confirm-batch nothing is pulled or decided: the batch of today that was held for its size is sent.
    """
    from dunning_pipeline.history import keep_history, require_whole_history  # noqa: PLC0415
    from dunning_pipeline.jobs import send_run_config  # noqa: PLC0415
    from dunning_pipeline.local_run import dagster_instance, run_daily, run_send  # noqa: PLC0415
    from dunning_pipeline.reports import day_report, sent_counts  # noqa: PLC0415
    from dunning_pipeline.resources.warehouse import Warehouse  # noqa: PLC0415
    from dunning_pipeline.runs import DRY_RUN, SEND, STARTED_BY_HAND_TAG  # noqa: PLC0415
    from dunning_pipeline.sending import may_send  # noqa: PLC0415
    from dunning_pipeline.terminal import print_counts, print_day  # noqa: PLC0415

    settings = load_settings()
    day = as_of or settings.today()
    if confirm_batch and not send:
        raise typer.BadParameter("confirming a batch means sending it: add --send", param_hint="--confirm-batch")
    if send and dry_run:
        raise typer.BadParameter("--send and --dry-run exclude each other", param_hint="--send")
    if send and day != settings.today():
        raise typer.BadParameter(
            f"only today ({settings.today()}) is ever sent, not {day}; leave out --send to decide another day",
            param_hint="--send",
        )
    if send and (refusal := may_send(settings)):
        raise SendingRefused(refusal)
    warehouse = Warehouse(settings.warehouse_path, memory_limit=settings.memory_limit)
    with dagster_instance(settings.home) as instance:
        batch_id = confirm_batch
        if batch_id is None:
            require_whole_history(warehouse)
            with err.status(f"pulling and deciding {day}"):
                tags = {STARTED_BY_HAND_TAG: SEND if send else DRY_RUN}
                batch_id = run_daily(settings, instance, day, tags, full=full)
            keep_history(warehouse, settings.clock())
            print_day(day_report(warehouse, day), out)
        if send:
            with err.status("sending"):
                run_send(settings, instance, send_run_config(batch_id, confirm=confirm_batch is not None))
            print_counts("Sent to Klaviyo", "outcome", "reminders", sent_counts(warehouse, batch_id), out)


@app.command()
def preview(
    as_of: Annotated[date | None, date_option("The day to decide, e.g. 2026-11-22; today by default.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most reminders to list.")] = DEFAULT_LISTED,
) -> None:
    """Show who would be reminded of what, and why the others are not.

    Decides on a scratch copy, from what was pulled last and recorded by hand; pulls, sends and keeps nothing.
    """
    from dunning_pipeline.preview import preview as decide  # noqa: PLC0415
    from dunning_pipeline.terminal import print_preview  # noqa: PLC0415

    settings = load_settings()
    day = as_of or settings.today()
    with err.status(f"deciding {day}"):
        decided = decide(settings, day)
    print_preview(decided, limit, out)


@app.command()
def explain(
    customer: Customer,
    as_of: Annotated[date | None, date_option("The day to explain, e.g. 2026-11-22; today by default.")] = None,
) -> None:
    """Tell why a customer is reminded on a day, or not, with the rule and the figures behind each step.

    From what is stored: pulls, sends and changes nothing.
    """
    from dunning_pipeline.explain import explain as tell  # noqa: PLC0415
    from dunning_pipeline.terminal import print_explanation  # noqa: PLC0415

    settings = load_settings()
    day = as_of or settings.today()
    with err.status(f"explaining {day}"):
        told = tell(settings, customer, day)
    print_explanation(told, out)


@app.command()
def replay(
    first: Annotated[date, date_option("First day to replay, e.g. 2026-11-22.", "--from")],
    last: Annotated[date, date_option("Last day to replay.", "--to")],
    policy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The policy to replay; the one in force by default.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="FILE|ID", help="Policy file, or earlier replay, to compare it with.")
    ] = None,
) -> None:
    """Show what a policy would have sent over past days, its own reminders counting as contacts. Contacts nobody."""
    from dunning_pipeline.partitions import Days  # noqa: PLC0415
    from dunning_pipeline.replay import judge  # noqa: PLC0415
    from dunning_pipeline.resources.warehouse import Warehouse  # noqa: PLC0415
    from dunning_pipeline.terminal import print_judgement  # noqa: PLC0415

    settings = load_settings()
    if first > last:
        raise typer.BadParameter(f"the first day ({first}) is after the last one ({last})", param_hint="--from")
    warehouse = Warehouse(settings.warehouse_path, memory_limit=settings.memory_limit)
    with err.status(f"replaying {first} to {last}"):
        judged = judge(settings, warehouse, Days(first, last), policy, against)
    print_judgement(judged, out)


@app.command()
def replays(
    delete: Annotated[list[str] | None, typer.Option(metavar="ID", help="Delete this replay; may be repeated.")] = None,
    keep: Annotated[int | None, typer.Option(min=0, metavar="N", help="Delete all replays but the newest N.")] = None,
) -> None:
    """List the replays that are stored, the newest first, or delete some. What was really sent is never touched."""
    from dunning_pipeline.replay import delete_replays, stored_replays  # noqa: PLC0415
    from dunning_pipeline.resources.warehouse import Warehouse  # noqa: PLC0415
    from dunning_pipeline.terminal import print_replays  # noqa: PLC0415

    warehouse = Warehouse(load_settings().warehouse_path)
    if delete or keep is not None:
        deleted = delete_replays(warehouse, delete or (), keep)
        if deleted:
            print_replays("Deleted replays", deleted, out)
        else:
            out.print("There was nothing to delete.")
        return
    stored = stored_replays(warehouse)
    if stored:
        print_replays("Replays", stored, out)
    else:
        out.print("There are no replays; `dunning replay` makes one.")


app.add_typer(recording)
app.add_typer(history, name="history")
app.add_typer(orders, name="orders")


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = (
        DEFAULT_SANDBOX_PORT
    ),
    shopify_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the shop; 0 picks a free one. By default the one after --port."),
    ] = None,
) -> None:
    """Serve stand-ins for Klaviyo and Shopify on this machine, with pages to look at and to make things happen."""
    from dunning_pipeline.sandbox.klaviyo import DEFAULT_KEY, KlaviyoAccount, running  # noqa: PLC0415
    from dunning_pipeline.sandbox.shopify import DEFAULT_TOKEN, sample_shop  # noqa: PLC0415
    from dunning_pipeline.sandbox.shopify import running as running_shop  # noqa: PLC0415

    if shopify_port is None:
        shopify_port = port + 1 if 0 < port < 65535 else 0
    try:
        with running(KlaviyoAccount(), port) as url, running_shop(sample_shop(), shopify_port) as shop_url:
            out.print(f"Klaviyo sandbox at {url} (open it in a browser). Use it with", highlight=False)
            out.print(f"  export KLAVIYO_URL={url} KLAVIYO_API_KEY={DEFAULT_KEY}")
            out.print(f"Shopify sandbox at {shop_url} (open it in a browser). Use it with", highlight=False)
            out.print(f"  export SHOPIFY_SHOP={shop_url} SHOPIFY_TOKEN={DEFAULT_TOKEN}")
            out.print("Stop it with Ctrl-C.")
            while True:
                time.sleep(3600)
    except OSError as error:
        raise DunningError(f"the sandbox cannot listen on port {port} or {shopify_port}: {error.strerror}") from None
    except KeyboardInterrupt:
        out.print("stopped")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors become sentences on stderr, never tracebacks.

    Args:
        arguments: the words after `dunning`; those of the process by default.
    """
    try:
        app(arguments, prog_name="dunning")
    except (PolicyError, MissingVariable) as error:
        err.print(str(error), markup=False)
        sys.exit(2)
    except DunningError as error:
        err.print(str(error), markup=False)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("DUNNING_TRACEBACK"):
            raise
        first = next(iter(str(error).strip().splitlines()), "")
        err.print(f"{type(error).__name__}: {first} (DUNNING_TRACEBACK=1 shows where)", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
