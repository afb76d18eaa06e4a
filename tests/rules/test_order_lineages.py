"""Which order was created in place of which (RULES 8.5), and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pandas as pd
import pytest
from order_frames import RULES, at, facts_of, order, policy_of
from order_reference import Order, Shop

from dunning_pipeline.rules.order_lineages import first_orders, instants, replaced_at, replaced_orders

CANCELLED = at(0)


def replacements(*orders: Order) -> dict[str, str]:
    """The order that each one replaces."""
    frame = facts_of(Shop(list(orders)), policy_of(RULES)).orders
    rows = replaced_orders(frame)
    return {order.order_id: orders[row].order_id for order, row in zip(orders, rows, strict=True) if row >= 0}


def times(*orders: Order) -> dict[str, datetime]:
    """When each replaced order was replaced."""
    frame = facts_of(Shop(list(orders)), policy_of(RULES)).orders
    until = instants(replaced_at(frame, replaced_orders(frame)))
    return {order.order_id: time.to_pydatetime() for order, time in zip(orders, until, strict=True) if pd.notna(time)}


def test_a_letter_behind_the_name_of_a_cancelled_order_of_the_same_buyer_replaces_it() -> None:
    assert replacements(order("1031", cancelled_at=CANCELLED), order("1031A", created=0)) == {"1031A": "1031"}


def test_the_next_letter_replaces_the_one_before() -> None:
    orders = [order("1031", cancelled_at=CANCELLED), order("1031A", 0, cancelled_at=at(1)), order("1031B", 1)]
    assert replacements(*orders) == {"1031A": "1031", "1031B": "1031A"}


def test_without_the_letter_between_the_next_one_replaces_the_order_itself() -> None:
    assert replacements(order("1031", cancelled_at=CANCELLED), order("1031B", created=0)) == {"1031B": "1031"}


@pytest.mark.parametrize(
    "first",
    [
        order("1031"),
        order("1031", cancelled_at=CANCELLED, buyer="B2"),
        order("1031", cancelled_at=CANCELLED, buyer=None),
        order("1031", cancelled_at=CANCELLED, source="other shop"),
        order("1032", cancelled_at=CANCELLED),
        order("1031", created=2, cancelled_at=CANCELLED),
    ],
    ids=["not cancelled", "another buyer", "unknown buyer", "another shop", "another name", "created later"],
)
def test_a_letter_alone_replaces_nothing(first: Order) -> None:
    assert replacements(first, order("1031A", created=0)) == {}


def test_two_unknown_buyers_are_not_the_same() -> None:
    assert replacements(order("1031", cancelled_at=CANCELLED, buyer=None), order("1031A", 0, buyer=None)) == {}


@pytest.mark.parametrize("name", ["#1031a", "#1031-A", "#1031AA", "#A", "A"])
def test_other_names_replace_nothing(name: str) -> None:
    assert replacements(order("1031", cancelled_at=CANCELLED), order("2", created=0, name=name)) == {}


def test_the_order_that_is_named_is_replaced_whatever_both_are_called_and_though_it_is_not_cancelled() -> None:
    assert replacements(order("7"), order("9", created=0, buyer="B2", replaces_order_id="7")) == {"9": "7"}


def test_the_order_that_is_named_goes_before_the_one_that_the_name_tells() -> None:
    orders = [order("7"), order("1031", cancelled_at=CANCELLED), order("1031A", 0, replaces_order_id="7")]
    assert replacements(*orders) == {"1031A": "7"}


def test_an_order_that_is_not_there_is_not_replaced_so_that_the_name_tells() -> None:
    orders = [order("1031", cancelled_at=CANCELLED), order("1031A", 0, replaces_order_id="gone")]
    assert replacements(*orders) == {"1031A": "1031"}


def test_an_order_created_the_same_instant_replaces_it_and_one_created_before_does_not() -> None:
    assert replacements(order("7", created=1), order("9", created=1, replaces_order_id="7")) == {"9": "7"}
    assert replacements(order("7", created=1), order("9", created=0, replaces_order_id="7")) == {}


def test_a_replacement_of_unknown_age_replaces_what_it_names() -> None:
    assert replacements(order("7", created=1), replace(order("9", replaces_order_id="7"), created_at=None)) == {
        "9": "7"
    }


def test_no_order_replaces_itself() -> None:
    assert replacements(order("7", replaces_order_id="7")) == {}


def test_of_several_replacements_the_first_created_one_is_it() -> None:
    orders = [order("7"), order("8", created=2, replaces_order_id="7"), order("9", created=1, replaces_order_id="7")]
    assert replacements(*orders) == {"9": "7"}


def test_of_replacements_created_at_once_the_lower_key_is_it() -> None:
    one, other = order("8", 1, key=8, replaces_order_id="7"), order("9", 1, key=9, replaces_order_id="7")
    assert replacements(order("7"), one, other) == replacements(other, order("7"), one) == {"8": "7"}


def test_an_order_is_replaced_when_it_is_cancelled_or_its_replacement_created_whichever_comes_first() -> None:
    replacement = order("1031A", created=0)
    assert times(order("1031", cancelled_at=at(-1)), replacement) == {"1031": at(-1)}
    assert times(order("1031", cancelled_at=at(1)), replacement) == {"1031": at(0)}


def test_an_order_that_is_named_and_not_cancelled_is_replaced_when_its_replacement_is_created() -> None:
    assert times(order("7"), order("9", created=3, replaces_order_id="7")) == {"7": at(3)}


def test_a_lineage_of_twenty_letters_has_one_beginning() -> None:
    letters = "ABCDEFGHIJKLMNOPQRST"
    orders = [order(f"5{letter}", number, cancelled_at=at(number)) for number, letter in enumerate(letters, start=1)]
    frame = facts_of(Shop([order("5", cancelled_at=at(0)), *orders]), policy_of(RULES)).orders
    assert set(first_orders(replaced_orders(frame))) == {0}
