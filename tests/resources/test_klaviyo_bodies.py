import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_klaviyo import entry

from dunning_pipeline.resources.klaviyo_bodies import bulk_body, single_body

EXACT = (
    '{"type":"event-bulk-create","attributes":{"profile":{"data":{"type":"profile","attributes":{"email":"a@b.com"}}},'
    '"events":{"data":[{"type":"event","attributes":{"properties":{"total":308.53,"due":308.50,"big":12345678901234567.89,'
    '"n":1E+2,"text":"a \\u00e9 é \\" } ]","list":[{"x":0.10}]},"time":"2025-03-12T12:00:00+00:00","value":308.530,'
    '"value_currency":"EUR","unique_id":"r-1","metric":{"data":{"type":"metric","attributes":{"name":"M"}}}}}]}}}'
)


def test_a_single_event_has_every_value_as_the_very_text_it_was_frozen_with() -> None:
    assert single_body(EXACT).decode() == (
        '{"data":{"type":"event","attributes":{"properties":{"total":308.53,"due":308.50,"big":12345678901234567.89,'
        '"n":1E+2,"text":"a \\u00e9 é \\" } ]","list":[{"x":0.10}]},"time":"2025-03-12T12:00:00+00:00","value":308.530,'
        '"value_currency":"EUR","unique_id":"r-1","metric":{"data":{"type":"metric","attributes":{"name":"M"}}},'
        '"profile":{"data":{"type":"profile","attributes":{"email":"a@b.com"}}}}}}'
    )


def test_bulk_entries_are_joined_as_they_are() -> None:
    assert bulk_body([EXACT, EXACT]).decode().count(EXACT) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(attributes=st.dictionaries(st.text(), json_values, max_size=4), indent=st.sampled_from([None, 1]))
def test_whatever_an_event_says_it_says_as_a_single_one_too(attributes: dict[str, Any], indent: int | None) -> None:
    profile = {"data": {"type": "profile", "attributes": {"email": "ada@ada-ltd.com"}}}
    events = {"data": [{"type": "event", "attributes": attributes}]}
    frozen = json.dumps(
        {"attributes": {"events": events, "profile": profile, "backfill": True}, "type": "event-bulk-create"},
        indent=indent,
    )
    said = json.loads(single_body(frozen))
    expected = {**attributes, "profile": profile, "backfill": True}
    assert said == {"data": {"type": "event", "attributes": expected}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"attributes":1}',
        entry()[:-1],
        entry().replace("[", "[1,"),
        '{"attributes":{"profile":{},"events":{"data":[]}}}',
    ],
)
def test_anything_but_an_entry_with_one_event_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an entry of a bulk request"):
        single_body(text)
