"""Amounts and dates in a customer's language are written as Babel writes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from babel.dates import format_date
from babel.localedata import locale_identifiers
from babel.numbers import format_currency, get_currency_precision

from dunning_pipeline.rules import display
from dunning_pipeline.rules.money import CURRENCY, minor_digits

SPOKEN = """
en en_GB en_IN en_ZA de de_AT de_CH fr fr_CA fr_CH it it_CH es es_MX es_AR pt pt_PT pt_BR nl nl_BE da sv nb nn fi is
et lv lt pl cs sk sl hr sr_Latn sr hu ro bg el tr ru uk ka hy he ar ar_EG fa ur hi bn ta th vi id ms zh zh_Hant ja ko
sw af ga cy mt ca eu gl kk uz mn ne
"""
TRADED = "EUR USD GBP CHF JPY KWD BHD INR CAD SEK PLN BRL CNY KRW TND"
LANGUAGES, CURRENCIES = SPOKEN.split(), TRADED.split()
SIZES = (0, 1, 99, 100, 999, 1_000, 12_345, 99_999, 100_000, 123_456, 1_234_567, 123_456_789, 98_765_432_101)
AMOUNTS = (*SIZES, *(-size for size in SIZES if size))
DAYS = [date(2026, 11, 22), date(2024, 2, 29), date(2021, 1, 1), date(1999, 12, 31)]

ALIKE = [code for code in CURRENCIES if get_currency_precision(code) == minor_digits(code)]


def spoken(languages: list[str]) -> pd.Series:
    return pd.Series(languages, dtype=pd.CategoricalDtype(sorted(set(languages))))


def written(minor: Iterable[int], currency: str, language: str) -> list[str]:
    amounts = np.array(list(minor), "int64")
    codes = pd.Series([currency] * len(amounts), dtype=CURRENCY)
    return display.amounts(amounts, codes, spoken([language] * len(amounts))).to_pylist()


def by_babel(minor: int, currency: str, language: str) -> str:
    return format_currency(Decimal(minor).scaleb(-minor_digits(currency)), currency, locale=language)


def check_language(language: str) -> None:
    for currency in ALIKE:
        expected = [by_babel(minor, currency, language) for minor in AMOUNTS]
        assert written(AMOUNTS, currency, language) == expected, (language, currency)


def test_most_currencies_are_compared():
    assert len(ALIKE) >= 12


@pytest.mark.parametrize("language", LANGUAGES)
def test_amounts_are_written_as_babel_writes_them(language):
    check_language(language)


@pytest.mark.long
def test_amounts_are_written_as_babel_writes_them_in_every_language():
    for language in locale_identifiers():
        check_language(language)


def test_every_currency_is_written_as_babel_writes_it():
    codes = [code for code in CURRENCY.categories if get_currency_precision(code) == minor_digits(code)]
    for language in ("en", "de", "ja"):
        for code in codes:
            assert written([1_234_567], code, language) == [by_babel(1_234_567, code, language)], code


def test_amounts_keep_the_decimals_that_iso_4217_gives_their_currency():
    # CLDR leaves out what is too small to pay in cash; what is owed must be seen all the same.
    assert get_currency_precision("IQD") == 0
    assert written([123_456], "IQD", "en") == ["IQD123.456"]


def test_rows_of_several_languages_and_currencies_stay_in_their_places():
    minor = np.array([30_853, 1_000, 1_234, -5, 30_853])
    currency = pd.Series(["EUR", "JPY", "KWD", "USD", "EUR"], dtype=CURRENCY)
    language = spoken(["de", "en", "en", "en_GB", "en"])
    found = display.amounts(minor, currency, language).to_pylist()
    rows = zip(minor.tolist(), currency, language, strict=True)
    assert found == [by_babel(*row) for row in rows]
    assert found[0] == "308,53\xa0€"


def test_no_amounts_make_no_texts():
    assert written([], "EUR", "en") == []


def test_dates_are_written_as_babel_writes_them():
    for language in LANGUAGES:
        days = pd.Series(DAYS, dtype="datetime64[s]")
        found = display.dates(days, spoken([language] * len(days))).to_pylist()
        assert found == [format_date(day, "long", locale=language) for day in DAYS], language


def test_empty_dates_stay_empty_in_their_places():
    days = pd.Series([None, DAYS[0], None, DAYS[1], DAYS[0]], dtype="datetime64[s]")
    language = spoken(["en", "de", "fr", "en", "en"])
    assert display.dates(days, language).to_pylist() == [
        None,
        "22. November 2026",
        None,
        "February 29, 2024",
        "November 22, 2026",
    ]
    assert display.iso_dates(days).to_pylist() == [None, "2026-11-22", None, "2024-02-29", "2026-11-22"]
    assert display.dates(days[[0, 2]], language[[0, 2]]).to_pylist() == [None, None]


def test_unknown_languages_fall_back_to_the_organisation_s():
    wanted = pd.Series(["de", "fr-CA", "pt_BR", "xx", "", "not a language", "de_XX", None, "DE"], dtype="str")
    found = display.languages(wanted, "sv").tolist()
    assert found[:3] == ["de", "fr-CA", "pt_BR"]
    assert found[3:6] == ["sv"] * 3
    assert found[7] == "sv"
    assert all(display.known_language(language) for language in found)


def test_a_hyphen_in_a_language_is_as_good_as_an_underscore():
    assert written([1_234_567], "CAD", "fr-CA") == [by_babel(1_234_567, "CAD", "fr_CA")]


def test_the_same_day_for_every_row():
    assert display.day_column(DAYS[0], 2).dt.date.tolist() == [DAYS[0]] * 2
