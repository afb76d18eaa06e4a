"""Section 8 of the rules once more, as plainly as it can be written: one order at a time, loops, instants and integers.

The pipeline is compared with this, so nothing of it belongs here, nor any library beyond the standard one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from reference import NAMESPACE

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ALWAYS, NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""An instant before all others, where one is not known."""

_LETTERED = re.compile(r"(.*[0-9])([A-Z])")
_VALID = {
    "email": re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+"),
    "phone": re.compile(r"\+[1-9]\d{6,14}"),
    "external_id": re.compile(r".*\S.*"),
}
_PARTLY = ("partially_fulfilled", "partial")
_RETURNED = ("refunded", "partially_refunded")


@dataclass(frozen=True)
class Order:
    """`key` settles which of two orders that were created at once is the first."""

    order_id: str
    key: int
    name: str
    created_at: datetime | None
    source: str = "shop"
    buyer: str | None = "B1"
    currency: str = "EUR"
    outstanding_minor: int = 1_000
    cancelled_at: datetime | None = None
    replaces_order_id: str | None = None
    unclear: bool = False
    email: str | None = "ada@quay.test"
    phone: str | None = None
    external_id: str | None = None


@dataclass(frozen=True)
class Edit:
    """`seen_at` is when it became known; None: when it was made."""

    order_id: str
    edit_id: str
    edited_at: datetime
    edited_by: str | None = "customer_portal"
    kind: str | None = "order_edit"
    seen_at: datetime | None = None

    @property
    def known_at(self) -> datetime:
        return self.seen_at or self.edited_at


@dataclass(frozen=True)
class Observation:
    order_id: str
    observed_at: datetime
    outstanding_minor: int
    currency: str = "EUR"
    financial_status: str | None = None
    fulfillment_status: str | None = None
    cancelled_at: datetime | None = None


@dataclass(frozen=True)
class Sent:
    """What was sent of an order's series: the last occurrence that was accepted, and the latest instants."""

    order_id: str
    first_edit_id: str
    occurrence: int = 0
    accepted_at: datetime | None = None
    doubtful_at: datetime | None = None
    held_at: datetime | None = None
    open_at: datetime | None = None

    @property
    def latest(self) -> datetime:
        known = [at for at in (self.accepted_at, self.doubtful_at, self.held_at, self.open_at) if at]
        return max(known, default=ALWAYS)

    @property
    def latest_of_its_edit(self) -> datetime:
        """Without what has no answer today, which goes again under its id."""
        return replace(self, open_at=None).latest


@dataclass(frozen=True)
class Rejection:
    """An event that Klaviyo rejected, the identifiers that it bore, and whether the policy is still that one."""

    reminder_id: str
    email: str | None = None
    phone: str | None = None
    external_id: str | None = None
    policy_unchanged: bool = True


@dataclass
class Shop:
    orders: list[Order] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """Settings of the policy file; `quiet_hours`, from and to, are by the clock of `time_zone`."""

    start_at: datetime
    edited_by: tuple[str, ...] = ("customer_portal",)
    every_hours: int = 24
    tolerance: Mapping[str, int] = field(default_factory=dict)
    stop_on: str = "fulfilled"
    max_reminders: int | None = None
    stop_after_days: int | None = None
    quiet_hours: tuple[time, time] | None = None
    time_zone: str = "Europe/Berlin"
    identify_by: tuple[str, ...] = ("email",)


@dataclass
class Series:
    """`since` is when its stretch of time begins; `state` is open or what ended it."""

    first_edit: Edit
    since: datetime
    started_at: datetime
    ended_at: datetime | None = None
    state: str = "open"
    occurrence: int = 0
    accepted_at: datetime | None = None
    latest: datetime = ALWAYS


@dataclass(frozen=True)
class SeriesRow:
    order_id: str
    series: int
    first_edit_id: str
    started_at: datetime
    outstanding_minor: int
    currency: str
    last_sent_at: datetime | None
    occurrences: int
    next_due_at: datetime | None
    state: str


@dataclass(frozen=True)
class DecisionRow:
    order_id: str
    series: int
    decision: str
    reason: str | None
    next_due_at: datetime | None
    occurrence: int | None
    reminder_id: str | None
    first_edit_id: str | None


@dataclass(frozen=True)
class Decided:
    """`edits`: order that stands for its lineage, and edit, of live series."""

    series: list[SeriesRow]
    decisions: list[DecisionRow]
    edits: set[tuple[str, str]]


def decide(shop: Shop, rules: Rules, now: datetime) -> Decided:
    """Every order that was edited, or that one before it was, at an instant; by order id."""
    chains = Chains(shop.orders)
    decided = Decided([], [], set())
    for last in shop.orders:
        if last.order_id not in chains.replaced_by:
            story = Story(shop, rules, chains, chains.lineage(last))
            for order in story.orders:
                series, decision = _rows(story, order, now)
                decided.series.extend(series)
                if story.edits:
                    decided.decisions.append(decision)
            decided.edits.update((last.order_id, edit.edit_id) for edit in story.live_edits())
    decided.series.sort(key=lambda row: (row.order_id, row.series))
    decided.decisions.sort(key=lambda row: row.order_id)
    return decided


class Chains:
    """Which order replaced which (8.5)."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self.orders = {order.order_id: order for order in orders}
        claims: dict[str, list[Order]] = {}
        for order in orders:
            old = self._named(order) or self._before_by_name(order)
            if old and old is not order and (order.created_at or NEVER) >= (old.created_at or ALWAYS):
                claims.setdefault(old.order_id, []).append(order)
        self.replaced_by = {
            old: min(claimants, key=lambda order: (order.created_at or ALWAYS, order.key))
            for old, claimants in claims.items()
        }
        self.replaces = {new.order_id: self.orders[old] for old, new in self.replaced_by.items()}

    def _named(self, order: Order) -> Order | None:
        return self.orders.get(order.replaces_order_id or "")

    def _before_by_name(self, order: Order) -> Order | None:
        """The order of the same buyer with the name before: without the letter, or with the letter before."""
        parts = _LETTERED.fullmatch(order.name)
        if parts is None or order.buyer is None:
            return None
        base, letter = parts.groups()
        older = [
            other
            for other in self.orders.values()
            if (other.source, other.buyer) == (order.source, order.buyer)
            and (other.name == base or (other.name[:-1] == base and "A" <= other.name[-1] < letter))
        ]
        latest = max(older, key=lambda other: other.name, default=None)
        return latest if latest and latest.cancelled_at else None

    def is_edit(self, edit: Edit, rules: Rules) -> bool:
        """An order created in place of none that is known was placed, unless a named party says otherwise."""
        order = self.orders.get(edit.order_id)
        replaces = edit.order_id in self.replaces or bool(order and self._named(order))
        return edit.kind != "replacement" or replaces or edit.edited_by in rules.edited_by

    def lineage(self, last: Order) -> list[Order]:
        """From the first order to the one that stands for them all now."""
        orders = [last]
        while orders[0].order_id in self.replaces:
            orders.insert(0, self.replaces[orders[0].order_id])
        return orders

    def replaced_at(self, order: Order) -> datetime | None:
        """Its cancellation or its replacement, whichever came first."""
        if order.order_id not in self.replaced_by:
            return None
        known = [at for at in (self.replaced_by[order.order_id].created_at, order.cancelled_at) if at]
        return min(known, default=ALWAYS)


class Story:
    """What happened to a lineage: its edits, what was seen of it, and the series that follow (8.1, 8.3 to 8.5)."""

    def __init__(self, shop: Shop, rules: Rules, chains: Chains, orders: list[Order]) -> None:
        self.shop, self.rules, self.chains, self.orders = shop, rules, chains, orders
        self.ids = {order.order_id for order in orders}
        told = [edit for edit in shop.edits if edit.order_id in self.ids]
        self.edits = [edit for edit in told if chains.is_edit(edit, rules)] + self._replacements()
        self.by_party = [edit for edit in self.edits if self._is_by_party(edit)]
        self.qualifying = [edit for edit in self.by_party if edit.edited_at >= rules.start_at]
        self.seen = sorted(
            (seen for seen in shop.observations if seen.order_id in self.ids and self._stood_for_it(seen)),
            key=lambda seen: seen.observed_at,
        )
        self.series: list[Series] = []
        self.waits_for_an_observation = False
        self._walk()
        for sent in shop.sent:
            self._count(sent)

    def _replacements(self) -> list[Edit]:
        """An edit for each replacement that comes without one."""
        implied = []
        for old, new in zip(self.orders, self.orders[1:], strict=False):
            told = any(edit.order_id == new.order_id and edit.kind == "replacement" for edit in self.shop.edits)
            if new.created_at and not told:
                edit_id = f"replacement of {old.order_id} by {new.order_id}"
                implied.append(Edit(new.order_id, edit_id, new.created_at, self._editor(old), "replacement"))
        return implied

    def _editor(self, order: Order) -> str | None:
        """The party known to have edited an order last; one that nobody edited was made by that of the one before."""
        told = [edit for edit in self.shop.edits if edit.order_id == order.order_id and edit.edited_by]
        edits = [edit for edit in told if self.chains.is_edit(edit, self.rules)]
        if edits:
            return max(edits, key=lambda edit: (edit.edited_at, edit.edit_id)).edited_by
        older = self.chains.replaces.get(order.order_id)
        return self._editor(older) if older else None

    def _is_by_party(self, edit: Edit) -> bool:
        return "any" in self.rules.edited_by or edit.edited_by in self.rules.edited_by

    def _stood_for_it(self, seen: Observation) -> bool:
        until = self.chains.replaced_at(self.chains.orders[seen.order_id])
        return until is None or seen.observed_at < until

    def shows(self, seen: Observation) -> str:
        """`open`, or what ends a series (8.3)."""
        if seen.cancelled_at:
            return "cancelled"
        stops = ("fulfilled", *_PARTLY) if self.rules.stop_on == "partially_fulfilled" else ("fulfilled",)
        if seen.fulfillment_status in stops:
            return "fulfilled"
        if seen.outstanding_minor > self.rules.tolerance.get(seen.currency, 0):
            return "open"
        returned = seen.outstanding_minor < 0 or seen.financial_status in _RETURNED
        return "refunded" if returned else "paid"

    def place(self, edit: Edit) -> datetime:
        """Where an edit stands among what was seen: before the first observation since it was known.

        If there is none, before the latest one, though it was made before the edit was known.
        """
        known_of = edit.known_at
        if self.seen and self.seen[-1].observed_at < known_of:
            known_of = self.seen[-1].observed_at
        return max(edit.edited_at, known_of) if self.seen else edit.edited_at

    def _moment(self, event: Edit | Observation) -> tuple[datetime, bool, datetime, str]:
        if isinstance(event, Edit):
            return self.place(event), False, event.edited_at, event.edit_id
        return event.observed_at, True, event.observed_at, event.order_id

    def _walk(self) -> None:
        """From event to event; what was seen at the instant of an edit was seen after it."""
        first, live, since = None, None, None
        for event in sorted([*self.qualifying, *self.seen], key=self._moment):
            since = since or self._moment(event)[0]
            if isinstance(event, Edit):
                first = first or event
            elif (shown := self.shows(event)) != "open":
                if live:
                    live.ended_at, live.state = event.observed_at, shown
                first, live, since = None, None, None
            elif first and not live:
                live = Series(first, since, event.observed_at)
                self.series.append(live)
        self.waits_for_an_observation = first is not None and live is None

    def _count(self, sent: Sent) -> None:
        """Counts what was sent for the series of its first edit; if none, or it had ended by then, for that of then."""
        if sent.order_id not in self.ids:
            return
        own = [series for series in self.series if series.first_edit.edit_id == sent.first_edit_id]
        if not own or (own[0].ended_at and sent.latest > own[0].ended_at):
            # In a restored warehouse the edit became known only after the event was sent.
            places = [self.place(edit) for edit in self.edits if edit.edit_id == sent.first_edit_id]
            own = [series for series in self.series if series.since <= max([sent.latest, *places])][-1:]
        for series in own:
            series.occurrence = max(series.occurrence, sent.occurrence)
            its_edit = series.first_edit.edit_id == sent.first_edit_id
            series.latest = max(series.latest, sent.latest_of_its_edit if its_edit else sent.latest)
            if sent.accepted_at:
                series.accepted_at = max(series.accepted_at or ALWAYS, sent.accepted_at)

    @property
    def live(self) -> Series | None:
        return self.series[-1] if self.series and self.series[-1].ended_at is None else None

    def live_edits(self) -> list[Edit]:
        if self.live is None:
            return []
        first = self.place(self.live.first_edit)
        return [edit for edit in self.qualifying if self.place(edit) >= first]

    def reason_for_no_series(self) -> str:
        if self.waits_for_an_observation:
            return "source_unclear"
        shown = self.shows(self.seen[-1]) if self.seen else "open"
        if not self.by_party:
            return "no_qualifying_edit"
        if not self.qualifying:
            return "before_start"
        if shown == "open":
            return "no_qualifying_edit"
        return shown if shown in {"cancelled", "fulfilled"} else "no_balance"


def _rows(story: Story, order: Order, now: datetime) -> tuple[list[SeriesRow], DecisionRow]:
    until = story.chains.replaced_at(order)
    before = story.chains.replaces.get(order.order_id)
    began = story.chains.replaced_at(before) if before else None
    own = [
        series
        for series in story.series
        if (until is None or series.started_at < until)
        and (began is None or series.ended_at is None or series.ended_at >= began)
    ]
    decision = _decision(story, order, now, len(own))
    rows = []
    for number, series in enumerate(own, start=1):
        state, due_at = series.state, None
        if until is not None and (series.ended_at is None or series.ended_at >= until):
            state = "replaced"
        elif state == "open":
            state = "stopped" if decision.reason in {"max_reminders", "stopped"} else "open"
            due_at = decision.next_due_at
        money = (order.outstanding_minor, order.currency)
        figures = (series.accepted_at, series.occurrence, due_at, state)
        rows.append(SeriesRow(order.order_id, number, series.first_edit.edit_id, series.started_at, *money, *figures))
    return rows, decision


def _decision(story: Story, order: Order, now: datetime, number: int) -> DecisionRow:
    rules = story.rules
    if story.chains.replaced_at(order) is not None:
        return DecisionRow(order.order_id, number, "skip", "replaced", None, None, None, None)
    series = story.live
    if series is None:
        reason = "source_unclear" if order.unclear else story.reason_for_no_series()
        return DecisionRow(order.order_id, number, "skip", reason, None, None, None, None)
    occurrence, first_edit_id = series.occurrence + 1, series.first_edit.edit_id
    reminder = reminder_id(order.order_id, first_edit_id, occurrence)
    reason = _reason(story, order, series, now)
    if reason is None and _is_rejected(story, order, reminder):
        reason = "rejected"
    due_at = _leaves_at(series, rules, now) if reason in {None, "waiting", "quiet_hours"} else None
    if due_at and rules.stop_after_days and due_at >= series.started_at + rules.stop_after_days * DAY:
        due_at = None
    return DecisionRow(
        order_id=order.order_id,
        series=number,
        decision="skip" if reason else "remind",
        reason=reason,
        next_due_at=due_at,
        occurrence=occurrence,
        reminder_id=None if reason else reminder,
        first_edit_id=first_edit_id,
    )


def _reason(story: Story, order: Order, series: Series, now: datetime) -> str | None:
    """What holds back the next event of a live series, before it is known whether Klaviyo rejected it."""
    rules = story.rules
    if order.unclear:
        return "source_unclear"
    if rules.max_reminders is not None and series.occurrence >= rules.max_reminders:
        return "max_reminders"
    if rules.stop_after_days is not None and now >= series.started_at + rules.stop_after_days * DAY:
        return "stopped"
    if not any(usable(order, rules).values()):
        return "no_contact_address"
    if now < _due_at(series, rules, now):
        return "waiting"
    return "quiet_hours" if after_quiet_hours(now, rules) > now else None


def _due_at(series: Series, rules: Rules, now: datetime) -> datetime:
    """At once, though the shop's clock be ahead of ours, then whenever so many hours are over (8.2)."""
    return min(series.started_at, now) if series.latest == ALWAYS else series.latest + rules.every_hours * HOUR


def _leaves_at(series: Series, rules: Rules, now: datetime) -> datetime:
    return after_quiet_hours(max(_due_at(series, rules, now), now), rules)


def after_quiet_hours(at: datetime, rules: Rules) -> datetime:
    """The instant itself, or the end of the quiet hours that it falls in (8.6).

    They last from when the clock first shows their beginning until it shows their end for the last time.
    """
    if rules.quiet_hours is None:
        return at
    begin, end = rules.quiet_hours
    zone = ZoneInfo(rules.time_zone)
    today = at.astimezone(zone).date()
    for day in (today - DAY, today):
        last_day = day + DAY if end < begin else day
        begins_at, ends_at = _shown(day, begin, zone, fold=0), _shown(last_day, end, zone, fold=1)
        if begins_at <= at < ends_at:
            return after_quiet_hours(ends_at, rules)
    return at


def _shown(day: date, moment: time, zone: ZoneInfo, fold: int) -> datetime:
    """When the clock shows a time of day, the first (fold 0) or the second time; if it jumps over it, the jump."""
    wanted = datetime.combine(day, moment)
    at = wanted.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == wanted:
        return at
    at = min(wanted.replace(tzinfo=zone, fold=either).astimezone(UTC) for either in (0, 1))
    while at.astimezone(zone).replace(tzinfo=None) < wanted:
        at += MINUTE
    return at


def usable(order: Order, rules: Rules) -> dict[str, str]:
    """The identifiers that are present and valid (6.4)."""
    texts = {name: (getattr(order, name) or "").strip() for name in rules.identify_by}
    return {name: text for name, text in texts.items() if _VALID[name].fullmatch(text)}


def _is_rejected(story: Story, order: Order, reminder: str) -> bool:
    """Whether Klaviyo rejected this very event, with these identifiers, under this policy (6.5)."""
    now = usable(order, story.rules)
    return any(
        rejection.reminder_id == reminder
        and rejection.policy_unchanged
        and all((getattr(rejection, name) or "") == now.get(name, "") for name in story.rules.identify_by)
        for rejection in story.shop.rejections
    )


def reminder_id(order_id: str, first_edit_id: str, occurrence: int) -> str:
    """8.7."""
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(("order", order_id, first_edit_id, str(occurrence)))))
