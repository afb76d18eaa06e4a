"""Whether reminders that were decided still stand when they are about to leave (RULES 9.4).

Their customers are decided afresh, by the derivations of the daily job on a scratch copy, only where something was
pulled or recorded since, or the policy is another one. What is dropped and sent is up to sending.py.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from dunning_pipeline.assets.reminders import reminder_pieces
from dunning_pipeline.ordering import decide_orders_now, order_pieces
from dunning_pipeline.outbox import Batch, Outbox
from dunning_pipeline.partitions import Days
from dunning_pipeline.resources.changes import latest_change_since
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.order_series import STREAM as ORDERS
from dunning_pipeline.scratch import RUN_ID, derive, scratch_to_decide
from dunning_pipeline.settings import Settings

MOST_TOLD = 3
"""Changes that a sentence names."""

_AMOUNTS = ("due", "overdue", "outstanding", "due_count", "overdue_count", "outstanding_count")
"""Figures of a reminder over all its invoices, as Klaviyo gets them."""


Look = Callable[[pd.DataFrame], tuple[int, Mapping[str, str | None]]]
"""Decides afresh whom some reminders are for: the latest change it knows, and what changed about each, in words."""

Difference = Callable[[str, str], str | None]
"""How the amounts of two bodies of a reminder differ, in words; None if they do not."""

NOTHING, THE_DECISION = -1, 0


@dataclass
class Recheck:
    """What is known of a batch's reminders beyond their decision.

    `known_until` is the number of the latest change (`dunning.changes`) that is accounted for; THE_DECISION: what the
    batch was decided by; NOTHING: not even that can be relied on any more.
    """

    look_again: Look
    known_until: int = THE_DECISION
    _changed: dict[str, str | None] = field(default_factory=dict)

    def covers(self, reminders: pd.DataFrame) -> bool:
        """Whether it is known of each reminder if it stands."""
        return self.known_until == THE_DECISION or set(reminders["reminder_id"]) <= self._changed.keys()

    def look(self, reminders: pd.DataFrame) -> None:
        """Decides whom the reminders are for afresh, from what is known now.

        Args:
            reminders: reminder_id, customer_id, carrying_invoice_id, order_id and the body that is about to be sent.
        """
        self.known_until, changed = self.look_again(reminders)
        self._changed = dict(changed)

    def changed(self, reminders: pd.DataFrame) -> "pd.Series[str]":
        """What changed, as sentences, of the reminders that no longer stand; indexed like `reminders`, others empty."""
        return reminders["reminder_id"].map(self._changed).astype("str")


def recheck_of(batch: Batch, outbox: Outbox, settings: Settings) -> Recheck:
    """What may be assumed of a batch that an earlier run made: of the invoice side its decision, if by this policy.

    Orders are decided afresh, because what was known of them is old after an hour.
    """
    if batch.stream == ORDERS:
        return Recheck(partial(look_at_orders, batch, outbox.warehouse, settings), NOTHING)
    same_policy = batch.policy_hash in (None, settings.policy.hash)
    return Recheck(partial(look_at_customers, batch, settings), THE_DECISION if same_policy else NOTHING)


def with_present_amounts(reminders: pd.DataFrame, stream: str) -> pd.DataFrame:
    """Reminders as they are to be sent: those without an answer so far identically, unless an amount has changed since.

    What changed goes with the batch's own body, under the same id: Klaviyo records the one that it took first, and
    nobody is told what is no longer owed (RULES 9.3, 9.4).

    Args:
        reminders: rows of `Outbox.to_send`.
        stream: theirs.
    """
    own = reminders["own_body"].dropna()
    difference = _differing_order if stream == ORDERS else _difference
    pairs = zip(own.index, reminders.loc[own.index, "body"], own, strict=True)
    changed = [row for row, first, body in pairs if difference(first, body)]
    body = reminders["body"].mask(reminders.index.isin(changed), reminders["own_body"])
    return reminders.assign(body=body).drop(columns="own_body")


def look_at_customers(batch: Batch, settings: Settings, reminders: pd.DataFrame) -> tuple[int, dict[str, str | None]]:
    """Decides the customers of reminders about invoices afresh, on a scratch copy."""
    today = settings.today()
    with scratch_to_decide(settings, reminders["customer_id"].drop_duplicates().tolist()) as scratch:
        with scratch.transaction() as connection:
            known_until = latest_change_since(connection, batch.batch_id, batch.stream)
        derive(scratch, settings.policy, Days(today, today))
        pieces = reminder_pieces(scratch, settings, Days(today, today), RUN_ID)
        decided, decisions = (pd.concat(frames) for frames in zip(*pieces, strict=True))
    return known_until, what_changed(reminders, decisions, decided)


def look_at_orders(
    batch: Batch, warehouse: Warehouse, settings: Settings, reminders: pd.DataFrame
) -> tuple[int, dict[str, str | None]]:
    """Decides all edited orders afresh, at this instant."""
    with warehouse.transaction() as connection:
        known_until = latest_change_since(connection, batch.batch_id, batch.stream)
    now = decide_orders_now(warehouse, settings, live=batch.live)
    pieces = order_pieces(warehouse, settings, now, set(reminders["order_id"]))
    bodies = {key: body for piece in pieces for key, body in piece[["reminder_id", "body"]].to_numpy()}
    decisions = now.decided.decisions.merge(now.orders[["order_key", "order_id"]], on="order_key", validate="1:1")
    reasons = decisions.set_index("order_id")["reason"].astype("str")
    why = "it is not due now: " + reminders["order_id"].map(reasons).fillna("another event is")
    held = dict(zip(reminders["reminder_id"], why, strict=True))
    return known_until, _changes(reminders, bodies, held, _differing_order)


def _changes(
    reminders: pd.DataFrame, bodies: Mapping[str, str], held: Mapping[str, str], difference: Difference
) -> dict[str, str | None]:
    """What has changed about each reminder, by its id: how its amounts differ now, or why it is not decided."""
    return {
        reminder_id: difference(body, bodies[reminder_id]) if reminder_id in bodies else held[reminder_id]
        for reminder_id, body in zip(reminders["reminder_id"], reminders["body"], strict=True)
    }


def _differing_order(before: str, now: str) -> str | None:
    old, new = _properties(before), _properties(now)
    told = [
        f"{name} is {new[name]} {new['currency']}, not {old[name]} {old['currency']}"
        for name in ("outstanding", "total", "paid")
        if (new[name], new["currency"]) != (old[name], old["currency"])
    ]
    return "; ".join(told) or None


def what_changed(reminders: pd.DataFrame, decisions: pd.DataFrame, decided: pd.DataFrame) -> dict[str, str | None]:
    """What has changed about each reminder since it was decided, by its id; None where it stands.

    Args:
        reminders: what was decided: reminder_id, customer_id, level, carrying_invoice_id, body.
        decisions: the rows of `dunning.decisions` that the same day has now.
        decided: the reminders made of them, with their bodies.
    """
    bodies = dict(zip(decided["reminder_id"], decided["body"], strict=True))
    return _changes(reminders, bodies, _why_not(reminders, decisions), _difference)


def _why_not(reminders: pd.DataFrame, decisions: pd.DataFrame) -> Mapping[str, str]:
    """Why each reminder is not decided now, by its id; meaningless for those that are."""
    of = ["customer_id", "level", "about"]
    now = _with_place(reminders).merge(
        _with_place(decisions)[[*of, "decision", "reason", "carrying_invoice_id"]],
        on=of,
        how="left",
        suffixes=("", "_now"),
        validate="m:1",
    )
    told = pd.Series("another action is due", now.index, dtype="str")
    told = told.mask(now["carrying_invoice_id_now"] != now["carrying_invoice_id"], "another invoice carries")
    told = told.mask(now["decision"] == "skip", "it is not due now: " + now["reason"].astype("str"))
    told = told.mask(now["decision"].isna(), "nothing is owed any more")
    return dict(zip(now["reminder_id"], told, strict=True))


def _with_place(rows: pd.DataFrame) -> pd.DataFrame:
    """Adds `about`: the invoice at the invoice level; a customer has one row, whatever carries."""
    return rows.assign(about=rows["carrying_invoice_id"].where(rows["level"] == "invoice", ""))


def _difference(before: str, now: str) -> str | None:
    """How the amounts of two bodies of a reminder differ, in words."""
    old, new = _properties(before), _properties(now)
    told = list(_differing_invoices(old, new))
    if not told and _figures(old) != _figures(new):
        told = [f"{new['outstanding']} {new['currency']} is outstanding, not {old['outstanding']} {old['currency']}"]
    return "; ".join(told[:MOST_TOLD]) or None


def _properties(body: str) -> dict[str, Any]:
    """The properties of an event, amounts as they are written."""
    entry = json.loads(body, parse_float=str)
    properties: dict[str, Any] = entry["attributes"]["events"]["data"][0]["attributes"]["properties"]
    return properties


def _figures(properties: Mapping[str, Any]) -> list[object]:
    carrying = [properties["carrying_invoice_total"], properties["carrying_invoice_outstanding"]]
    groups = [properties, *properties["totals_by_currency"]]
    return [carrying, *([group["currency"], *(group[name] for name in _AMOUNTS)] for group in groups)]


def _differing_invoices(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What became of the listed invoices. Their numbers need not be unique."""
    before, now = ([_listed(invoice) for invoice in side["invoices"]] for side in (old, new))
    for invoice in (invoice for invoice in before if invoice not in now):
        same = [other for other in now if other.number == invoice.number]
        now_is = f"is {same[0]}, not" if same else "is no longer listed with"
        yield f"invoice {invoice.number} {now_is} {invoice}"
    for invoice in (invoice for invoice in now if invoice.number not in {known.number for known in before}):
        yield f"invoice {invoice.number} is listed now, with {invoice}"


@dataclass(frozen=True)
class _Listed:
    number: str
    currency: str
    total: object
    outstanding: object

    def __str__(self) -> str:
        return f"{self.outstanding} of {self.total} {self.currency}"


def _listed(invoice: Mapping[str, Any]) -> _Listed:
    return _Listed(invoice["number"], invoice["currency"], invoice["total"], invoice["outstanding"])
