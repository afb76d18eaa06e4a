"""What is sent over many days: everybody is looked at only on the days on which something can be due.

What stands on each day comes from timeline.py; which action is next, and when, is asked of the functions that decide
a single day (RULES 4 and 5).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd

from dunning_pipeline.policy import Policy
from dunning_pipeline.rules import ladder, timing
from dunning_pipeline.rules.carrying import in_order
from dunning_pipeline.rules.contacts import NO_DAY, latest_order_events
from dunning_pipeline.rules.decisions import reachable
from dunning_pipeline.rules.labels import labelled
from dunning_pipeline.rules.ladder import COMPLETED, Executed, Ladders, NextActions
from dunning_pipeline.rules.legs import Legs, anchors, dates
from dunning_pipeline.rules.spans import begins, distinct, packed
from dunning_pipeline.rules.standing import Records, Window, due_dates
from dunning_pipeline.rules.timeline import order_of, timeline


@dataclass(frozen=True)
class Replay:
    """What a policy would have sent, and whom it could have chased.

    reminders: remind_on, level, customer_key, invoice_key (of the carrying invoice), workflow and position (of the
        action) as places in the policy, occurrence; by day and customer.
    chased: keys of the customers that had something chaseable on a day of the window.
    """

    reminders: pd.DataFrame
    chased: np.ndarray


def replay(records: Records, policy: Policy, first: date, last: date) -> Replay:
    """What deciding every day from `first` to `last` would send if each reminder was accepted on its day.

    What was really sent in the window, or rejected, is not looked at; contacts recorded by hand are (RULES 2 to 6).

    Args:
        records: what was known by `last`.
        policy: all that decides.
        first: the first day.
        last: the last one, included.

    Raises:
        KeyError: a smart rule asks for a column that `records.customers` does not have.
    """
    window = Window.of(first, last)
    stood = timeline(records, policy, window)
    customers = records.customers["customer_key"].to_numpy()[reachable(records.customers, policy)]
    courses = stood.courses.take(np.flatnonzero(np.isin(stood.courses.spans.key, customers)))
    days = np.append(anchors(records.invoices, courses, policy), dates(np.array(window)))
    years = timing.years_around(days, policy)
    calendar = timing.WorkingDays.of(policy, records.customers["country"], years)
    legs, sent = send(Legs.of(courses, records, policy, calendar, window), records, policy)
    reminders = pd.DataFrame(
        {
            "remind_on": dates(sent.day).astype("datetime64[s]"),
            "level": labelled(legs.own[sent.leg], ["customer", "invoice"]),
            "customer_key": legs.customer_key[sent.leg],
            "invoice_key": records.invoices["invoice_key"].to_numpy()[legs.row[sent.leg]],
            "workflow": legs.workflow[sent.leg],
            "position": sent.position,
            "occurrence": sent.occurrence,
        }
    )
    return Replay(reminders, stood.chased)


@dataclass(frozen=True)
class Sent:
    """Reminders in order of day and leg: the number of the leg, the action's position, which execution it is."""

    day: np.ndarray
    leg: np.ndarray
    position: np.ndarray
    occurrence: np.ndarray

    @classmethod
    def together(cls, rounds: "Sequence[Sent]") -> "Sent":
        """The reminders of all rounds."""
        none = np.zeros(0, dtype="int64")
        day, leg, position, occurrence = (
            np.concatenate([none, *(getattr(sent, field.name) for sent in rounds)]) for field in fields(cls)
        )
        order = np.argsort(day * (leg.max(initial=0) + 1) + leg)
        return cls(day[order], leg[order], position[order], occurrence[order])


@dataclass(frozen=True)
class _Answer:
    """The next action of each leg, the day on which it may go, or the leg's end, and the day on which it became due."""

    next: NextActions
    due: np.ndarray
    since: np.ndarray


@dataclass(frozen=True)
class _Rules:
    """What decides when a leg's next action goes."""

    policy: Policy
    ladders: Ladders
    delays: np.ndarray

    @classmethod
    def of(cls, policy: Policy) -> "_Rules":
        delays = np.array([workflow.minimum_contact_delay for workflow in policy.workflows], dtype="int64")
        return cls(policy, Ladders.of(policy), delays)

    def ask(self, legs: Legs, executed: Executed, last_contact: np.ndarray, day: np.ndarray) -> _Answer:
        """Which action is next for each leg on its day, and when it may go (RULES 4, 5.1 to 5.3)."""
        as_of = day.astype("datetime64[D]")
        following = ladder.next_actions(legs.workflow, legs.anchor, executed, as_of, self.ladders, legs.calendar)
        allowed = timing.earliest_contact(last_contact, self.delays[legs.workflow], as_of)
        since = timing.latest_of(following.trigger, allowed)
        due = legs.calendar.forward(timing.latest_of(since, as_of)).astype("int64")
        due = np.where(following.position == COMPLETED, legs.stop, np.minimum(due, legs.stop))
        return _Answer(following, due, since)


def send(legs: Legs, records: Records, policy: Policy) -> tuple[Legs, Sent]:
    """The reminders that leave when each of them is accepted on its day, and the legs in which any could.

    Customers do not depend on each other, so in each round all of them are looked at, each on its own next day.
    """
    rules = _Rules.of(policy)
    # Whatever is sent meanwhile can only put off what is due: before this day nothing leaves in the leg.
    earliest = rules.ask(legs, legs.before, legs.last_contact, legs.start).due
    possible = np.flatnonzero(earliest < legs.stop)
    queue = _Queue(legs.take(possible), earliest[possible], records, rules)
    return queue.legs, Sent.together(list(queue.rounds()))


class _Queue:
    """The units that still have a next day, in order: the leg that each is in on that day (`leg`), and the day."""

    def __init__(self, legs: Legs, earliest: np.ndarray, records: Records, rules: _Rules) -> None:
        self.legs, self.rules, self._earliest, self._order_events = legs, rules, earliest, records.order_events
        self._precedence = _Precedence(records, distinct(legs.row[legs.own]), rules.policy.organisation.rates)
        self._ends = packed(legs.unit, legs.stop)
        self._executed = Executed.nothing(legs.course.max(initial=-1) + 1)
        # One more, for the reminders that count for no other unit.
        self._last_sent = np.full(max(legs.unit.max(initial=-1), legs.also.max(initial=-1)) + 2, NO_DAY)
        self.leg = np.flatnonzero(begins(legs.unit))
        self.day = earliest[self.leg]

    def rounds(self) -> Iterator[Sent]:
        """Looks at every customer on its next day, then on the one after that, until nobody has a next day."""
        while len(self.leg):
            turn = self._turn()
            leg, day = self.leg[turn], self.day[turn]
            legs = self.legs.take(leg)
            last_contact = np.fmax(legs.last_contact, self._last_sent[legs.unit])
            executed = legs.before.and_then(self._executed.take(legs.course))
            answer = self.rules.ask(legs, executed, last_contact, day)
            due = self._within_daily_maximum(legs, self._deferred(legs, answer, day), day)
            going = np.flatnonzero(due == day)
            sent = Sent(day[going], leg[going], answer.next.position[going], answer.next.occurrence[going])
            yield sent
            self._note(legs.take(going), sent)
            last_contact[going] = dates(day[going])
            delay = np.maximum(self.rules.delays[legs.workflow[going]], 1)
            due[going] = np.minimum(day[going] + delay, legs.stop[going])
            self._move(turn, legs, leg, due, last_contact)

    def _turn(self) -> np.ndarray | slice:
        """Whose turn it is: of each customer the units whose day comes first, since they are decided on together."""
        if not self.legs.own.any():
            return slice(None)
        customer = self.legs.customer[self.leg]
        first = np.flatnonzero(begins(customer))
        next_day = np.minimum.reduceat(self.day, first)
        return np.flatnonzero(self.day == np.repeat(next_day, np.diff(np.append(first, len(customer)))))

    def _deferred(self, legs: Legs, answer: _Answer, day: np.ndarray) -> np.ndarray:
        """When the next actions may go, those of today later where a recent order event defers them (RULES 5.4)."""
        due, cap = answer.due.copy(), self.rules.policy.contact_cap
        going = np.flatnonzero(due == day)
        if cap is None or not len(going):
            return due
        event = latest_order_events(self._order_events, legs.customer_key[going], day[going])
        since = legs.calendar.take(going).forward(answer.since[going])
        until = timing.deferred_until(event, since, cap)
        deferred = until > dates(day[going])
        due[going[deferred]] = np.minimum(until[deferred].astype("int64"), legs.stop[going[deferred]])
        return due

    def _within_daily_maximum(self, legs: Legs, due: np.ndarray, day: np.ndarray) -> np.ndarray:
        """When the next actions may go, a customer's reminders of today about single invoices beyond the most later."""
        most = self.rules.policy.max_invoice_reminders_per_customer_and_day
        single = np.flatnonzero((due == day) & legs.own)
        customer = legs.customer[single]
        crowded = single[np.bincount(customer, minlength=1)[customer] > most]
        if not len(crowded):
            return due
        beyond = crowded[self._precedence.places(legs.row[crowded], legs.customer[crowded]) >= most]
        due = due.copy()
        due[beyond] = day[beyond] + 1
        return due

    def _note(self, legs: Legs, sent: Sent) -> None:
        """What was sent executes actions and starts the minimum contact delays."""
        self._executed.add(legs.course, sent.position, dates(sent.day))
        self._last_sent[legs.unit] = self._last_sent[legs.also] = dates(sent.day)

    def _move(
        self, turn: np.ndarray | slice, legs: Legs, leg: np.ndarray, due: np.ndarray, last_contact: np.ndarray
    ) -> None:
        """Puts units down for their next day, in a later leg where that is the end of theirs."""
        over = np.flatnonzero(due == legs.stop)
        # In a later leg the delay may be shorter.
        allowed = last_contact[over] + self.rules.delays.min()
        due[over] = np.maximum(due[over], allowed.astype("int64"))
        leg = leg.copy()
        leg[over] = np.searchsorted(self._ends, packed(legs.unit[over], due[over]), "right")
        left = np.ones(len(self.leg), dtype=bool)
        there = leg < len(self.legs)
        there[there] = self.legs.unit[leg[there]] == legs.unit[there]
        left[turn] = there
        leg[~there] = 0
        self.leg[turn], self.day[turn] = leg, np.maximum(due, self._earliest[leg])
        self.leg, self.day = self.leg[left], self.day[left]


class _Precedence:
    """Which of a customer's invoices go first (RULES 2.1)."""

    def __init__(self, records: Records, rows: np.ndarray, rates: Mapping[str, Decimal]) -> None:
        order = order_of(records.invoices, rows, rates, records.texts)
        self._rank = np.zeros(len(records.invoices), dtype="int64")
        self._rank[order.row] = np.arange(len(order.row))
        self._unsettled = np.zeros(len(records.invoices), dtype=bool)
        self._unsettled[order.row] = order.unsettled
        self._invoices = _to_compare(records, rows if order.unsettled.any() else rows[:0])
        self._rates = rates

    def places(self, row: np.ndarray, customer: np.ndarray) -> np.ndarray:
        """The place of each row of invoices, from 0, among those of its customer that are there."""
        if self._unsettled[row].any():
            ordered = in_order(self._invoices.loc[row].set_axis(np.arange(len(row))), self._rates)
            return ordered.groupby("customer_key").cumcount().sort_index().to_numpy()
        order = np.lexsort((self._rank[row], customer))
        number = np.arange(len(order))
        first = np.maximum.accumulate(np.where(begins(customer[order]), number, 0))
        places = np.empty(len(order), dtype="int64")
        places[order] = number - first
        return places


def _to_compare(records: Records, rows: np.ndarray) -> pd.DataFrame:
    """Invoices with what RULES 2.1 orders them by, indexed by their rows."""
    invoices = records.invoices[["customer_key", "currency", "total_minor"]].iloc[rows]
    ids = records.texts(records.invoices["invoice_key"].to_numpy()[rows])["invoice_id"].array if len(rows) else None
    due = due_dates(records.invoices.iloc[rows])
    return invoices.assign(invoice_id=ids, due_on=due).set_axis(rows)
