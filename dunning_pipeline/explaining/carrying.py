"""Which invoice carries, since when and why, in sentences."""

from collections.abc import Sequence
from fractions import Fraction

from dunning_pipeline.explaining.explanation import Said, Step, said, step
from dunning_pipeline.explaining.facts import Decision, Facts, OpenInvoice
from dunning_pipeline.explaining.owed import why_not_counted
from dunning_pipeline.explaining.stretch import Stretch
from dunning_pipeline.explaining.texts import counted, day, exact, listed, money
from dunning_pipeline.rules.money import minor_digits

MOST_TIED = 3


def which_carries(facts: Facts, decision: Decision, stretch: Stretch | None) -> Step:
    """The carrying invoice of a decision with its tie-breaks, and how it came to carry."""
    why = _own(facts, decision, stretch) if decision.level == "invoice" else _chosen(facts, decision)
    return step("Which invoice carries", [*why, *(_since(facts, decision, stretch) if stretch else [])])


def _own(facts: Facts, decision: Decision, stretch: Stretch | None) -> list[Said]:
    number = facts.number(decision.carrying_invoice_id or "")
    carries = "it carries itself" if stretch else "it would carry itself, but it is held or cannot be chased"
    return [said(f"Invoice {number} is under a workflow of its own: {carries}.", "2.4")]


def _chosen(facts: Facts, decision: Decision) -> list[Said]:
    candidates = _candidates(facts)
    chosen = next((one for one in candidates if one.invoice_id == decision.carrying_invoice_id), None)
    if chosen is None:
        none = "No invoice carries: none is unpaid, free of pauses and promises, and in a currency that can be chased."
        return [said(none, "2.1")]
    tied = [one for one in candidates if one.due_on == chosen.due_on and one is not chosen]
    why = (
        f"of {counted(len(candidates), 'invoice')} that can be chased it has the oldest due date, {day(chosen.due_on)}"
    )
    if len(candidates) == 1:
        why = "no other can be chased"
    carries = said(f"Invoice {chosen.number} carries: {why}.", "2.1")
    return [carries, *(_tie(facts, chosen, tied) if tied else []), *_due_earlier(facts, chosen, candidates)]


def _candidates(facts: Facts) -> list[OpenInvoice]:
    chaseable = {balance.currency for balance in facts.balances if balance.chaseable}
    customers = [one for one in facts.open_invoices if one.level == "customer"]
    return [one for one in customers if not one.paused and one.currency in chaseable]


def _due_earlier(facts: Facts, chosen: OpenInvoice, candidates: Sequence[OpenInvoice]) -> list[Said]:
    """Invoices that would carry if they could be chased."""
    earlier = [
        one
        for one in facts.open_invoices
        if one.level == "customer" and one.due_on < chosen.due_on and one not in candidates
    ]
    if not earlier:
        return []
    shown = [
        f"{one.number} ({f'a {one.paused_by} holds it' if one.paused else f'nothing in {one.currency} can be chased'})"
        for one in earlier[:MOST_TIED]
    ]
    more = f" and {len(earlier) - MOST_TIED} more" if len(earlier) > MOST_TIED else ""
    return [said(f"Due earlier, but not chased: {', '.join(shown)}{more}.", "2.1")]


def _tie(facts: Facts, chosen: OpenInvoice, tied: Sequence[OpenInvoice]) -> list[Said]:
    totals = _comparable(facts, [chosen, *tied])
    same = [one for one in tied if totals[one.invoice_id] == totals[chosen.invoice_id]]
    shown = [f"{one.number} ({_total(facts, one, [chosen, *tied])})" for one in tied[:MOST_TIED]]
    more = f" and {len(tied) - MOST_TIED} more" if len(tied) > MOST_TIED else ""
    total = _total(facts, chosen, [chosen, *tied])
    due = f"Due on the same day: {listed(shown) if not more else ', '.join(shown)}{more}"
    if not same:
        return [said(f"{due}; the total of {chosen.number}, {total}, is the highest.", "2.1")]
    ids = listed([one.invoice_id for one in same[:MOST_TIED]])
    return [
        said(
            f"{due}; with the same highest total, {total}, the lowest id wins: {chosen.invoice_id} before {ids}.", "2.1"
        )
    ]


def _comparable(facts: Facts, tied: Sequence[OpenInvoice]) -> dict[str, Fraction]:
    """Totals as RULES 2.1 compares them: in base currency if every currency has a rate, else by major units."""
    rates = facts.policy.organisation.rates
    rated = all(one.currency in rates for one in tied)
    rate = {one.currency: Fraction(rates[one.currency]) if rated else Fraction(1) for one in tied}
    return {
        one.invoice_id: Fraction(one.total_minor, 10 ** minor_digits(one.currency)) * rate[one.currency] for one in tied
    }


def _total(facts: Facts, one: OpenInvoice, tied: Sequence[OpenInvoice]) -> str:
    """A total, and where currencies differ and have rates its worth in base currency."""
    total, base = money(one.total_minor, one.currency), facts.policy.organisation.base_currency
    rated = all(other.currency in facts.policy.organisation.rates for other in tied)
    if one.currency == base or not rated or len({other.currency for other in tied}) == 1:
        return total
    return f"{total}, worth {exact(_comparable(facts, tied)[one.invoice_id], base)}"


def _since(facts: Facts, decision: Decision, stretch: Stretch) -> list[Said]:
    number = facts.number(stretch.previous) if stretch.previous else ""
    invoice = facts.invoice(decision.carrying_invoice_id or "")
    new = "it was recorded on that day, and " if invoice and invoice.recorded_on == stretch.since else ""
    became = {
        "first": f"{new}no invoice carried before" if decision.level == "customer" else f"{new}it did not carry before",
        "paid": f"invoice {number}, which carried before, was paid",
        "excluded": f"invoice {number}, which carried before, could not any more{_why_excluded(facts, stretch)}",
        "older_invoice": f"it was recorded on that day and is before invoice {number}, which had carried",
        "reopened": f"it could be chased again, and is before invoice {number}, which had carried",
    }
    change = f"; {became[stretch.change]}" if stretch.change else ""
    return [said(f"It has carried without a break since {day(stretch.since)}{change}.", "2.2", "2.3")]


def _why_excluded(facts: Facts, stretch: Stretch) -> str:
    """What became of the invoice that carried before, as far as a reason can be told."""
    if stretch.left:
        held = f"a {stretch.left.paused_by} held it" if stretch.left.paused else "its currency could not be chased"
        return f": {'it went under a workflow of its own' if stretch.left.level == 'invoice' else held}"
    invoice = facts.invoice(stretch.previous or "")
    reason = invoice and why_not_counted(facts, invoice)
    return f": {reason}" if reason else ""
