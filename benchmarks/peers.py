"""What the pipeline is measured against: the daily decision as one query, and as one query per customer."""

import sqlite3
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from benchmarks import sql
from benchmarks.ledger import AS_OF
from benchmarks.policy import DELAY, LADDER, WORKFLOW, working_days


def query_by_ids(ledger: Path) -> pd.DataFrame:
    """One query that joins by the ids of the billing system."""
    return _query(ledger, invoice="invoice_id", customer="customer_id")


def query_by_keys(ledger: Path) -> pd.DataFrame:
    """The same query, with invoices and payments joined by the integers that our warehouse has for ids."""
    return _query(ledger, invoice="invoice_key", customer="customer_key")


def _query(ledger: Path, invoice: str, customer: str) -> pd.DataFrame:
    query = sql.load("daily_decision").format(invoice=invoice, customer=customer)
    with duckdb.connect(ledger, read_only=True) as connection:
        connection.execute("set enable_progress_bar = false")
        register_lookups(connection)
        return connection.sql(query, params=query_parameters(AS_OF)).to_arrow_table().to_pandas(date_as_object=False)


def register_lookups(connection: duckdb.DuckDBPyConnection) -> None:
    """The small tables that the query looks things up in."""
    connection.register("ladder", _ladder())
    connection.register("working_days", _working_days())


def query_parameters(day: date) -> dict[str, object]:
    """What the query is told to decide a day."""
    return {"as_of": day, "workflow": WORKFLOW, "delay": DELAY}


def _ladder() -> pa.Table:
    schema = pa.schema([("position", pa.int64()), ("action", pa.string()), ("day", pa.int32())])
    rows = [{"position": at, "action": name, "day": day} for at, (name, day) in enumerate(LADDER.items(), start=1)]
    return pa.Table.from_pylist(rows, schema)


def _working_days() -> pa.Table:
    days = [(day, following, before) for day, (following, before) in working_days().items()]
    return pa.table(dict(zip(("day", "next_on", "last_before"), zip(*days, strict=True), strict=True)))


def prepare_loop(ledger: Path) -> None:
    """Copies a ledger to an indexed SQLite database beside it, as an application of its own would have it."""
    database = _database(ledger)
    if database.exists():
        return
    with duckdb.connect(ledger, read_only=True) as source, sqlite3.connect(database) as target:
        target.executescript(sql.load("loop_schema"))
        for table in ("customers", "invoices", "payments", "contacts"):
            rows = source.execute(sql.load(f"loop_{table}"), {"ladder": list(LADDER)} if table == "contacts" else None)
            holes = ", ".join("?" * len(rows.description))
            target.executemany(f"insert into {table} values ({holes})", rows.fetchall())
        target.executescript(sql.load("loop_indexes"))
    target.close()


def loop(ledger: Path) -> pd.DataFrame:
    """One query for each customer, and the rest in Python, as dunning built on an ORM does."""
    connection = sqlite3.connect(_database(ledger))
    query = sql.load("loop_customer")
    customers = connection.execute("select customer_id from customers order by customer_id").fetchall()
    decided = []
    for (customer_id,) in customers:
        found = connection.execute(query, {"customer": customer_id, "day": AS_OF.isoformat()}).fetchone()
        if found is not None:
            decided.append((customer_id, *_decide(*found)))
    connection.close()
    columns = ["customer_id", "carrying_invoice_id", "action", "action_position", "trigger_on", "last_contact_on"]
    return pd.DataFrame(decided, columns=[*columns, "next_due_on", "outcome"])


Decided = tuple[str, str | None, int | None, date | None, date | None, date | None, str]


def _decide(invoice_id: str, due: str, executed: int | None, last: str | None) -> Decided:
    due_on, last_on = date.fromisoformat(due), date.fromisoformat(last) if last else None
    position = next(
        (at for at, day in enumerate(LADDER.values(), 1) if at > (executed or 0) and (day >= 0 or due_on > AS_OF)), None
    )
    if position is None:
        return invoice_id, None, None, None, last_on, None, "workflow_completed"
    action, day = list(LADDER.items())[position - 1]
    trigger = _trigger(due_on, day)
    allowed = last_on + timedelta(days=max(DELAY, 1) if last_on == AS_OF else DELAY) if last_on else AS_OF
    next_due, _ = working_days()[max(trigger, allowed, AS_OF)]
    return invoice_id, action, position, trigger, last_on, next_due, _outcome(trigger, allowed, next_due)


def _trigger(due_on: date, day: int) -> date:
    trigger = due_on + timedelta(days=day)
    following, before = working_days()[trigger]
    return before if day < 0 and following >= due_on else trigger


def _outcome(trigger: date, allowed: date, next_due: date) -> str:
    if trigger > AS_OF:
        return "waiting_for_trigger"
    if allowed > AS_OF:
        return "minimum_contact_delay"
    return "non_working_day" if next_due > AS_OF else "remind"


def _database(ledger: Path) -> Path:
    return ledger.with_suffix(".sqlite")
