"""Days, amounts and lists as the sentences write them."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction

from dunning_pipeline.rules.money import minor_digits


def day(value: date) -> str:
    """`Tue 24 Nov 2026`."""
    return f"{value:%a} {value.day} {value:%b %Y}"


def days(number: int) -> str:
    """`1 day`, `5 days`."""
    return counted(number, "day")


def counted(number: int, noun: str) -> str:
    """`1 invoice`, `2,000 invoices`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def money(minor: int, currency: str) -> str:
    """`1,234.50 EUR`."""
    return exact(Fraction(minor, 10 ** minor_digits(currency)), currency)


def exact(amount: Fraction, currency: str) -> str:
    """An amount of major units with as many decimals as it has, and at least those of the currency."""
    digits = minor_digits(currency)
    while (amount * 10**digits).denominator != 1:
        digits += 1
    units, rest = divmod(abs(amount.numerator) * 10**digits // amount.denominator, 10**digits)
    sign = "-" if amount < 0 else ""
    decimals = f".{rest:0{digits}}" if digits else ""
    return f"{sign}{units:,}{decimals} {currency}"


def number(value: object) -> str:
    """A constant of the policy: numbers with their thousands apart, text in quotes, days as days."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    return day(value) if isinstance(value, date) else f"'{value}'"


def listed(texts: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, final = texts
    return f"{', '.join(others)} {last} {final}" if others else final
