"""The commands by which people record something by hand: arguments in, one sentence out.

The rows are made in recording.py. `app` is added to the `dunning` command, which keeps them at its top level.
"""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from dunning_pipeline.settings import load_settings

if TYPE_CHECKING:
    from dunning_pipeline.recording import Recorder, Target

app = typer.Typer()


def parse_day(text: str | date) -> date:
    """A date option of any command. Raises BadParameter, which is wrong usage."""
    if isinstance(text, date):
        return text
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no date of the form 2026-11-22") from None


def date_option(meaning: str, *names: str) -> typer.models.OptionInfo:
    """An option whose value is a day; named like its parameter unless `names` are given."""
    option: typer.models.OptionInfo = typer.Option(*names, parser=parse_day, metavar="DATE", help=meaning)
    return option


Customer = Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.")]
OneOfThree = Annotated[str | None, typer.Argument(metavar="CUSTOMER", help="Id of the customer.")]
PausedInvoice = Annotated[str | None, typer.Option("--invoice", metavar="ID", help="One invoice only.")]
AssignedInvoice = Annotated[
    str | None, typer.Option("--invoice", metavar="ID", help="This invoice only, which gets a workflow of its own.")
]
Everybody = Annotated[bool, typer.Option("--organisation", help="Everybody.")]


@app.command()
def pause(
    customer: OneOfThree = None,
    invoice: PausedInvoice = None,
    organisation: Everybody = False,
    first: Annotated[date | None, date_option("First day; today by default.", "--from")] = None,
    until: Annotated[date | None, date_option("Day on which work resumes; never by default.")] = None,
) -> None:
    """Remind a customer, of an invoice, or anybody, no more for a time."""
    target = _target(customer, invoice, organisation)
    recorder = _recorder()
    first = first or recorder.today
    pause_id = recorder.pause(target, first, until)
    end = f"; work resumes on {until}" if until else ""
    _say(f"{target} is paused from {first} on{end}", pause_id, recorder, first)


@app.command()
def resume(
    customer: OneOfThree = None,
    invoice: PausedInvoice = None,
    organisation: Everybody = False,
    planned: Annotated[bool, typer.Option("--planned", help="Also end pauses that have not begun.")] = False,
) -> None:
    """End the pauses of a customer, an invoice or the organisation that are in force."""
    target = _target(customer, invoice, organisation)
    recorder = _recorder()
    resumed = recorder.resume(target, planned=planned)
    left = "".join(f"; {pause_id} of the source {source} stays" for pause_id, source in resumed.left.items())
    _say(f"{target} is paused no more{left}", ", ".join(resumed.ended), recorder, recorder.today)


@app.command()
def assign(
    customer: Customer,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="A workflow of the policy.")],
    first: Annotated[date | None, date_option("First day; today by default.", "--from")] = None,
    until: Annotated[date | None, date_option("Day on which the assignment ends; never by default.")] = None,
    invoice: AssignedInvoice = None,
) -> None:
    """Put a customer, or one of its invoices, under a workflow, whatever the policy says otherwise."""
    recorder = _recorder()
    first = first or recorder.today
    assignment_id = recorder.assign(customer, workflow, first, until, invoice)
    end = f" up to the day before {until}" if until else " on"
    who = f"invoice {invoice}" if invoice else f"customer {customer}"
    unless = _unless_by_rule(recorder, invoice)
    _say(f"{who} is under {workflow} from {first}{end}{unless}", assignment_id, recorder, first)


@app.command()
def unassign(
    customer: Customer,
    first: Annotated[date | None, date_option("First day; today by default.", "--from")] = None,
    invoice: AssignedInvoice = None,
) -> None:
    """Take a customer out of every workflow: nothing is sent until another assignment. An invoice goes back to it."""
    from dunning_pipeline.policy import UNASSIGNED  # noqa: PLC0415

    recorder = _recorder()
    first = first or recorder.today
    assignment_id = recorder.assign(customer, UNASSIGNED, first, invoice_id=invoice)
    under = (
        f"invoice {invoice} is under its customer's workflow"
        if invoice
        else f"customer {customer} is under no workflow"
    )
    _say(f"{under} from {first} on{_unless_by_rule(recorder, invoice)}", assignment_id, recorder, first)


@app.command()
def promise(
    customer: Annotated[str | None, typer.Argument(metavar="CUSTOMER", help="Id of the customer.")] = None,
    pay_by: Annotated[date | None, date_option("Last day on which the promise can be kept.")] = None,
    invoice: Annotated[str | None, typer.Option(metavar="ID", help="What was promised; everything by default.")] = None,
    no_pause: Annotated[bool, typer.Option("--no-pause", help="Go on with the reminders meanwhile.")] = False,
    withdraw: Annotated[str | None, typer.Option(metavar="PROMISE_ID", help="Withdraw a promise instead.")] = None,
) -> None:
    """Record that a customer promised to pay, or withdraw a promise."""
    if withdraw:
        if customer or pay_by or invoice or no_pause:
            raise typer.BadParameter("--withdraw stands alone, with the id of the promise")
        recorder = _recorder()
        promised_by = recorder.withdraw(withdraw)
        _say(f"the promise of customer {promised_by} is withdrawn", withdraw, recorder, recorder.today)
        return
    if not customer or not pay_by:
        raise typer.BadParameter("CUSTOMER and --pay-by DATE are needed, or --withdraw PROMISE_ID")
    recorder = _recorder()
    promise_id = recorder.promise(customer, pay_by, invoice, pauses=not no_pause)
    what = f"invoice {invoice}" if invoice else "what is open"
    held = "reminders go on meanwhile" if no_pause else "no reminders about it up to that day"
    _say(f"customer {customer} pays {what} by {pay_by}; {held}", promise_id, recorder, recorder.today)


@app.command()
def contact(
    customer: Customer,
    on: Annotated[date | None, date_option("Day of the contact; today by default.")] = None,
    invoice: Annotated[str | None, typer.Option(metavar="ID", help="What it was about.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="NAME", help="The workflow whose action it executes.")] = None,
    action: Annotated[str | None, typer.Option(metavar="NAME", help="The action it executes.")] = None,
    channel: Annotated[str, typer.Option(metavar="TEXT", help="call, letter, visit …")] = "call",
) -> None:
    """Record a call or a letter: it counts for the minimum contact delay, and executes the action it names."""
    if any((workflow, action)) and not all((workflow, action, invoice)):
        raise typer.BadParameter("a contact executes an action only with --invoice, --workflow and --action")
    recorder = _recorder()
    day = on or recorder.today
    contact_id = recorder.contact(customer, day, invoice_id=invoice, workflow=workflow, action=action, channel=channel)
    done = f", which executes {action} of {workflow} for invoice {invoice}" if action else ""
    _say(f"customer {customer} was contacted on {day} ({channel}){done}", contact_id, recorder, recorder.today)


@app.command()
def retry(
    reminder: Annotated[str, typer.Argument(metavar="REMINDER", help="Id of the rejected reminder.")],
) -> None:
    """Let a reminder that Klaviyo rejected be decided again, although neither address nor policy changed."""
    recorder = _recorder()
    held = recorder.retry(reminder, load_settings().clock())
    _say(f"the rejection no longer holds {held}", reminder, recorder, recorder.today)


def _unless_by_rule(recorder: "Recorder", invoice: str | None) -> str:
    """Says that smart rules go before an assignment, where the policy lets them (RULES 3.1)."""
    policy = recorder.policy
    if not policy.smart_rules_override_manual or not policy.rules_for("invoice" if invoice else "customer"):
        return ""
    return ", unless a smart rule applies: they go first (smart_rules_override_manual)"


def _target(customer: str | None, invoice: str | None, organisation: bool) -> "Target":
    from dunning_pipeline.recording import Target  # noqa: PLC0415

    if [bool(customer), bool(invoice), organisation].count(True) != 1:
        raise typer.BadParameter("name one of CUSTOMER, --invoice ID and --organisation")
    if organisation:
        return Target("organisation")
    return Target("customer", customer) if customer else Target("invoice", invoice)


def _recorder() -> "Recorder":
    from dunning_pipeline.recording import Recorder  # noqa: PLC0415
    from dunning_pipeline.resources.warehouse import Warehouse  # noqa: PLC0415

    settings = load_settings()
    return Recorder(Warehouse(settings.warehouse_path), settings.policy, settings.today(), lambda: uuid4().hex[:8])


def _say(recorded: str, row_id: str, recorder: "Recorder", first: date) -> None:
    from dunning_pipeline.history import keep_history  # noqa: PLC0415

    since = f"on {first}" if first > recorder.today else "in the next decision"
    typer.echo(f"{recorded[0].upper()}{recorded[1:]}. It takes effect {since}. ({row_id})")
    # Only now, because what is recorded holds even if the file cannot be written (RULES 9.5).
    keep_history(recorder.warehouse, load_settings().clock())
