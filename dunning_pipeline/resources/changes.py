"""The log of what changes the inputs of a decision: each pull and each recording by hand, in order (RULES 9.4).

Whoever writes to the schema `source` notes it here in the same transaction. Numbers only say that something changed
since; what changed is found out by deciding again.
"""

import duckdb
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.resources.warehouse import append, fetch
from dunning_pipeline.tables import CHANGES, ORDER_EDITS, ORDERS


def note_change(connection: duckdb.DuckDBPyConnection, cause: str, run_id: str | None = None) -> None:
    """Appends a change, inside the transaction that makes it.

    Args:
        connection: in that transaction.
        cause: what was written, such as `source.payments`.
        run_id: the Dagster run that pulled it; None for what people record.
    """
    row = {"number": _latest(connection) + 1, "cause": cause, "run_id": run_id}
    append(connection, CHANGES, pa.Table.from_pylist([row], schema=CHANGES.arrow_schema))


_OF_ORDERS = (ORDERS.qualified, ORDER_EDITS.qualified)
"""What changes decisions about orders, and no others."""


def latest_change_since(connection: duckdb.DuckDBPyConnection, batch_id: str, stream: str) -> int:
    """The number of the latest change that the decisions of a batch of a stream may not know; 0 if they know all.

    A batch is decided by the run that gave it its id, after what that run pulled itself. So whatever others wrote after
    its first pull may have come too late.
    """
    parameters = {"batch_id": batch_id, "of_orders": [*_OF_ORDERS], "stream": stream}
    return int(fetch(connection, sql.load("latest_change_since"), parameters)["number"].iloc[0])


def _latest(connection: duckdb.DuckDBPyConnection) -> int:
    newest = f"select coalesce(max(number), 0) as number from {CHANGES.qualified}"
    return int(fetch(connection, newest)["number"].iloc[0])
