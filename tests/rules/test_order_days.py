"""Orders over several days: each event that is due is sent, and what was sent is looked at against the rules.

The clock goes from event to event, and to when the next one was announced, so that a wrong announcement is one that
comes late.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import order_frames as frames
import order_reference as reference
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from order_reference import Decided, DecisionRow, Rejection, Rules, Sent, Shop, Story
from order_shops import CENTRES, EDITED_BY, HOUR, Generator

FEW = settings(
    max_examples=1,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=20, derandomize=False, print_blob=True)
seeds = st.integers(0, 2**32 - 1)
LAST = 48 * HOUR


class Coarse(Generator):
    """Instants six hours apart, so that a walk has few steps."""

    def instant(self, earliest: int = -60, latest: int = 36) -> datetime:
        return self.centre + self.chance.randint(earliest // 6, latest // 6) * 6 * HOUR


@dataclass(frozen=True)
class Event:
    """One that left, and what became of it: accepted, doubtful or rejected."""

    at: datetime
    row: DecisionRow
    outcome: str


@dataclass
class Walk:
    """`changes` are the rules from an instant on."""

    chance: random.Random
    shop: Shop
    rules: Rules
    changes: dict[datetime, Rules] = field(default_factory=dict)
    every_answer: tuple[str, ...] = ("accepted",)
    events: list[Event] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    def instants(self) -> set[datetime]:
        edited = {edit.known_at for edit in self.shop.edits}
        placed = {order.created_at for order in self.shop.orders} | {order.cancelled_at for order in self.shop.orders}
        return edited | {seen.observed_at for seen in self.shop.observations} | {*self.changes} | placed - {None}

    def known(self, now: datetime) -> Shop:
        """What a pull can have told until now."""
        shop = self.shop
        return Shop(
            orders=[
                replace(order, cancelled_at=order.cancelled_at if (order.cancelled_at or now) < now else None)
                for order in shop.orders
                if (order.created_at or now) <= now
            ],
            edits=[edit for edit in shop.edits if edit.known_at <= now],
            observations=[seen for seen in shop.observations if seen.observed_at <= now],
            sent=self.sent(),
            rejections=self.rejections,
        )

    def sent(self) -> list[Sent]:
        by_series: dict[tuple[str, str | None], list[Event]] = defaultdict(list)
        for event in self.events:
            by_series[event.row.order_id, event.row.first_edit_id].append(event)
        return [
            Sent(
                *series,
                occurrence=max((event.row.occurrence for event in events if event.outcome == "accepted"), default=0),
                accepted_at=max((event.at for event in events if event.outcome == "accepted"), default=None),
                doubtful_at=max((event.at for event in events if event.outcome == "doubtful"), default=None),
            )
            for series, events in by_series.items()
        ]

    def go(self, until: datetime) -> None:
        ahead = self.instants()
        while ahead and (now := min(ahead)) <= until:
            self.rules = self.changes.get(now, self.rules)
            known = self.known(now)
            decided = frames.decide(known, self.rules, now)
            nobody_is_forgotten(decided, known, self.rules, now)
            self.send(decided, known, now)
            ahead |= {row.next_due_at for row in decided.decisions if row.next_due_at}
            if any(event.at == now for event in self.events):
                # When the next one goes is announced by a decision after this one.
                ahead.add(now + HOUR)
            ahead = {instant for instant in ahead if instant > now}

    def send(self, decided: Decided, known: Shop, now: datetime) -> None:
        orders = {order.order_id: order for order in known.orders}
        chains = reference.Chains(known.orders)
        for row in decided.decisions:
            if row.decision == "remind":
                lineage = chains.lineage(orders[row.order_id])
                may_go(Story(known, self.rules, chains, lineage), self.earlier(lineage), self.rules, now)
                outcome = self.chance.choice(self.every_answer)
                self.events.append(Event(now, row, outcome))
                if outcome == "rejected":
                    bore = reference.usable(orders[row.order_id], self.rules)
                    self.rejections.append(Rejection(row.reminder_id or "", **bore))

    def earlier(self, lineage: list[reference.Order]) -> list[datetime]:
        """When events about orders of a lineage left that may have reached somebody."""
        ids = {order.order_id for order in lineage}
        return [event.at for event in self.events if event.row.order_id in ids and event.outcome != "rejected"]


def nobody_is_forgotten(decided: Decided, known: Shop, rules: Rules, now: datetime) -> None:
    """A live series of which the time has passed outside quiet hours is always reminded of."""
    rejected = {rejection.reminder_id for rejection in known.rejections}
    doubtful = {(sent.order_id, sent.first_edit_id): sent.doubtful_at for sent in known.sent if sent.doubtful_at}
    orders = {order.order_id: order for order in known.orders}
    reasons = {row.order_id: row.reason for row in decided.decisions}
    for series in decided.series:
        order = orders[series.order_id]
        told = reference.reminder_id(series.order_id, series.first_edit_id, series.occurrences + 1)
        held = order.unclear or not reference.usable(order, rules) or told in rejected
        since = [series.last_sent_at, *(at for (order_id, _), at in doubtful.items() if order_id == order.order_id)]
        waits = any(at and now < at + rules.every_hours * HOUR for at in since)
        if series.state == "open" and not (held or waits or is_quiet(now, rules) or is_in_doubt(series, doubtful)):
            assert reasons[order.order_id] is None, (order, series, reasons[order.order_id], now)


def is_in_doubt(series: reference.SeriesRow, doubtful: dict[tuple[str, str], datetime | None]) -> bool:
    """Whether an event about an order before it may have left of the same series."""
    return any(edit_id == series.first_edit_id and order_id != series.order_id for order_id, edit_id in doubtful)


def is_quiet(now: datetime, rules: Rules) -> bool:
    return reference.after_quiet_hours(now, rules) != now


def shows_a_quiet_time(now: datetime, rules: Rules) -> bool:
    if rules.quiet_hours is None:
        return False
    begin, end = rules.quiet_hours
    shown = now.astimezone(ZoneInfo(rules.time_zone)).time()
    return begin <= shown < end if begin < end else shown >= begin or shown < end


def may_go(story: Story, earlier: list[datetime], rules: Rules, now: datetime) -> None:
    """What holds whenever an event goes."""
    assert not shows_a_quiet_time(now, rules)
    assert story.shows(story.seen[-1]) == "open"
    assert any(edit.edited_at <= story.seen[-1].observed_at for edit in story.qualifying)
    for before in earlier:
        ends = [seen.observed_at for seen in story.seen if seen.observed_at >= before and story.shows(seen) != "open"]
        began = any(story.place(edit) >= end for edit in story.qualifying for end in ends)
        assert now - before >= rules.every_hours * HOUR or began, (story.orders, before, now)


def walk(seed: int, late: float = 0.0, **columns: object) -> Walk:
    """A shop of which nothing was sent before; its rules end no series by number or age of its events."""
    note(f"seed {seed}")
    chance = random.Random(seed)
    case = Coarse(chance, CENTRES[seed % len(CENTRES)], calm=0.8, late=late).case()
    rules = replace(case.rules, every_hours=chance.choice([24, 24, 10]), edited_by=chance.choice(EDITED_BY[-2:]))
    shop = replace(case.shop, sent=[], rejections=[])
    return Walk(chance, shop, unlimited(rules), **columns)


def unlimited(rules: Rules) -> Rules:
    return replace(rules, max_reminders=None, stop_after_days=None, identify_by=("email",))


def check_plain(seed: int) -> None:
    day = walk(seed)
    day.go(CENTRES[seed % len(CENTRES)] + LAST)
    ids = [event.row.reminder_id for event in day.events]
    assert len(ids) == len({*ids})
    by_series: dict[tuple[str, str | None], list[Event]] = defaultdict(list)
    chains = reference.Chains(day.shop.orders)
    for event in day.events:
        if event.row.order_id not in {*chains.replaced_by, *chains.replaces}:
            by_series[event.row.order_id, event.row.first_edit_id].append(event)
    assert by_series
    for events in by_series.values():
        assert [event.row.occurrence for event in events] == [*range(1, len(events) + 1)]
        for before, after in pairwise(events):
            assert after.at == reference.after_quiet_hours(before.at + day.rules.every_hours * HOUR, day.rules)


@FEW
@given(seeds)
def test_each_series_gets_its_events_one_by_one_as_soon_as_each_is_due(seed: int) -> None:
    check_plain(seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
@MANY
@given(seeds)
def test_each_series_gets_its_events_one_by_one_in_many_shops(seed: int) -> None:
    check_plain(seed)


def check_changing(seed: int) -> None:
    """Edits arrive late, answers are lost, events rejected, and the policy counts other edits and balances."""
    day = walk(seed, late=0.3, every_answer=(*8 * ["accepted"], "doubtful", "rejected"))
    generator = Coarse(day.chance, CENTRES[seed % len(CENTRES)])
    for _ in range(4):
        other = unlimited(generator.rules())
        day.changes[generator.instant()] = replace(other, every_hours=day.rules.every_hours)
    day.go(generator.centre + LAST)
    accepted = [event.row.reminder_id for event in day.events if event.outcome == "accepted"]
    assert len(accepted) == len({*accepted})
    assert accepted


@FEW
@given(seeds)
def test_nobody_gets_two_events_for_one_though_policy_edits_and_answers_change(seed: int) -> None:
    check_changing(seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
@MANY
@given(seeds)
def test_nobody_gets_two_events_for_one_in_many_shops(seed: int) -> None:
    check_changing(seed)


def test_an_order_that_is_looked_at_every_minute_gets_an_event_a_day_when_quiet_hours_end() -> None:
    """From the edit at noon of 24 October on, over the night in which the clock of Berlin goes back.

    The rules are asked whenever the reference says another thing than in the minute before, and for that one.
    """
    noon = datetime(2026, 10, 24, 10, tzinfo=UTC)
    hours = (noon - frames.NOON) / HOUR
    shop = frames.shop(frames.order(created=hours - 1), *frames.left(hours=hours))
    rules = replace(frames.RULES, quiet_hours=(time(11), time(12, 30)))
    day = Walk(random.Random(0), shop, rules)
    went, before = [], (day.known(noon), noon, reference.decide(day.known(noon), rules, noon))
    for minute in range(3 * 24 * 60):
        now = noon + timedelta(minutes=minute)
        known = day.known(now)
        decided = reference.decide(known, rules, now)
        (row,) = decided.decisions
        if row.reason != before[2].decisions[0].reason:
            assert frames.decide(before[0], rules, before[1]) == before[2]
            assert frames.decide(known, rules, now) == decided
        before = known, now, decided
        if row.decision == "remind":
            went.append(f"{now.astimezone(ZoneInfo(rules.time_zone)):%d %H:%M %Z}")
            day.events.append(Event(now, row, "accepted"))
    assert went == ["24 12:30 CEST", "25 12:30 CET", "26 12:30 CET"]
