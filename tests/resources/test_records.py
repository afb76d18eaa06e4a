"""JSON records as rows of text: exact numbers, dotted paths, nothing lost."""

import pyarrow as pa
import pytest

from dunning_pipeline.resources import records


@pytest.mark.parametrize(
    ("json", "text"),
    [
        ("9007199254740993", "9007199254740993"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("100.10", "100.10"),
        ("1.5E+2", "150"),
        ("1e-7", "0.0000001"),
        ("1e999999999", "1e999999999"),
        ("-0.0", "-0.0"),
        ("true", "true"),
        ("false", "false"),
        ("null", None),
        ("NaN", "NaN"),
        ('"000123"', "000123"),
        ('["a", "é"]', '["a", "é"]'),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_values_become_text_exactly_as_they_were_written(json: str, text: str | None) -> None:
    assert records.text(records.parse(json.encode())) == text


RECORD = {"id": 7, "customer": {"email": "a@b.c", "none": None}, "phones": [{"number": "1"}, {"number": "2"}]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", 7),
        ("customer.email", "a@b.c"),
        ("customer.none", None),
        ("customer.none.deeper", None),
        ("id.deeper", None),
        ("phones.1.number", "2"),
        ("phones.2.number", None),
        ("phones.x", None),
        ("missing", None),
    ],
)
def test_a_path_leads_into_mappings_and_lists(path: str, value: object) -> None:
    assert records.field(RECORD, path) == value


def test_the_paths_of_a_record_are_told_for_those_who_look_for_one() -> None:
    assert list(records.paths(RECORD)) == ["id", "customer", "customer.email", "customer.none", "phones"]


def test_what_is_not_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        records.parse(b'{"data": [')


def test_halves_of_surrogate_pairs_do_not_stop_a_page() -> None:
    rows = [{"name": records.text(records.parse(rb'"\ud83d broken"'))}, {"name": None}, {"name": "fine \U0001f600"}]
    batch = records.columns(rows, pa.schema([("name", pa.string())]))
    assert batch["name"].to_pylist() == ["? broken", None, "fine \U0001f600"]


def test_conditions_hold_when_each_field_has_one_of_its_texts() -> None:
    assert records.holds(RECORD, {"id": ["6", "7"], "customer.email": ["a@b.c"]})
    assert not records.holds(RECORD, {"id": ["7"], "customer.email": ["other"]})
    assert not records.holds(RECORD, {"customer.none": ["null"]})
