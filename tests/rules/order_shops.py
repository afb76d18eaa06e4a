"""Generated shops, full of ties, boundaries and odd rows, for the order side's rules."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

import order_reference as reference
from order_reference import Edit, Observation, Order, Rejection, Rules, Sent, Shop

HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
# Noon before the clock goes forward, before it goes back, and of a day far from both.
CENTRES = (
    datetime(2026, 3, 28, 12, tzinfo=UTC),
    datetime(2026, 10, 24, 12, tzinfo=UTC),
    datetime(2026, 6, 10, 12, tzinfo=UTC),
)
PARTIES = (*4 * ["customer_portal"], "staff", "staff", "other", None)
EDITED_BY = (("customer_portal",), ("staff",), ("any",), ("customer_portal", "staff"), ("any",))
EMAILS = (*9 * ["ada@quay.test"], " ada@quay.test ", "nobody", "", None)
PHONES = ("+441632960001", "01632 960001", None)
EXTERNAL_IDS = ("B-1", "  ", None)
CURRENCIES = ("EUR", "EUR", "JPY", "KWD")
BALANCES = (*12 * [1_000], 501, 500, 499, 1, 0, 0, -1, -250)
FINANCIAL = (None, "partially_paid", "paid", "refunded", "partially_refunded")
FULFILLED = (*15 * [None], "unfulfilled", "partially_fulfilled", "partial", "fulfilled")
QUIET = (*2 * [None], (21, 8), (12, 13), (0, 6), (22, 0), (1, 3), (2, 7), (20, 2))

ORDERS = 100


@dataclass(frozen=True)
class Case:
    shop: Shop
    rules: Rules
    now: datetime


@dataclass(frozen=True)
class Generator:
    """Makes a shop and rules; all that it draws comes from `chance`.

    `calm` is how often an observation shows nothing but a balance, `late` how often an edit becomes known later.
    """

    chance: random.Random
    centre: datetime
    calm: float = 0.0
    late: float = 0.2

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def instant(self, earliest: int = -60, latest: int = 36) -> datetime:
        """Mostly full hours, so that many fall together, and some a microsecond beside one."""
        beside = self.chance.choice([0, 0, 0, 0, 1, -1]) * MICROSECOND
        return self.centre + self.chance.randint(earliest, latest) * HOUR + beside

    def rules(self) -> Rules:
        quiet = self.chance.choice(QUIET)
        half = self.chance.choice([0, 0, 30])
        return Rules(
            start_at=self.instant(-90, -10),
            edited_by=self.chance.choice(EDITED_BY),
            every_hours=self.chance.choice([24, 24, 24, 6, 1, 48]),
            tolerance=self.chance.choice([{}, {"EUR": 500}, {"EUR": 499, "JPY": 500, "KWD": 1}]),
            stop_on=self.chance.choice(["fulfilled", "partially_fulfilled"]),
            max_reminders=self.chance.choice([None, None, None, 2, 4]),
            stop_after_days=self.chance.choice([None, None, None, 1, 2, 3]),
            quiet_hours=quiet and (time(quiet[0], half), time(quiet[1], 30 - half)),
            identify_by=self.chance.choice([("email",), ("email",), ("email", "phone"), ("phone", "external_id")]),
        )

    def case(self) -> Case:
        rules, shop = self.rules(), Shop()
        while len(shop.orders) < ORDERS:
            self.add_lineage(shop)
        now = self.instant(-6, 40)
        self.add_sent(shop, rules, now)
        self.add_rejections(shop, rules, now)
        for rows in (shop.orders, shop.edits, shop.observations, shop.sent, shop.rejections):
            self.chance.shuffle(rows)
        return Case(shop, rules, now)

    def add_lineage(self, shop: Shop) -> None:
        """Some orders that replace one another, and some that nearly do."""
        number = 1_000 + len(shop.orders)
        created_at = self.instant(-60, -20)
        orders = [self.order(shop, f"#{number}", created_at)]
        for letter in "ABCD"[: self.chance.choice([*7 * [0], 1, 1, 2, 3, 4])]:
            created_at = (created_at or self.centre) + self.chance.choice([0, 1, 3, 12, 24, 36, -2]) * HOUR
            orders.append(self.replacement(shop, orders, f"#{number}{letter}", created_at))
        shop.orders += orders
        observed: set[datetime] = set()
        for order in orders:
            shop.edits += self.edits(order)
            shop.observations += self.observations(order, observed)

    def order(self, shop: Shop, name: str, created_at: datetime | None) -> Order:
        order_id = name.removeprefix("#")
        return Order(
            order_id,
            key=self.chance.randrange(10**6) * 1_000 + len(shop.orders) + ord(name[-1]),
            name=name,
            created_at=created_at,
            source="other shop" if self.happens(0.05) else "shop",
            buyer=self.chance.choice(["B1"] * 9 + [None]),
            currency=self.chance.choice(CURRENCIES),
            outstanding_minor=self.chance.choice(BALANCES),
            cancelled_at=self.instant(-40, 20) if self.happens(0.08) else None,
            unclear=self.happens(0.05),
            email=self.chance.choice(EMAILS),
            phone=self.chance.choice(PHONES),
            external_id=self.chance.choice(EXTERNAL_IDS),
        )

    def replacement(self, shop: Shop, orders: list[Order], name: str, created_at: datetime) -> Order:
        old = orders[-1]
        order = replace(self.order(shop, name, created_at), source=old.source, buyer=old.buyer)
        if self.happens(0.5):
            named = self.chance.choice([old, old, old, *orders]).order_id
            return replace(order, name=f"#R{order.order_id[:-1]}", replaces_order_id=named)
        if self.happens(0.9):
            orders[-1] = replace(old, cancelled_at=created_at + self.chance.choice([0, -1, 1]) * HOUR)
        if self.happens(0.1):
            order = replace(order, buyer="B2")
        return replace(order, created_at=None) if self.happens(0.05) else order

    def edits(self, order: Order) -> Iterable[Edit]:
        for number in range(self.chance.choice([0, 1, 1, 2, 3])):
            kind = self.chance.choice(["order_edit", "order_edit", "refund", "replacement", None])
            # What names an edit says nothing of when it was made.
            edit_id = f"{self.chance.randrange(10**6)}-{order.order_id}-{number}"
            at, by = self.instant(-48, 24), self.chance.choice(PARTIES)
            seen_at = at + self.chance.choice([1, 6, 6, 24, 48]) * HOUR if self.happens(self.late) else None
            yield Edit(order.order_id, edit_id, at, by, kind, seen_at)

    def observations(self, order: Order, observed: set[datetime]) -> Iterable[Observation]:
        """Ones that a pull could have made: nothing before the order was there, its cancellation from then on."""
        for _ in range(self.chance.choice([0, 1, 2, 3, 5, 7])):
            at = self.instant()
            if at in observed or at < (order.created_at or at):
                continue
            observed.add(at)
            if self.happens(self.calm) and not order.cancelled_at:
                yield Observation(order.order_id, at, 1_000, order.currency)
                continue
            yield Observation(
                order.order_id,
                at,
                outstanding_minor=self.chance.choice(BALANCES),
                currency=order.currency,
                financial_status=self.chance.choice(FINANCIAL),
                fulfillment_status=self.chance.choice(FULFILLED),
                cancelled_at=order.cancelled_at if order.cancelled_at and at >= order.cancelled_at else None,
            )

    def add_sent(self, shop: Shop, rules: Rules, now: datetime) -> None:
        """Mostly of series that there are, else of edits that began one when other rules held."""
        edits = {edit.edit_id: edit.order_id for edit in shop.edits if self.happens(0.1)}
        series = {
            row.first_edit_id: row.order_id for row in reference.decide(shop, rules, now).series if self.happens(0.7)
        }
        for first_edit_id, order_id in (edits | series).items():
            accepted_at = self.maybe_sent(now, 0.8)
            shop.sent.append(
                Sent(
                    order_id,
                    first_edit_id,
                    occurrence=self.chance.choice([1, 1, 2, 4]) if accepted_at else 0,
                    accepted_at=accepted_at,
                    doubtful_at=self.maybe_sent(now, 0.1),
                    held_at=self.maybe_sent(now, 0.1),
                    open_at=self.maybe_sent(now, 0.1),
                )
            )

    def maybe_sent(self, now: datetime, probability: float) -> datetime | None:
        if not self.happens(probability):
            return None
        hours = self.chance.choice([24, 24, 6, 1, 48, self.chance.randint(0, 60), self.chance.randint(24, 60)])
        return now - hours * HOUR + self.chance.choice([0, 0, 0, 1, -1]) * MICROSECOND

    def add_rejections(self, shop: Shop, rules: Rules, now: datetime) -> None:
        orders = {order.order_id: order for order in shop.orders}
        for row in reference.decide(shop, rules, now).decisions:
            if row.reminder_id and self.happens(0.35):
                bore = reference.usable(orders[row.order_id], rules)
                if self.happens(0.2):
                    bore[rules.identify_by[0]] = "another@quay.test"
                shop.rejections.append(Rejection(row.reminder_id, **bore, policy_unchanged=self.happens(0.8)))


def generated(seed: int) -> Case:
    chance = random.Random(seed)
    return Generator(chance, CENTRES[seed % len(CENTRES)]).case()
