"""JSON text made column by column is the JSON that the values mean, and money in it is exact."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dunning_pipeline.rules import json_columns

AWKWARD = [
    "plain",
    "",
    'say "hello"',
    "back\\slash",
    '\\"',
    "\\n is no line break",
    "line\nbreak\r\ttab",
    "".join(map(chr, range(0x20))),
    "\x7f\x80\u2028\u2029\ufeff",
    "Zoë Müller-Lüdenscheidt",
    "🦊👩‍👩‍👧 \U0010ffff",
    "</script>{{ person.name }}{% if %}",
    "null",
    None,
]

quick = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def texts(values: list[str | None]) -> list[str]:
    return json_columns.strings(pd.Series(values, dtype="str")).array().to_pylist()


def test_strings_read_back_as_they_were_and_empty_ones_are_null():
    assert [json.loads(text) for text in texts(AWKWARD)] == AWKWARD


def test_each_awkward_string_alone_reads_back_too():
    assert [json.loads(texts([value])[0]) for value in AWKWARD] == AWKWARD


@quick
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8))
def test_any_text_reads_back(values):
    assert [json.loads(text) for text in texts(values)] == values


def test_no_rows_make_no_texts():
    assert texts([]) == []
    assert json_columns.decimals(np.array([], "int64"), np.array([], "int64")).array().to_pylist() == []
    assert json_columns.lists(pa.array([], pa.string()), np.array([], "int64")).array().to_pylist() == []


def test_integers_stay_whole_where_others_are_empty():
    values = pd.Series([1, None, -3, 2**62 + 1], dtype="Int64")
    assert json_columns.integers(values).array().to_pylist() == ["1", "null", "-3", str(2**62 + 1)]


def test_booleans_are_true_and_false():
    assert json_columns.booleans(pd.Series([True, False])).array().to_pylist() == ["true", "false"]


@pytest.mark.parametrize(
    ("minor", "digits", "text"),
    [
        (30_853, 2, "308.53"),
        (30_800, 2, "308.00"),
        (5, 2, "0.05"),
        (0, 2, "0.00"),
        (-5, 2, "-0.05"),
        (-30_853, 2, "-308.53"),
        (1_000, 0, "1000"),
        (-1, 0, "-1"),
        (1_234, 3, "1.234"),
        (1, 3, "0.001"),
        (12_345, 4, "1.2345"),
        (2**62 + 1, 2, "46116860184273879.05"),
    ],
)
def test_money_is_written_with_the_digits_of_its_currency(minor, digits, text):
    assert json_columns.decimals(np.array([minor]), np.array([digits])).array().to_pylist() == [text]


@quick
@given(
    st.lists(st.tuples(st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from([0, 2, 3, 4])), min_size=1, max_size=20)
)
def test_money_of_several_currencies_is_exact_in_every_row(rows):
    minor, digits = (np.array(column, "int64") for column in zip(*rows, strict=True))
    written = json_columns.decimals(minor, digits).array().to_pylist()
    assert [json.loads(text, parse_float=Decimal) for text in written] == [
        Decimal(amount).scaleb(-places) for amount, places in rows
    ]


def test_objects_have_their_members_in_order_and_constants_in_every_row():
    members = {"a": json_columns.integers(pd.Series([1, 2])), 'q"': json_columns.strings(["x", None]), "c": '"y"'}
    assert json_columns.objects(members).array().to_pylist() == [
        '{"a":1,"q\\"":"x","c":"y"}',
        '{"a":2,"q\\"":null,"c":"y"}',
    ]


def test_empty_members_can_be_left_out():
    members = {"a": json_columns.strings([None, "x", None]), "b": json_columns.strings(["1", None, None])}
    assert json_columns.objects(members, omit_null=True).array().to_pylist() == ['{"b":"1"}', '{"a":"x"}', "{}"]


def test_the_text_null_is_no_empty_member():
    members = {"a": json_columns.strings(["null", None])}
    assert json_columns.objects(members, omit_null=True).array().to_pylist() == ['{"a":"null"}', "{}"]


def test_lists_take_their_items_in_turn():
    items = json_columns.integers(pd.Series([1, 2, 3, 4]))
    assert json_columns.lists(items.array(), np.array([2, 0, 1, 1])).array().to_pylist() == [
        "[1,2]",
        "[]",
        "[3]",
        "[4]",
    ]


def test_constants_are_compact_json():
    assert json_columns.constant({"a": ["é", None, True]}) == '{"a":["é",null,true]}'
