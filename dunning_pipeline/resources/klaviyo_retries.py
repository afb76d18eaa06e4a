"""When a request that failed is worth another attempt, and after what pause.

A decision only: who attempts, records or sleeps is somebody else's affair.
"""

from collections.abc import Callable

from dunning_pipeline.resources.klaviyo_errors import KlaviyoError, OutcomeUnknown, Throttled, Unreachable

MOST_ATTEMPTS = 5
MOST_SECONDS_WAITED = 120
"""Told to wait longer than this, a run had better end."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


def pause_before_retry(attempt: int, error: KlaviyoError, random: Callable[[], float]) -> float | None:
    """Seconds to wait before the identical request goes again; None: not now.

    Throttled: as long as Klaviyo says. Time-out, reset, 5xx and no connection: exponential backoff with full jitter,
    so that processes that failed together do not come back together. Never after any other 4xx, an address that leads
    nowhere or a certificate that is not trusted.

    Args:
        attempt: how often the request was made, from 1.
        random: numbers from 0 to 1.
    """
    if attempt >= MOST_ATTEMPTS:
        return None
    if isinstance(error, Throttled):
        return error.retry_after if error.retry_after <= MOST_SECONDS_WAITED else None
    if isinstance(error, OutcomeUnknown) or (isinstance(error, Unreachable) and error.temporary):
        return random() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1))
    return None
