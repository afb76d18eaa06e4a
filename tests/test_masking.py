"""Addresses made unreadable in what is shown."""

import pandas as pd
import pytest

from dunning_pipeline.assets.metadata import preview
from dunning_pipeline.masking import masked, masked_value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<jane@shop.test>, (bo@shop.test)", "<j***@shop.test>, (b***@shop.test)"),
        ("call +4930901842 or +12025550142", "call +***42 or +***42"),
        ("invoice 10000123 of 2026-11-22", "invoice 10000123 of 2026-11-22"),
    ],
)
def test_addresses_and_numbers_are_made_unreadable_and_the_rest_is_left(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize("address", ["jane.roe@shop.test", "+33612345678"])
def test_addresses_in_a_text_are_masked(address: str) -> None:
    text = masked(f"due_on '{address}' is no date; call {address} again")
    assert address not in text
    assert text.startswith("due_on '")
    assert text.endswith(" again")


def test_other_text_stays() -> None:
    assert masked("due_on 'soon' is no date") == "due_on 'soon' is no date"


@pytest.mark.parametrize(
    ("column", "text", "shown"),
    [
        ("phone", "06 12 34 56 78", "***78"),
        ("phone", "", ""),
        ("email", "jane at shop", "***"),
        ("email", "jane@shop.test", "j***@shop.test"),
        ("name", "jane at shop", "jane at shop"),
    ],
)
def test_columns_of_addresses_show_none_in_whatever_form_it_is(column: str, text: str, shown: str) -> None:
    assert masked_value(column, text) == shown


def test_a_preview_shows_no_telephone_number() -> None:
    frame = pd.DataFrame({"customer_id": ["C1"], "phone": ["0612345678"], "email": ["jane at shop"]})
    text = str(preview(frame).value)
    assert "| C1 | ***78 | *** |" in text
