"""The errors a user can meet, as one tree; every message is a sentence that names the bad value.

DunningError
 ├─ PolicyError              (policy.py) the policy file is wrong; lists every problem
 ├─ MissingVariable          (policy.py) a `${VAR}` of the policy is not set
 ├─ SourceError              a source system or file cannot be read as the policy says
 │                           (resources/shopify_api.py has the kinds of a shop's)
 ├─ TooManyRejectedRows      a table lost more rows than `quality.max_rejected` allows
 ├─ WarehouseError           the DuckDB file is busy, newer than this software, or refuses a write
 ├─ InvalidRows              rows that a step derived break their table's declaration
 ├─ HistoryError             the history cannot be written or restored, or the warehouse lacks some of it
 ├─ SendingRefused           a batch may not be sent, and why
 └─ KlaviyoError             Klaviyo did not take a request (resources/klaviyo.py has its kinds)
"""


def first_line(error: BaseException) -> str:
    """What an error of a library says first, for a sentence of ours; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class DunningError(Exception):
    """Base of every error this package raises on purpose; `str()` is fit to be shown to a user."""


class SourceError(DunningError):
    """A source system or file cannot be read as the policy says."""


class TooManyRejectedRows(DunningError):
    """A source table lost a larger share of its rows than `quality.max_rejected` allows."""


class WarehouseError(DunningError):
    """The warehouse is busy, was written by newer software, or refuses a write."""


class OutOfMemory(WarehouseError):
    """DuckDB needs more memory than it may have."""


class InvalidRows(DunningError):
    """Rows that a step derived break the declaration of their table (types, keys, allowed values)."""


class HistoryError(DunningError):
    """The files of the history cannot be written or restored, or the warehouse lacks what they hold."""


class SendingRefused(DunningError):
    """A batch may not be sent; the message says why."""
