"""What a person can set on the sandbox's page: which faults the next requests meet, and the account's conditions.

Fields arrive as texts of a form; a wrong one is a ValueError whose message names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from dunning_pipeline.sandbox.klaviyo.account import KlaviyoAccount
from dunning_pipeline.sandbox.klaviyo.faults import FAULTS

MOST_TIMES = 10_000
METHODS = ("POST", "GET")


def apply_faults(account: KlaviyoAccount, fields: Mapping[str, str]) -> None:
    """Plan a fault for the next requests: `fault` (a name of FAULTS, or none: forget all), `times`, `method`."""
    name, method = fields.get("fault", ""), fields.get("method", "POST")
    if not name:
        account.faults.clear()
        return
    if name not in FAULTS:
        raise ValueError(f"fault {name!r} is not known; allowed: {', '.join(FAULTS)}")
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not allowed; allowed: {', '.join(METHODS)}")
    times = _number("times", fields.get("times", "1"), MOST_TIMES)
    account.faults.plan([FAULTS[name]] * int(times), method)


def apply_conditions(account: KlaviyoAccount, fields: Mapping[str, str]) -> None:
    """Set `latency`, `processing` (the most; each event takes something up to it) and `skew`, all in seconds."""
    latency = _number("latency", fields.get("latency", "0"), 60)
    processing = _number("processing", fields.get("processing", "0"), 86_400)
    skew = _number("skew", fields.get("skew", "0"), 400 * 86_400, least=-400 * 86_400)
    account.conditions.latency = latency
    account.conditions.processing_seconds = (0.0, processing)
    account.conditions.clock_skew = timedelta(seconds=skew)


def _number(name: str, text: str, most: float, least: float = 0) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise ValueError(f"{name} {text!r} is not a number from {least:g} to {most:g}")
    return number
