"""What is owed, in sentences: invoices, balances, pauses and promises, and what does not count."""

from collections.abc import Sequence

from dunning_pipeline.explaining.explanation import Said, Step, said, step
from dunning_pipeline.explaining.facts import Balance, Facts, Invoice, OpenInvoice, Pause, Payment, Promise
from dunning_pipeline.explaining.texts import counted, day, days, listed, money

MOST_INVOICES = 10
MOST_LEFT_OUT = 5


def what_is_owed(facts: Facts) -> Step:
    """Open invoices with the oldest due date first, totals per currency, holds, and invoices that do not count."""
    return step(
        "What is owed",
        [
            *(_invoices(facts) or _nothing(facts)),
            *(sentence for balance in facts.balances if not balance.unclear for sentence in _balance(facts, balance)),
            *(_pause(facts, pause) for pause in facts.pauses),
            *(_promise(facts, promise) for promise in facts.promises if _matters(facts, promise)),
            *_left_out(facts),
        ],
    )


def _invoices(facts: Facts) -> list[Said]:
    told = [_invoice(facts, invoice) for invoice in facts.open_invoices[:MOST_INVOICES]]
    more = len(facts.open_invoices) - len(told)
    return told + ([said(f"And {counted(more, 'more invoice')} with later due dates.", "1.3")] if more else [])


def _invoice(facts: Facts, invoice: OpenInvoice) -> Said:
    whole = invoice.open_minor == invoice.total_minor
    of = "" if whole else f" of {money(invoice.total_minor, invoice.currency)}"
    named = "" if invoice.number == invoice.invoice_id else f" (id {invoice.invoice_id})"
    amount = f"{money(invoice.open_minor, invoice.currency)}{of} open"
    parts = [
        f"Invoice {invoice.number}{named}: {amount}, {due(facts, invoice)}",
        *_held(facts, invoice),
        *(["it was promised, and the promise was broken"] if invoice.broken_promise else []),
        *(["it is under a workflow of its own"] if invoice.level == "invoice" else []),
    ]
    rules = [
        "1.2",
        *(["6.1"] if invoice.paused_by == "pause" else []),
        *(["2.4"] if invoice.level == "invoice" else []),
    ]
    rules += ["6.2"] if invoice.paused_by == "promise" or invoice.broken_promise else []
    return said("; ".join(parts) + ".", *rules)


def due(facts: Facts, invoice: OpenInvoice) -> str:
    """`due Tue 13 Oct 2026, 42 days overdue`."""
    late = (facts.day - invoice.due_on).days
    ago = "today" if late == 0 else f"{days(late)} overdue" if late > 0 else f"in {days(-late)}"
    stored = facts.invoice(invoice.invoice_id)
    stands_in = " (its date of issue, for want of a due date)" if stored and stored.due_on is None else ""
    return f"due {day(invoice.due_on)}{stands_in}, {ago}"


def _held(facts: Facts, invoice: OpenInvoice) -> list[str]:
    if invoice.paused_by == "pause":
        return [f"held by {listed([f'pause {pause.pause_id}' for pause in pauses_of(facts, invoice)])}"]
    if invoice.paused_by == "promise":
        return [f"held by {listed([f'promise {promise.promise_id}' for promise in promises_of(facts, invoice)])}"]
    return []


def pauses_of(facts: Facts, invoice: OpenInvoice) -> list[Pause]:
    """The pauses that hold an invoice, those of everybody left out."""
    return [
        pause
        for pause in facts.pauses
        if pause.scope == "customer" or (pause.scope == "invoice" and pause.invoice_id == invoice.invoice_id)
    ]


def promises_of(facts: Facts, invoice: OpenInvoice) -> list[Promise]:
    """The promises that hold an invoice."""
    return [
        promise
        for promise in running(facts)
        if promise.invoice_id == invoice.invoice_id or (promise.invoice_id is None and _promised(facts, promise))
    ]


def _promised(facts: Facts, promise: Promise) -> list[OpenInvoice]:
    """The unpaid invoices that a promise is about: the one that it names, else those known when it was made."""
    known = {one.invoice_id for one in facts.invoices if one.recorded_on <= promise.promised_on}
    about = known if promise.invoice_id is None else {promise.invoice_id}
    return [one for one in facts.open_invoices if one.invoice_id in about]


def running(facts: Facts) -> list[Promise]:
    """Promises whose last day has not passed, and that stop reminders."""
    return [promise for promise in facts.promises if promise.pay_by >= facts.day and promise.pauses]


def _nothing(facts: Facts) -> list[Said]:
    if any(balance.unclear for balance in facts.balances):
        return [said("Nothing but invoices that their source no longer shows, which are neither paid nor owed.", "1.1")]
    nothing = said("Nothing: of the invoices that count none is open.", "1.1", "1.3")
    return [nothing, said(_last_paid(facts.payments), "1.2")]


def _last_paid(payments: Sequence[Payment]) -> str:
    received = [payment for payment in payments if payment.amount_minor > 0]
    if not received:
        return "No payment is known."
    latest = received[0]
    what = "credit" if latest.kind == "credit_note" else "payment"
    for_what = f"for invoice {latest.number}" if latest.number else "without an invoice"
    return (
        f"The latest {what}: {money(latest.amount_minor, latest.currency)} on {day(latest.paid_on)}, {for_what} "
        f"({latest.payment_id})."
    )


def _balance(facts: Facts, balance: Balance) -> list[Said]:
    """How the net balance of a currency comes about, and whether the currency can be chased."""
    unpaid = [invoice.open_minor for invoice in facts.open_invoices if invoice.currency == balance.currency]
    unapplied = sum(
        payment.amount_minor for payment in facts.payments if payment.unapplied and payment.currency == balance.currency
    )
    rest = balance.net_minor - sum(unpaid) + unapplied
    parts = [f"{money(sum(unpaid), balance.currency)} open in {counted(len(unpaid), 'invoice')}"]
    if unapplied:
        parts.append(_less(unapplied, balance.currency, "paid or credited without an invoice"))
    if rest < 0:
        parts.append(_less(-rest, balance.currency, "paid too much on other invoices"))
    if rest > 0:
        parts.append(f"plus {money(rest, balance.currency)} within the tolerance on other invoices")
    net = f"the net balance is {money(balance.net_minor, balance.currency)}"
    return [said(f"In {balance.currency}: {', '.join(parts)}; {net}.", "1.4"), *_chaseable(facts, balance)]


def _less(minor: int, currency: str, what: str) -> str:
    return f"less {money(minor, currency)} {what}" if minor > 0 else f"plus {money(-minor, currency)} {what}"


def _chaseable(facts: Facts, balance: Balance) -> list[Said]:
    minimum = facts.policy.receivables.minimum_amount_minor.get(balance.currency)
    free, currency = money(balance.unpaid_minor, balance.currency), balance.currency
    if balance.net_minor <= 0:
        return [said(f"Nothing in {currency} can be chased, since the net balance is not positive.", "1.4")]
    if balance.unpaid_minor == 0:
        return [said(f"Nothing in {currency} can be chased now, since all of it is held.", "1.4")]
    if minimum is None:
        return []
    reached = "is reached" if balance.chaseable else f"is not reached, so nothing in {currency} can be chased"
    text = f"{free} of it is free of pauses and promises: the minimum of {money(minimum, currency)} {reached}."
    return [said(text, "6.3")]


def _pause(facts: Facts, pause: Pause) -> Said:
    if pause.scope == "invoice" and pause.invoice_id:
        what = f"invoice {facts.number(pause.invoice_id)}"
    else:
        what = {"customer": "the customer", "organisation": "everybody"}[pause.scope]
    return said(f"Pause {pause.pause_id} ({pause.source}) holds {what} {_until(pause)}.", "6.1")


def _until(pause: Pause) -> str:
    end = f"work resumes on {day(pause.paused_until)}" if pause.paused_until else "it has no end"
    return f"from {day(pause.paused_from)} on; {end}"


def _matters(facts: Facts, promise: Promise) -> bool:
    """Whether a promise covers something unpaid, now or until it was broken."""
    return any(one.broken_promise or promise.pay_by >= facts.day for one in _promised(facts, promise))


def _promise(facts: Facts, promise: Promise) -> Said:
    what = f"invoice {facts.number(promise.invoice_id)}" if promise.invoice_id else "everything"
    made = (
        f"Promise {promise.promise_id} ({promise.source}) of {day(promise.promised_on)}: {what} will be paid by "
        f"{day(promise.pay_by)}"
    )
    if promise.pay_by < facts.day:
        return said(f"{made}; that day has passed.", "6.2")
    return said(f"{made}; reminders {'wait' if promise.pauses else 'go on'} meanwhile.", "6.2")


def _left_out(facts: Facts) -> list[Said]:
    unpaid = {invoice.invoice_id for invoice in facts.open_invoices}
    others = [one for one in reversed(facts.invoices) if one.invoice_id not in unpaid and one.open_minor > 0]
    reasons = [(reason, one) for one in others if (reason := why_not_counted(facts, one))]
    told = [said(f"{_named(invoice)} does not count: {reason}.", "1.1") for reason, invoice in reasons[:MOST_LEFT_OUT]]
    more = len(reasons) - len(told)
    return told + ([said(f"Nor do {counted(more, 'more invoice')}.", "1.1")] if more else [])


def _named(invoice: Invoice) -> str:
    return f"Invoice {invoice.number} with {money(invoice.open_minor, invoice.currency)} open"


def why_not_counted(facts: Facts, invoice: Invoice) -> str | None:
    """Why an invoice does not count on the day (RULES 1.1); None if it does, or was not issued yet."""
    today = facts.day
    if invoice.source not in (*facts.policy.sources, "manual"):
        return f"the policy no longer names its source {invoice.source}"
    if invoice.recorded_on > today:
        return f"it was recorded on {day(invoice.recorded_on)} only" if invoice.issued_on <= today else None
    if invoice.status == "draft":
        return "it is a draft"
    for status, done, since in (
        ("void", "voided", invoice.voided_on),
        ("written_off", "written off", invoice.written_off_on),
    ):
        if since and since <= today:
            return f"it was {done} on {day(since)}"
        if invoice.status == status and since is None:
            return f"it is {done}, no source says since when"
    disputed, resolved = invoice.disputed_on, invoice.dispute_resolved_on
    if disputed and disputed <= today and not (resolved and resolved <= today):
        return f"it has been disputed since {day(disputed)}"
    if invoice.missing_since and invoice.missing_since <= today:
        return f"its source has not shown it since {day(invoice.missing_since)}"
    return None
