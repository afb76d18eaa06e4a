"""Money as RULES.md 1.5 has it: integer minor units of ISO 4217 currencies, and their text in a language."""

from functools import cache

import pandas as pd
from iso4217 import Currency


@cache
def minor_digits(currency: str) -> int:
    """Decimals of an ISO 4217 currency: 2 for EUR, 0 for JPY, 3 for KWD.

    Raises:
        ValueError: `currency` is no ISO 4217 currency that amounts can be in.
    """
    digits = Currency(currency).exponent
    if digits is None:
        raise ValueError(f"{currency} has no minor units: amounts cannot be in it")
    return digits


@cache
def known_currencies() -> dict[str, int]:
    """Decimals of every ISO 4217 currency that amounts can be in, by code."""
    return {currency.code: currency.exponent for currency in Currency if currency.exponent is not None}


CURRENCY = pd.CategoricalDtype(sorted(known_currencies()))
"""The dtype of `currency` in every frame of the rules: equal codes stand for equal currencies everywhere."""
