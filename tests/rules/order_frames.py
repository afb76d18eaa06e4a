"""Runs the order side's rules on an `order_reference.Shop`, so that both can be asked the same and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import cache

import pandas as pd
import pyarrow as pa
import yaml
from order_reference import Decided, DecisionRow, Edit, Observation, Order, Rejection, Rules, Sent, SeriesRow, Shop
from reference import MINOR_DIGITS

from dunning_pipeline.policy import Policy, parse_policy
from dunning_pipeline.rules.money import CURRENCY
from dunning_pipeline.rules.order_decisions import decide_orders
from dunning_pipeline.rules.order_series import OrderFacts

NO_KEY = -1


def policy_of(rules: Rules) -> Policy:
    """The policy that sets what `rules` sets; `start_at` is handed in beside it."""
    quiet = rules.quiet_hours
    reminders = {
        "edited_by": list(rules.edited_by),
        "every_hours": rules.every_hours,
        "tolerance": {code: _major(code, amount) for code, amount in rules.tolerance.items()},
        "stop_on": rules.stop_on,
        "max_reminders": rules.max_reminders,
        "stop_after_days": rules.stop_after_days,
        "quiet_hours": quiet and {"from": f"{quiet[0]:%H:%M}", "to": f"{quiet[1]:%H:%M}"},
    }
    document = {
        "organisation": {"time_zone": rules.time_zone, "base_currency": "EUR"},
        "workflows": [{"name": "standard", "actions": []}],
        "order_reminders": reminders,
        "klaviyo": {"identify_by": list(rules.identify_by)},
    }
    return _parsed(yaml.safe_dump(document))


_parsed = cache(parse_policy)


def _major(currency: str, minor: int) -> str:
    digits = MINOR_DIGITS.get(currency, 2)
    return f"{minor / 10**digits:.{digits}f}"


def facts_of(shop: Shop, policy: Policy) -> OrderFacts:
    """The frames that the pipeline reads from its warehouse."""
    keys = {order.order_id: order.key for order in shop.orders}
    replaced = [keys.get(order.replaces_order_id or "", NO_KEY) for order in shop.orders]
    hashes = [policy.hash if row.policy_unchanged else "another" for row in shop.rejections]
    orders = _frame(Order, shop.orders, order_key=[order.key for order in shop.orders], replaces_order_key=replaced)
    return OrderFacts(
        orders=orders.astype({"currency": CURRENCY}),
        edits=_frame(
            Edit,
            shop.edits,
            order_key=_keys(keys, shop.edits),
            seen_at=[row.known_at for row in shop.edits],
        ),
        observations=_frame(Observation, shop.observations, order_key=_keys(keys, shop.observations)).astype(
            {"currency": CURRENCY}
        ),
        sent=_frame(Sent, shop.sent, order_key=_keys(keys, shop.sent)),
        rejections=_frame(Rejection, shop.rejections, policy_hash=hashes),
    )


def _keys(keys: dict[str, int], rows: Sequence[Edit | Observation | Sent]) -> list[int]:
    """Rows of orders that are not there have a key of their own."""
    return [keys.get(row.order_id, 10**9) for row in rows]


def _frame(kind: type, rows: Sequence[object], **columns: Sequence[object]) -> pd.DataFrame:
    columns = {f.name: [getattr(row, f.name) for row in rows] for f in fields(kind)} | columns
    return pa.table({name: pa.array(values, _arrow_type(name)) for name, values in columns.items()}).to_pandas()


def _arrow_type(column: str) -> pa.DataType:
    if column.endswith("_at"):
        return pa.timestamp("us", "UTC")
    if column.endswith(("key", "_minor")) or column == "occurrence":
        return pa.int64()
    return pa.bool_() if column in {"unclear", "policy_unchanged"} else pa.string()


def decide(shop: Shop, rules: Rules, now: datetime) -> Decided:
    """What the rules decide, worded as the reference does."""
    policy = policy_of(rules)
    decided = decide_orders(facts_of(shop, policy), policy, rules.start_at, now)
    ids = pd.Series({order.key: order.order_id for order in shop.orders}, dtype="str")
    assert (decided.decisions["decided_at"] == now).all()
    series, decisions, edits = (
        frame.assign(order_id=ids[frame["order_key"]].to_numpy())
        for frame in (decided.series, decided.decisions, decided.edits)
    )
    return Decided(
        series=sorted(_rows(SeriesRow, series), key=lambda row: (row.order_id, row.series)),
        decisions=sorted(_rows(DecisionRow, decisions), key=lambda row: row.order_id),
        edits=set(zip(edits["order_id"], edits["edit_id"], strict=True)),
    )


def _rows(kind: type, frame: pd.DataFrame) -> list:
    lists = [[_value(value) for value in frame[f.name].astype(object)] for f in fields(kind)]
    return [kind(*row) for row in zip(*lists, strict=True)]


def _value(value: object) -> object:
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if hasattr(value, "item") else value


def one(shop: Shop, rules: Rules, now: datetime, order_id: str = "1") -> DecisionRow:
    """The decision about one order."""
    (row,) = [row for row in decide(shop, rules, now).decisions if row.order_id == order_id]
    return row


def series_of(
    shop: Shop, order_id: str = "1", rules: Rules | None = None, now: datetime | None = None
) -> list[SeriesRow]:
    """The series of one order, decided ten days after NOON unless it is said otherwise."""
    decided = decide(shop, rules or RULES, now or at(240))
    return [row for row in decided.series if row.order_id == order_id]


NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
"""When the edit is made that tests are about, unless they say otherwise."""

RULES = Rules(start_at=NOON - timedelta(days=30))
SEEN_AFTER = 1 / 60
"""Hours until a pull sees what an edit left."""


def at(hours: float = 0, microseconds: int = 0) -> datetime:
    """The instant so many hours after NOON."""
    return NOON + timedelta(hours=hours, microseconds=microseconds)


def order(order_id: str = "1", created: float = -10, **columns: object) -> Order:
    """An order of one buyer, by default #1, placed ten hours before NOON; times in `columns` are instants."""
    values = {"key": len(order_id) * 1_000 + ord(order_id[-1]), "name": f"#{order_id}"} | columns
    return Order(order_id, created_at=at(created), **values)


def edit(hours: float = 0, order_id: str = "1", by: str | None = "customer_portal", **columns: object) -> Edit:
    """An edit by the customer, whose id tells the order and the hours after NOON."""
    values = {"edit_id": f"E{order_id}@{hours}"} | columns
    return Edit(order_id, edited_at=at(hours), edited_by=by, **values)


def seen(hours: float, outstanding: int, order_id: str = "1", microseconds: int = 0, **columns: object) -> Observation:
    return Observation(order_id, at(hours, microseconds), outstanding, **columns)


def sent(hours: float, occurrence: int = 1, edit_id: str = "E1@0", order_id: str = "1", **columns: object) -> Sent:
    """The last event of a series, accepted so many hours after NOON."""
    return Sent(order_id, edit_id, occurrence, at(hours), **columns)


def shop(*rows: Order | Edit | Observation | Sent | Rejection) -> Shop:
    """A shop with order 1, unless the rows have orders of their own."""
    of = {kind: [row for row in rows if isinstance(row, kind)] for kind in (Order, Edit, Observation, Sent, Rejection)}
    return Shop(of[Order] or [order()], of[Edit], of[Observation], of[Sent], of[Rejection])


def left(outstanding: int = 1_000, hours: float = 0) -> tuple[Edit, Observation]:
    """An edit of order 1 that left a balance, which was seen a minute later."""
    return edit(hours), seen(hours + SEEN_AFTER, outstanding)


def reason(shop: Shop, now: datetime, rules: Rules = RULES, order_id: str = "1") -> str | None:
    """Why no event goes about an order; None: one goes."""
    return one(shop, rules, now, order_id).reason
