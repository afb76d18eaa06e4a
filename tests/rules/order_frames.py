"""Runs the order side's rules on an `order_reference.Shop`, so that both can be asked the same question and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime

import pandas as pd
import pyarrow as pa
import yaml
from order_reference import Decided, DecisionRow, Edit, Observation, Order, Rejection, Rules, SeriesRow, Sent, Shop
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
    return parse_policy(yaml.safe_dump(document))


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
        edits=_frame(Edit, shop.edits, order_key=_keys(keys, shop.edits)),
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
    return decide_under(policy, shop, rules.start_at, now)


def decide_under(policy: Policy, shop: Shop, start_at: datetime, now: datetime) -> Decided:
    """`decide` for a policy that is there already."""
    decided = decide_orders(facts_of(shop, policy), policy, start_at, now)
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


def series_of(shop: Shop, rules: Rules, now: datetime, order_id: str = "1") -> list[SeriesRow]:
    return [row for row in decide(shop, rules, now).series if row.order_id == order_id]

