"""Whether reminders that were decided still stand when they are about to leave (RULES 9.4).

Their customers are decided afresh, by the derivations of the daily job on a scratch copy, only where something was
pulled or recorded since, or the policy is another one. What is dropped and sent is up to sending.py.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dunning_pipeline.assets.reminders import reminder_pieces
from dunning_pipeline.outbox import Batch
from dunning_pipeline.partitions import Days
from dunning_pipeline.resources.changes import latest_change_since
from dunning_pipeline.rules.decisions import STREAM
from dunning_pipeline.scratch import RUN_ID, derive, scratch_to_decide
from dunning_pipeline.settings import Settings

MOST_TOLD = 3
"""Changes that a sentence names."""

_AMOUNTS = ("due", "overdue", "outstanding", "due_count", "overdue_count", "outstanding_count")
"""Figures of a reminder over all its invoices, as Klaviyo gets them."""


@dataclass
class Recheck:
    """What is known of a batch's reminders beyond their decision.

    `known_until` is the number of the latest change (`dunning.changes`) that is accounted for; 0: the decision itself;
    None: it does not matter, because what is decided here is the invoice side only.
    """

    batch: Batch
    settings: Settings
    known_until: int | None = 0
    _changed: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, settings: Settings) -> "Recheck":
        """What is known at first: the decision."""
        return cls(batch, settings, 0 if batch.stream == STREAM else None)

    def covers(self, reminders: pd.DataFrame) -> bool:
        """Whether it is known of each reminder if it stands."""
        if self.known_until is None or (self.known_until == 0 and self._same_policy):
            return True
        return set(reminders["reminder_id"]) <= self._changed.keys()

    def look(self, reminders: pd.DataFrame) -> None:
        """Decides the customers of the reminders afresh, from what is known now.

        Args:
            reminders: reminder_id, customer_id, carrying_invoice_id and the body that is about to be sent.
        """
        today = self.settings.today()
        with scratch_to_decide(self.settings, reminders["customer_id"].drop_duplicates().tolist()) as scratch:
            with scratch.transaction() as connection:
                self.known_until = latest_change_since(connection, self.batch.batch_id)
            derive(scratch, self.settings.policy, Days(today, today))
            pieces = reminder_pieces(scratch, self.settings, Days(today, today), RUN_ID)
            decided, decisions = (pd.concat(frames) for frames in zip(*pieces, strict=True))
        self._changed = what_changed(reminders, decisions, decided)

    def changed(self, reminders: pd.DataFrame) -> "pd.Series[str]":
        """What changed, as sentences, of the reminders that no longer stand; indexed like `reminders`, others empty."""
        return reminders["reminder_id"].map(self._changed).astype("str")

    @property
    def _same_policy(self) -> bool:
        return self.batch.policy_hash in (None, self.settings.policy.hash)


def what_changed(reminders: pd.DataFrame, decisions: pd.DataFrame, decided: pd.DataFrame) -> dict[str, str | None]:
    """What has changed about each reminder since it was decided, by its id; None where it stands.

    Args:
        reminders: what was decided: reminder_id, customer_id, level, carrying_invoice_id, body.
        decisions: the rows of `dunning.decisions` that the same day has now.
        decided: the reminders made of them, with their bodies.
    """
    bodies = dict(zip(decided["reminder_id"], decided["body"], strict=True))
    held = _why_not(reminders, decisions)
    return {
        reminder_id: _difference(body, bodies[reminder_id]) if reminder_id in bodies else held[reminder_id]
        for reminder_id, body in zip(reminders["reminder_id"], reminders["body"], strict=True)
    }


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
