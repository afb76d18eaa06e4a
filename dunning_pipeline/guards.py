"""The guard against a broken source: a batch of unusual size does not leave unless somebody confirms it.

What counts as unusual is in docs/going-live.md. It holds for every stream.
"""

from datetime import date

import pandas as pd

from dunning_pipeline.outbox import Batch, Outbox
from dunning_pipeline.policy import Sending
from dunning_pipeline.rules.order_series import STREAM as ORDERS

ALWAYS_USUAL = 100
"""Reminders of which growth is never asked: small numbers double and treble by chance."""


def why_unusual(outbox: Outbox, batch: Batch, sending: Sending) -> str | None:
    """Why a batch must be confirmed before it is sent, and how, as a sentence; None if it need not.

    Only what a batch would still send is counted.
    """
    size = len(outbox.ids_to_send(batch.batch_id))
    found = unusual_size(size, batch.as_of, outbox.sent_days(batch.as_of), sending)
    if found is None:
        return None
    # Each change of an order makes a newer batch of what is due, so that an id would not be the latest for long.
    by_id = f"run --send --confirm-batch {batch.batch_id}"
    command = "orders run --send --confirm" if batch.stream == ORDERS else by_id
    return (
        f"batch {batch.batch_id} would send {size} reminders, {found}; look at it, and if it is right, confirm it: "
        f"dunning {command}"
    )


def unusual_size(size: int, as_of: date, sent: pd.DataFrame, sending: Sending) -> str | None:
    """What is unusual about so many reminders on a day; None if nothing is.

    Args:
        size: reminders that would go.
        as_of: the day.
        sent: earlier days on which the stream sent something, newest first: as_of, size, and days (calendar days
            since the one before). The usual number per calendar day is the median of size / days.
        sending: the policy's limits.
    """
    if size > sending.max_batch:
        return f"more than sending.max_batch ({sending.max_batch})"
    if sent.empty or size <= ALWAYS_USUAL:
        return None
    days = (pd.Timestamp(as_of) - sent["as_of"].iloc[0]).days
    usual = float((sent["size"] / sent["days"]).median()) * days
    if size <= sending.max_growth * usual:
        return None
    return (
        f"more than sending.max_growth ({sending.max_growth:g}) times the usual {usual:.0f} "
        f"({usual / days:.1f} per calendar day, {days} since {sent['as_of'].iloc[0].date()})"
    )
