"""The order side's rules against the plain reference, on shops full of ties, boundaries and odd rows.

A shop is generated from a drawn seed rather than drawn row by row, which would take longer than the rules.
"""

from __future__ import annotations

import random
from collections import Counter

import order_frames as frames
import order_reference as reference
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from order_reference import Shop
from order_shops import Case, generated

from dunning_pipeline.tables import ORDER_REASONS

DEFAULT_EXAMPLES = 24
STATES = {"open", "paid", "refunded", "fulfilled", "cancelled", "replaced", "stopped"}
FEW = settings(
    max_examples=DEFAULT_EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    # A smaller seed is no simpler shop; what a failure shows is cut down to one lineage instead.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=20 * DEFAULT_EXAMPLES, derandomize=False, print_blob=True)
seeds = st.integers(0, 2**32 - 1)


def compare(seed: int) -> None:
    note(f"seed {seed}")
    case = generated(seed)
    found, expected = frames.decide(case.shop, case.rules, case.now), reference.decide(case.shop, case.rules, case.now)
    pairs = ((found.series, expected.series), (found.decisions, expected.decisions), (found.edits, expected.edits))
    different = [row for one, other in pairs for row in {*one} ^ {*other}]
    if different:
        note(shown(case, different[0]))
    assert found.series == expected.series
    assert found.decisions == expected.decisions
    assert found.edits == expected.edits


def shown(case: Case, row: reference.SeriesRow | reference.DecisionRow | tuple[str, str]) -> str:
    """All that there is about the order of a row and those that are named like it."""
    order_id = row[0] if isinstance(row, tuple) else row.order_id
    alike = [order for order in case.shop.orders if order.order_id[:4] == order_id[:4]]
    ids = {order.order_id for order in alike}
    tables = (case.shop.edits, case.shop.observations, case.shop.sent)
    rows = [row for table in tables for row in table if row.order_id in ids]
    return "\n".join(map(str, [case.rules, case.now, *alike, *rows]))


@FEW
@given(seeds)
def test_rules_and_reference_decide_orders_alike(seed: int) -> None:
    compare(seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
@MANY
@given(seeds)
def test_rules_and_reference_decide_alike_in_many_shops(seed: int) -> None:
    compare(seed)


def test_generated_shops_give_every_reason_and_state_and_two_thousand_orders() -> None:
    cases = [generated(seed) for seed in range(DEFAULT_EXAMPLES)]
    decided = [reference.decide(case.shop, case.rules, case.now) for case in cases]
    reasons = Counter(row.reason for each in decided for row in each.decisions)
    states = Counter(row.state for each in decided for row in each.series)
    assert set(reasons) == {None, *ORDER_REASONS}
    assert set(states) == STATES
    assert min(*reasons.values(), *states.values()) >= 10
    assert reasons.total() >= 2_000


@settings(FEW, max_examples=5)
@given(seeds)
def test_what_is_decided_of_an_order_depends_on_no_other_lineage(seed: int) -> None:
    note(f"seed {seed}")
    case = generated(seed)
    numbers = sorted({order.order_id[:4] for order in case.shop.orders})
    some = set(random.Random(seed).sample(numbers, len(numbers) // 3))
    tables = ("orders", "edits", "observations", "sent")
    part = Shop(
        **{name: [row for row in getattr(case.shop, name) if row.order_id[:4] in some] for name in tables},
        rejections=case.shop.rejections,
    )
    whole, alone = (frames.decide(shop, case.rules, case.now) for shop in (case.shop, part))
    assert alone.series == [row for row in whole.series if row.order_id[:4] in some]
    assert alone.decisions == [row for row in whole.decisions if row.order_id[:4] in some]
