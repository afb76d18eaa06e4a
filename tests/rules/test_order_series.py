"""Series of reminders about edited orders (RULES 8.1, 8.3 to 8.5)."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from order_frames import RULES, at, decide, edit, left, order, reason, seen, sent, series_of, shop
from order_reference import Edit, Observation, Shop

PAID = {"financial_status": "paid"}


def states(story: Shop, **settings: object) -> list[str]:
    return [row.state for row in series_of(story, rules=replace(RULES, **settings))]


def first_edits(story: Shop, order_id: str = "1", **settings: object) -> list[str]:
    return [row.first_edit_id for row in series_of(story, order_id, replace(RULES, **settings))]


# 8.1


def test_a_series_starts_when_a_balance_is_first_seen_after_the_edit() -> None:
    story = shop(seen(-1, 0), edit(0), seen(1, 1_000), seen(2, 1_000))
    (series,) = series_of(story)
    assert (series.first_edit_id, series.started_at, series.state) == ("E1@0", at(1), "open")


def test_a_balance_seen_at_the_instant_of_the_edit_was_seen_after_it() -> None:
    assert [row.started_at for row in series_of(shop(edit(0), seen(0, 1_000)))] == [at(0)]


def test_a_balance_seen_a_microsecond_before_the_edit_starts_nothing() -> None:
    assert series_of(shop(edit(0), seen(0, 1_000, microseconds=-1))) == []


def test_an_edit_by_another_party_starts_nothing() -> None:
    story = shop(edit(0, by="staff"), seen(1, 1_000))
    assert states(story) == []
    assert reason(story, at(2)) == "no_qualifying_edit"


@pytest.mark.parametrize("edited_by", [("customer_portal", "staff"), ("any",)])
def test_an_edit_by_a_party_of_the_policy_or_by_anybody_counts(edited_by: tuple[str, ...]) -> None:
    assert states(shop(edit(0, by="staff"), seen(1, 1_000)), edited_by=edited_by) == ["open"]


def test_an_edit_of_which_nobody_knows_who_made_it_counts_only_for_any() -> None:
    story = shop(edit(0, by=None), seen(1, 1_000))
    assert states(story) == []
    assert states(story, edited_by=("any",)) == ["open"]


def test_an_edit_exactly_at_the_start_counts() -> None:
    assert states(shop(*left()), start_at=at(0)) == ["open"]


def test_an_edit_a_microsecond_before_the_start_does_not_count() -> None:
    story, settings = shop(*left()), {"start_at": at(0, microseconds=1)}
    assert states(story, **settings) == []
    assert reason(story, at(2), replace(RULES, **settings)) == "before_start"


def test_an_edit_by_another_party_before_the_start_is_told_as_another_party_s() -> None:
    story = shop(edit(0, by="staff"), seen(1, 1_000))
    assert reason(story, at(2), replace(RULES, start_at=at(1))) == "no_qualifying_edit"


def test_a_balance_from_before_the_start_is_chased_after_an_edit_from_then_on() -> None:
    story = shop(edit(-5), seen(-4, 1_000), edit(0), seen(1, 1_000))
    assert first_edits(story, start_at=at(-1)) == ["E1@0"]


def test_a_balance_of_exactly_the_tolerance_starts_nothing() -> None:
    assert states(shop(*left(500)), tolerance={"EUR": 500}) == []
    assert states(shop(*left(501)), tolerance={"EUR": 500}) == ["open"]


def test_a_tolerance_is_of_its_currency_only() -> None:
    story = shop(order(currency="JPY"), edit(0), seen(1, 400, currency="JPY"))
    assert states(story, tolerance={"EUR": 500}) == ["open"]


def test_an_edit_after_which_nothing_was_seen_starts_nothing_and_what_it_left_is_unclear() -> None:
    story = shop(seen(-1, 0), edit(0))
    assert series_of(story) == []
    assert reason(story, at(2)) == "source_unclear"


# 8.3


def test_a_payment_ends_the_series() -> None:
    (series,) = series_of(shop(*left(), seen(5, 0, **PAID)))
    assert series.state == "paid"


def test_a_part_payment_that_leaves_more_than_the_tolerance_does_not_end_it() -> None:
    assert states(shop(*left(), seen(5, 501)), tolerance={"EUR": 500}) == ["open"]


def test_a_part_payment_that_leaves_exactly_the_tolerance_ends_it() -> None:
    assert states(shop(*left(), seen(5, 500)), tolerance={"EUR": 500}) == ["paid"]


@pytest.mark.parametrize("after", [{"outstanding": -200}, {"outstanding": 0, "financial_status": "partially_refunded"}])
def test_an_edit_after_which_a_refund_is_owed_or_given_ends_it(after: dict[str, object]) -> None:
    assert states(shop(*left(), edit(4), seen(5, **after))) == ["refunded"]


def test_an_edit_that_gives_money_back_and_leaves_a_balance_does_not_end_it() -> None:
    story = shop(*left(1_000), edit(4, kind="refund"), seen(5, 300, financial_status="partially_refunded"))
    assert states(story) == ["open"]


def test_fulfilment_ends_it() -> None:
    assert states(shop(*left(), seen(5, 1_000, fulfillment_status="fulfilled"))) == ["fulfilled"]


@pytest.mark.parametrize("status", ["partial", "partially_fulfilled"])
def test_partial_fulfilment_ends_it_only_where_the_policy_says_so(status: str) -> None:
    story = shop(*left(), seen(5, 1_000, fulfillment_status=status))
    assert states(story) == ["open"]
    assert states(story, stop_on="partially_fulfilled") == ["fulfilled"]


@pytest.mark.parametrize("stop_on", ["fulfilled", "partially_fulfilled"])
def test_an_order_of_which_nothing_is_fulfilled_goes_on(stop_on: str) -> None:
    assert states(shop(*left(), seen(5, 1_000, fulfillment_status="unfulfilled")), stop_on=stop_on) == ["open"]


def test_cancellation_ends_it_and_goes_before_payment_and_fulfilment() -> None:
    ended = {"fulfillment_status": "fulfilled", "cancelled_at": at(4)}
    assert states(shop(*left(), seen(5, 0, **ended))) == ["cancelled"]


def test_the_end_of_an_edit_window_is_not_seen_in_the_order_and_ends_nothing() -> None:
    assert states(shop(*left(), seen(200, 1_000))) == ["open"]


# 8.4


def test_a_second_edit_belongs_to_the_series() -> None:
    story = shop(*left(), edit(3), seen(4, 2_500))
    assert first_edits(story) == ["E1@0"]
    assert decide(story, RULES, at(5)).edits == {("1", "E1@0"), ("1", "E1@3")}


def test_after_the_end_a_new_edit_starts_a_new_series() -> None:
    story = shop(*left(), seen(2, 0, **PAID), edit(3), seen(4, 700))
    assert [(row.series, row.first_edit_id, row.state) for row in series_of(story)] == [
        (1, "E1@0", "paid"),
        (2, "E1@3", "open"),
    ]


def test_a_chargeback_without_an_edit_starts_none() -> None:
    story = shop(*left(), seen(2, 0, **PAID), seen(30, 1_000))
    assert states(story) == ["paid"]
    assert reason(story, at(40)) == "no_qualifying_edit"


def test_a_balance_that_comes_up_after_an_edit_that_left_none_starts_none() -> None:
    story = shop(edit(0), seen(1, 0, **PAID), seen(30, 1_000))
    assert states(story) == []
    assert reason(story, at(40)) == "no_qualifying_edit"


def test_an_edit_after_a_chargeback_starts_a_series() -> None:
    story = shop(*left(), seen(2, 0, **PAID), seen(30, 1_000), edit(31), seen(32, 1_200))
    assert first_edits(story) == ["E1@0", "E1@31"]


def test_an_edit_of_a_fulfilled_order_starts_none() -> None:
    story = shop(seen(-1, 0, fulfillment_status="fulfilled"), edit(0), seen(1, 900, fulfillment_status="fulfilled"))
    assert states(story) == []
    assert reason(story, at(2)) == "fulfilled"


def test_an_order_that_was_paid_between_two_pulls_has_no_series() -> None:
    story = shop(edit(0), seen(1, 0, **PAID))
    assert states(story) == []
    assert reason(story, at(2)) == "no_balance"


# 8.7


def test_the_first_edit_is_the_earliest_qualifying_one_since_the_previous_end() -> None:
    story = shop(edit(-3, by="staff"), edit(-2), edit(-1), seen(0, 1_000))
    assert first_edits(story) == ["E1@-2"]
    assert first_edits(story, start_at=at(-1)) == ["E1@-1"]
    assert first_edits(story, edited_by=("any",)) == ["E1@-3"]


def test_of_edits_at_one_instant_the_first_is_the_same_in_whatever_order_they_are_read() -> None:
    edits = [edit(0, edit_id=name) for name in ("a", "b", "c")]
    for some in permutations(edits):
        assert first_edits(shop(*some, seen(1, 1_000))) == ["a"]


def late(hours: float, known: float) -> Edit:
    """An edit that became known so many hours after NOON."""
    return edit(hours, seen_at=at(known))


def test_an_edit_that_becomes_known_late_is_not_the_first_one_of_a_series_that_runs() -> None:
    story = shop(late(-1, known=2), *left(), sent(1, occurrence=2))
    assert [(row.first_edit_id, row.occurrences) for row in series_of(story)] == [("E1@0", 2)]
    seen_since = shop(*story.edits, *story.observations, *story.sent, seen(3, 900))
    assert [(row.first_edit_id, row.occurrences) for row in series_of(seen_since)] == [("E1@0", 2)]


def test_an_edit_that_becomes_known_late_starts_a_series_with_the_balance_that_was_seen_last() -> None:
    story = shop(late(0, known=2), seen(0.5, 800), seen(1, 1_000))
    assert [row.started_at for row in series_of(story)] == [at(1)]


def test_what_was_seen_before_an_edit_was_known_counts_no_more_once_something_was_seen_since() -> None:
    assert states(shop(late(0, known=2), seen(1, 0))) == []
    assert states(shop(late(0, known=2), seen(1, 0), seen(3, 700))) == ["open"]
    assert states(shop(late(0, known=2), seen(1, 700), seen(3, 0))) == []


def test_what_was_seen_the_instant_an_edit_became_known_counts() -> None:
    assert [row.started_at for row in series_of(shop(late(0, known=2), seen(1, 0), seen(2, 700)))] == [at(2)]
    story = shop(late(0, known=2), seen(2, 0, microseconds=-1), seen(3, 700))
    assert [row.started_at for row in series_of(story)] == [at(3)]


def test_an_edit_before_the_start_does_not_count_though_it_became_known_after_it() -> None:
    assert states(shop(late(-1, known=2), seen(3, 700)), start_at=at(0)) == []


# 8.5


def replaced(*rows: Edit | Observation, told: bool = False, **columns: object) -> Shop:
    """Order 1, cancelled and created again as 1A at four hours after NOON."""
    edits = [edit(4, "1A", kind="replacement")] if told else []
    orders = order("1", cancelled_at=at(4), **columns), order("1A", created=4)
    return shop(*orders, *edits, *rows)


CANCELLED = seen(4.5, 1_000, cancelled_at=at(4))


@pytest.mark.parametrize("told", [True, False], ids=["told as an edit", "not told"])
@pytest.mark.parametrize("after", [[], [CANCELLED], [CANCELLED, seen(5, 1_200, "1A")]], ids=["", "seen", "both seen"])
def test_a_running_series_goes_on_in_the_replacement(told: bool, after: list[Observation]) -> None:
    story = replaced(*left(), *after, told=told)
    (before,), (now,) = series_of(story, "1"), series_of(story, "1A")
    assert (before.first_edit_id, before.started_at, before.state) == ("E1@0", at(1 / 60), "replaced")
    assert (now.first_edit_id, now.started_at, now.state) == ("E1@0", at(1 / 60), "open")


def test_the_cancellation_was_the_end_until_the_replacement_is_known() -> None:
    known = shop(order("1", cancelled_at=at(4)), *left(), CANCELLED)
    assert reason(known, at(4.6)) == "cancelled"
    later = replaced(*left(), CANCELLED, seen(5, 1_000, "1A"))
    assert (reason(later, at(5)), reason(later, at(5), order_id="1A")) == ("replaced", None)


def test_what_was_sent_about_the_replaced_order_counts_for_the_replacement() -> None:
    story = shop(*replaced(*left()).orders, *left(), sent(1, occurrence=3))
    (series,) = series_of(story, "1A")
    assert (series.occurrences, series.last_sent_at) == (3, at(1))


def test_a_replacement_that_leaves_the_first_balance_starts_a_series_by_who_edited_the_order_before() -> None:
    story = replaced(edit(-2), seen(-1, 0), seen(5, 800, "1A"))
    assert first_edits(story, "1A") == ["replacement of 1 by 1A"]
    assert series_of(story, "1") == []


def test_a_replacement_by_another_party_starts_none() -> None:
    story = replaced(edit(-2, by="staff"), seen(-1, 0), seen(5, 800, "1A"))
    assert series_of(story, "1A") == []
    assert reason(story, at(6), order_id="1A") == "no_qualifying_edit"


def test_the_last_party_that_edited_the_replaced_order_is_the_one_that_replaced_it() -> None:
    story = replaced(edit(-3), edit(-2, by="staff"), seen(-1, 0), seen(5, 800, "1A"))
    assert series_of(story, "1A") == []


def test_a_replacement_that_comes_with_an_edit_is_counted_once_and_by_its_own_party() -> None:
    told = edit(4, "1A", by="staff", kind="replacement")
    story = replaced(edit(-2), seen(-1, 0), told, seen(5, 800, "1A"))
    assert series_of(story, "1A") == []


def test_creating_an_order_again_counts_as_an_edit_though_only_the_first_order_of_the_lineage_was_edited() -> None:
    orders = [order("1", cancelled_at=at(1)), order("1A", 1, cancelled_at=at(5)), order("1B", 5)]
    story = shop(*orders, edit(0), seen(2, 1_000, "1A"), seen(3, 0, "1A"), seen(6, 400, "1B"))
    assert [row.state for row in series_of(story, "1A")] == ["paid"]
    assert first_edits(story, "1B") == ["replacement of 1A by 1B"]


def test_a_series_that_ended_before_the_replacement_is_none_of_the_replacement() -> None:
    story = replaced(*left(), seen(2, 0), seen(5, 0, "1A"))
    assert ([row.state for row in series_of(story, "1")], series_of(story, "1A")) == (["paid"], [])


def test_an_order_that_was_created_in_place_of_none_that_is_known_was_placed_and_not_edited() -> None:
    """In a shop whose names end with a letter each new order looks as if it were created again."""
    story = shop(order(name="#2001E"), edit(0, kind="replacement"), seen(1, 1_000))
    assert states(story, edited_by=("any",)) == []
    assert states(story, edited_by=("any", "customer_portal")) == states(story) == ["open"]
    edited = replace(story, edits=[*story.edits, edit(2)], observations=[*story.observations, seen(3, 1_000)])
    assert first_edits(edited, edited_by=("any",)) == ["E1@2"]


def test_a_second_replacement_is_an_order_of_its_own() -> None:
    orders = [order("7"), order("8", 1, replaces_order_id="7"), order("9", 2, replaces_order_id="7")]
    story = shop(*orders, edit(0, "7"), seen(0.5, 900, "7"), seen(3, 900, "8"), seen(3, 900, "9"))
    reasons = {row.order_id: row.reason for row in decide(story, RULES, at(4)).decisions}
    assert reasons == {"7": "replaced", "8": None}
    edited = shop(*orders, *story.edits, *story.observations, edit(2, "9", by="staff"))
    assert reason(edited, at(4), order_id="9") == "no_qualifying_edit"


def test_a_replacement_that_is_cancelled_for_good_ends_the_series() -> None:
    story = replaced(*left(), seen(6, 1_000, "1A", cancelled_at=at(6)))
    assert [row.state for row in series_of(story, "1A")] == ["cancelled"]
