"""Amounts and dates as people of a language write them, column by column.

Babel knows how each language writes; it is asked once per language and currency, and once per distinct date.
"""

from datetime import date
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import get_currency_symbol, get_decimal_symbol, get_group_symbol

from dunning_pipeline.rules.json_columns import padded
from dunning_pipeline.rules.money import minor_digits


def known_language(language: str) -> bool:
    """Whether display texts can be written in `language` (`de`, `fr_CA`, `pt-BR`)."""
    try:
        _locale(language)
    except (UnknownLocaleError, ValueError):
        return False
    return True


def languages(wanted: "pd.Series[str]", default: str) -> "pd.Series[str]":
    """The language of each row: the wanted one where it is known, else `default`."""
    known = [language for language in wanted.dropna().unique() if known_language(language)]
    return wanted.where(wanted.isin(known), default)


def amounts(minor: np.ndarray, currency: "pd.Series[str]", language: "pd.Series[str]") -> "pd.Series[str]":
    """Money as text, e.g. `1.234,50 €` for 123450 minor units of EUR in `de`; as Babel's `format_currency`."""
    text = np.empty(len(minor), dtype=object)
    groups = pd.DataFrame({"currency": currency.to_numpy(), "language": language.to_numpy()})
    for code, spoken in groups.drop_duplicates().to_numpy():
        rows = ((groups["currency"] == code) & (groups["language"] == spoken)).to_numpy()
        text[rows] = _amounts_in(minor[rows], code, spoken).to_numpy(zero_copy_only=False)
    return pd.Series(text, dtype="str")


def dates(days: "pd.Series[pd.Timestamp]", language: "pd.Series[str]") -> "pd.Series[str]":
    """Dates as text, e.g. `22. November 2026` in `de`; empty stays empty."""
    rows = pd.DataFrame({"day": days.to_numpy(), "language": language.to_numpy()})
    distinct = rows.dropna().drop_duplicates()
    texts = [
        format_date(day.date(), "long", _locale(spoken))
        for day, spoken in zip(distinct["day"], distinct["language"], strict=True)
    ]
    written = distinct.assign(text=pd.Series(texts, distinct.index, dtype="str"))
    return rows.merge(written, on=["day", "language"], how="left", validate="m:1")["text"]


def _amounts_in(minor: np.ndarray, currency: str, language: str) -> pa.Array:
    locale = _locale(language)
    pattern = locale.currency_formats["standard"]
    symbol = get_currency_symbol(currency, locale)
    digits = minor_digits(currency)
    size = np.abs(minor)
    number = _grouped(size // 10**digits, pattern.grouping, get_group_symbol(locale))
    if digits:
        number = pc.binary_join_element_wise(number, padded(size % 10**digits, digits), get_decimal_symbol(locale))
    positive, negative = (
        (prefix.replace("¤", symbol), suffix.replace("¤", symbol))
        for prefix, suffix in zip(pattern.prefix, pattern.suffix, strict=True)
    )
    below = pa.array(minor < 0)
    return pc.binary_join_element_wise(
        pc.if_else(below, negative[0], positive[0]), number, pc.if_else(below, negative[1], positive[1]), ""
    )


def _grouped(numbers: np.ndarray, sizes: tuple[int, int], separator: str) -> pa.Array:
    """Whole numbers with separators: the last group has `sizes[0]` digits, the others `sizes[1]`."""
    first, others = sizes
    small = numbers < 10**first
    plain = pc.cast(pa.array(numbers), pa.string())
    if small.all():
        return plain
    head = _grouped(numbers // 10**first, (others, others), separator)
    return pc.if_else(
        pa.array(small),
        plain,
        pc.binary_join_element_wise(head, padded(numbers % 10**first, first), separator),
    )


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(language.replace("-", "_"))


def iso_dates(days: "pd.Series[pd.Timestamp]") -> "pd.Series[str]":
    """Dates as ISO 8601 text; empty stays empty."""
    return days.dt.strftime("%Y-%m-%d")


def day_column(day: date, rows: int) -> "pd.Series[pd.Timestamp]":
    """The same day for every row."""
    return pd.Series([pd.Timestamp(day)] * rows, dtype="datetime64[s]")
