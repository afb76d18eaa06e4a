"""Amounts and dates as people of a language write them, column by column.

Babel knows how each language writes; it is asked once per language and currency, and once per distinct date.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import get_currency_symbol, get_decimal_symbol, get_group_symbol

from dunning_pipeline.rules.json_columns import Texts, in_groups, joined, padded
from dunning_pipeline.rules.money import minor_digits


def known_language(language: str) -> bool:
    """Whether display texts can be written in `language` (`de`, `fr_CA`, `pt-BR`)."""
    try:
        _locale(language)
    except (UnknownLocaleError, ValueError):
        return False
    return True


def languages(wanted: "pd.Series[str]", default: str) -> pd.Series:
    """The language of each row, as a category: the wanted one where it is known, else `default`."""
    known = [language for language in wanted.dropna().unique() if known_language(language)]
    return wanted.where(wanted.isin(known), default).astype(pd.CategoricalDtype(list(dict.fromkeys([*known, default]))))


def amounts(minor: np.ndarray, currency: pd.Series, language: pd.Series) -> pa.Array:
    """Money as text, e.g. `1.234,50 €` for 123450 minor units of EUR in `de`; as Babel's `format_currency`.

    Args:
        minor: amounts in minor units.
        currency: the code of each, as a category.
        language: the language of each, as a category.
    """
    codes, spoken = currency.cat.categories, language.cat.categories
    pair = currency.cat.codes.to_numpy("int64") * len(spoken) + language.cat.codes.to_numpy("int64")
    used = pd.unique(pair)
    notations = [_notation(codes[number // len(spoken)], spoken[number % len(spoken)]) for number in used.tolist()]
    return in_groups(pair, used, lambda rows, at: _written(minor[rows], notations[at]))


def dates(days: "pd.Series[pd.Timestamp]", language: pd.Series) -> pa.Array:
    """Dates as text, e.g. `22. November 2026` in `de`; empty stays empty. `language` is a category."""
    spoken = language.cat.categories
    pair = _day_numbers(days) * len(spoken) + language.cat.codes.to_numpy("int64")
    return _looked_up(pair, days, lambda number: _date_text(number // len(spoken), spoken[number % len(spoken)]))


def iso_dates(days: "pd.Series[pd.Timestamp]") -> pa.Array:
    """Dates as ISO 8601 text; empty stays empty."""
    return _looked_up(_day_numbers(days), days, lambda number: _day(number).isoformat())


def _day_numbers(days: "pd.Series[pd.Timestamp]") -> np.ndarray:
    """Days since 1970; 0 where there is none."""
    return days.fillna(pd.Timestamp(0)).to_numpy().astype("datetime64[D]").astype("int64")


def _day(number: int) -> date:
    return date(1970, 1, 1) + timedelta(days=number)


def _looked_up(keys: np.ndarray, days: pd.Series, text_of: Callable[[int], str]) -> pa.Array:
    """The text of each key, asked for once for each that occurs; empty where the day is."""
    places, used = pd.factorize(keys)
    texts = pa.array(map(text_of, used.tolist()), type=pa.string())
    return texts.take(pa.array(places, mask=days.isna().to_numpy()))


def day_column(day: date, rows: int) -> "pd.Series[pd.Timestamp]":
    """The same day for every row."""
    return pd.Series([pd.Timestamp(day)] * rows, dtype="datetime64[s]")


@dataclass(frozen=True)
class _Notation:
    """How amounts of a currency are written in a language: what stands before, between and behind the digits."""

    digits: int
    positive: tuple[str, str]
    negative: tuple[str, str]
    decimal: str
    group: str
    grouping: tuple[int, int]


@cache
def _notation(currency: str, language: str) -> _Notation:
    locale = _locale(language)
    pattern = locale.currency_formats["standard"]
    symbol = get_currency_symbol(currency, locale)
    positive, negative = (
        (prefix.replace("¤", symbol), suffix.replace("¤", symbol))
        for prefix, suffix in zip(pattern.prefix, pattern.suffix, strict=True)
    )
    return _Notation(
        minor_digits(currency),
        positive,
        negative,
        get_decimal_symbol(locale),
        get_group_symbol(locale),
        pattern.grouping,
    )


def _written(minor: np.ndarray, notation: _Notation) -> pa.Array:
    size = np.abs(minor)
    unit = 10**notation.digits
    below = pa.array(minor < 0)
    before, behind = (
        pc.if_else(below, negative, positive) if (minor < 0).any() else positive
        for positive, negative in zip(notation.positive, notation.negative, strict=True)
    )
    whole = _grouped(size // unit, notation.grouping, notation.group)
    cents = (notation.decimal, padded(size % unit, notation.digits)) if notation.digits else ()
    return joined(before, whole, *cents, behind).array()


def _grouped(numbers: np.ndarray, sizes: tuple[int, int], separator: str) -> Texts:
    """Whole numbers with separators: the last group has `sizes[0]` digits, the others `sizes[1]`."""
    first, others = sizes
    small = numbers < 10**first
    if small.all():
        return Texts((pc.cast(pa.array(numbers), pa.string()),))
    grouped = joined(
        _grouped(numbers // 10**first, (others, others), separator), separator, padded(numbers % 10**first, first)
    )
    if not small.any():
        return grouped
    return Texts((pc.if_else(pa.array(small), pc.cast(pa.array(numbers), pa.string()), grouped.array()),))


@lru_cache(maxsize=100_000)
def _date_text(number: int, language: str) -> str:
    return format_date(_day(number), "long", _locale(language))


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(language.replace("-", "_"))
