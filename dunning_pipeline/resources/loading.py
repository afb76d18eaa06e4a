"""Staged rows into the source tables: integer keys, upsert by key, rejections, progress, all in a short transaction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import duckdb
import pyarrow as pa

from dunning_pipeline import sql
from dunning_pipeline.errors import SourceError, TooManyRejectedRows
from dunning_pipeline.masking import masked
from dunning_pipeline.resources.changes import note_change
from dunning_pipeline.resources.parties import Parties, keep_told, tell_parties
from dunning_pipeline.resources.progress import Progress, store_progress
from dunning_pipeline.resources.staging import REJECTS_SCHEMA, Staged
from dunning_pipeline.resources.warehouse import FRUGAL_BYTES, Warehouse, append
from dunning_pipeline.sql import literal, quoted
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    CONTACTS,
    CUSTOMER_KEYS,
    INVOICE_KEYS,
    INVOICES,
    MANUAL,
    ORDER_EDITS,
    ORDER_KEYS,
    ORDER_OBSERVATIONS,
    ORDERS,
    PAYMENTS,
    PROMISES,
    REJECTED_ROWS,
    Table,
)

ROWS_MERGED = 500_000
"""Rows that one statement merges, because DuckDB keeps in memory all that a statement changes."""

PLACE = quoted(["place in the pull"])
"""The column of `incoming` that numbers its rows from 1; not one that a source has."""

SHOWN_REASONS = 3
MOST_TAKEN_BACK, FEW = 0.1, 10
"""How many payments may vanish from a complete list at once, as a share of those that it has, and in any case."""

OF_OWN_INVOICES = (PROMISES, ASSIGNMENTS, CONTACTS)
"""Tables whose rows may name an invoice of their customer, and of nobody else."""

CHECKED_AGAINST_INVOICES = (PAYMENTS, *OF_OWN_INVOICES)
"""Tables of which rows are rejected for what their invoices say: to be loaded after these."""

OF_ORDERS = (ORDER_EDITS, ORDERS)
"""Without effect on what is decided about invoices, but for as whose an event about an order counts (RULES 8.9), which
the next decision sees. To be loaded in this order: an order that was edited since it was observed is observed again,
however it looks."""


@dataclass(frozen=True)
class Pulled:
    """A staged table of a source, and what is to be made of it.

    `progress` is kept for the next pull, if there is one. `newest_at`: of when the rows are. `complete`: they are all
    that the source has, so that what is not among them has vanished. `observes`: the source tells no payments, so that
    these are made from what it tells to be outstanding. `dates_endings`: it may not tell when an invoice was voided or
    written off, so that this is the day on which it was seen first. `most_taken_back`: how many payments may vanish, as
    a share of those listed.

    `left_out` are rows (`row`, `reason`) that the mapping leaves out, which are not held against the source.
    `looked_up` are invoices that were missing from the list and asked for by id, `gone` those that no longer exist.
    `continues`: an earlier part of the same pull is in the warehouse already.
    """

    staged: Staged
    progress: Progress | None = None
    newest_at: datetime | None = None
    complete: bool = False
    observes: bool = False
    dates_endings: bool = False
    most_taken_back: float = MOST_TAKEN_BACK
    left_out: pa.Table = field(default_factory=REJECTS_SCHEMA.empty_table)
    looked_up: Staged | None = None
    gone: tuple[str, ...] = ()
    continues: bool = False


@dataclass(frozen=True)
class Loaded:
    """Counts of one load: rows written, and all rows of the pull that were rejected in the end.

    `known` rows were there already, where none may be rewritten; `vanished` ones are no longer listed; `observed` are
    payments that were made from outstanding amounts, `looked_up` invoices that were missing from a list and of which
    the source said what became of them, `left_out` rows that the mapping leaves out, `taken_back` payments that were
    reversed, because a complete list no longer has them, or made again. `unmapped` counts edits of orders that count as
    `other`, by the text that tells who made them (RULES 8.1).
    """

    written: int
    rejected: int
    known: int = 0
    vanished: int = 0
    observed: int = 0
    looked_up: int = 0
    left_out: int = 0
    taken_back: int = 0
    unmapped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Loader:
    """Writes what was staged for `table` in the run `run_id` at `pulled_at`, which is the day `pulled_on`.

    `sources` are the names that the policy knows. A row whose source is none of them is taken over by the one that
    yields its id now, so that a source can be renamed or replaced. With `append_only`, rows whose id the same source
    has already stay as they are. `parties`: of each source, whose the edits of orders are.
    """

    warehouse: Warehouse
    table: Table
    run_id: str
    pulled_at: datetime
    pulled_on: date
    sources: Sequence[str] = ()
    append_only: bool = False
    parties: Mapping[str, Parties] = field(default_factory=dict)

    def load(self, pulled: Sequence[Pulled], max_rejected: float) -> Loaded:
        """Upserts the rows of every source and stores the rejected ones.

        What is not in them stays as it is; invoices that a complete list no longer has are marked as missing from that
        day on (RULES 1.1).

        Rows whose id another source holds already, payments in another currency than their invoice (RULES 1.2), and
        promises, assignments and contacts about somebody else's invoice are rejected here, because only the warehouse
        knows.

        Raises:
            SourceError: a list of payments that should be complete lacks too many of those there were.
            TooManyRejectedRows: more than the share `max_rejected` was rejected. The rejected rows are stored so
                that they can be looked at; none of the others is taken over.
        """
        parts: list[LoadedPart] = []

        def write(connection: duckdb.DuckDBPyConnection) -> None:
            parts[:] = [self.load_part(connection, part) for part in pulled]
            self._check_share([part.staged for part in pulled], parts, max_rejected)
            note_change(connection, self.table.qualified, self.run_id)

        try:
            self.warehouse.frugally(write, FRUGAL_BYTES)
        except TooManyRejectedRows:
            with self.warehouse.transaction() as connection:
                for part, loaded in zip(pulled, parts, strict=True):
                    self.store_rejected(connection, part.staged.source, loaded.set_aside)
            raise
        rejected = sum(part.rejected.num_rows for part in parts)
        known = sum(part.known for part in parts)
        return Loaded(
            written=sum(part.staged.pulled - part.staged.duplicates for part in pulled) - rejected - known,
            rejected=rejected,
            known=known,
            vanished=sum(part.vanished for part in parts),
            observed=sum(part.observed for part in parts),
            looked_up=sum(part.looked_up for part in parts),
            left_out=sum(part.left_out.num_rows for part in pulled),
            taken_back=sum(part.taken_back for part in parts),
            unmapped=sum((part.unmapped for part in parts), Counter()),
        )

    def load_part(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> "LoadedPart":
        """Upserts the rows of one source inside an open transaction, with what is to be kept beside them."""
        known = self._take(connection, part.staged)
        refused = self._merge(connection, part, part.staged)
        unmapped = self._tell_parties(connection, part)
        self._observe_orders(connection, part)
        observed = self._observe_payments(connection, part)
        rejected = pa.concat_tables([part.staged.rejected, refused])
        set_aside, looked_up = [rejected, part.left_out], 0
        if part.looked_up:
            self._take(connection, part.looked_up)
            refused = self._merge(connection, part, part.looked_up)
            observed += self._observe_payments(connection, part)
            set_aside += [part.looked_up.rejected, refused]
            looked_up = part.looked_up.taken - refused.num_rows + self._void_gone(connection, part)
        vanished = self._mark_vanished(connection, part)
        taken_back = self._reverse_payments(connection, part)
        loaded = LoadedPart(
            rejected, pa.concat_tables(set_aside), known, vanished, observed, looked_up, taken_back, unmapped
        )
        self.store_rejected(connection, part.staged.source, loaded.set_aside, beside_earlier=part.continues)
        self._store_progress(connection, part)
        return loaded

    def _check_share(self, staged: Sequence[Staged], loaded: Sequence["LoadedPart"], max_rejected: float) -> None:
        if loaded:
            rejected = pa.concat_tables([part.rejected for part in loaded])
            refuse_too_many(self.table, sum(part.pulled for part in staged), rejected, max_rejected)

    def _take(self, connection: duckdb.DuckDBPyConnection, staged: Staged) -> int:
        """Makes `incoming` of the staged rows and their keys; returns how many stay out because they are known."""
        joins = [f"left join {keys.qualified} using ({keys.key[0]})" for keys in self._keys]
        rows = f"select *, row_number() over () as {PLACE} from read_parquet({literal(staged.rows)})"
        take = f"create or replace temp table incoming as from ({rows}) {' '.join(joins)}"
        connection.execute(take)
        new = [keys for keys in self._keys if _has_new_ids(connection, keys)]
        for keys in new:
            give_keys(connection, keys)
        if new:
            connection.execute(take)
        if not self.append_only:
            return 0
        (key,) = self.table.key
        known = f"delete from incoming where {key} in (select {key} from {self.table.qualified} where source = ?)"
        ((number,),) = connection.execute(known, [staged.source]).fetchall()
        return int(number)

    def _merge(self, connection: duckdb.DuckDBPyConnection, part: Pulled, staged: Staged) -> pa.Table:
        for name in staged.custom:
            connection.execute(f"alter table {self.table.qualified} add column if not exists {quoted([name])} VARCHAR")
        refused = self._refused(connection, staged.source)
        if part.dates_endings and self.table is INVOICES:
            connection.execute(sql.load("date_endings"), {"day": self.pulled_on, "source": staged.source})
        if self.table is ORDERS:
            connection.execute(_OUTDATED)
        if self.table is ORDER_EDITS:
            keep_told(connection)
        self._upsert(connection, staged)
        if self.table is ORDER_EDITS:
            connection.execute(_FIRST_SEEN, {"seen_at": part.newest_at or self.pulled_at})
        return refused

    def _tell_parties(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> Counter[str]:
        """Says whose all edits of a source are; counts those of this part that are nobody's."""
        if self.table is not ORDER_EDITS:
            return Counter()
        source = part.staged.source
        return tell_parties(connection, source, self.parties.get(source, {}))

    def _observe_orders(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> None:
        """Appends what was seen of the orders that were just merged, as of when they were read (RULES 8.1)."""
        if self.table is ORDERS:
            seen_at = part.newest_at or self.pulled_at
            parameters = {"source": part.staged.source, "seen_at": seen_at, "run_id": self.run_id}
            connection.execute(sql.load("observe_orders"), parameters)

    def _void_gone(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> int:
        """Voids, from today on, invoices that the source no longer has (RULES 1.1); returns how many."""
        statement = f"""
            update {INVOICES.qualified} set status = 'void', voided_on = $day, missing_since = null
            where source = $source and list_contains($gone, invoice_id) and status <> 'void'
        """
        parameters = {"day": self.pulled_on, "source": part.staged.source, "gone": list(part.gone)}
        return _changed(connection, statement, parameters) if part.gone else 0

    def _mark_vanished(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> int:
        """Notes the day on which rows are first missing from a complete list; returns how many.

        Of invoices those that were owed; not those that the source told about when it was asked for them.
        """
        if not part.complete or self.table not in (INVOICES, ORDERS):
            return 0
        if self.table is ORDERS:
            parameters = {"day": self.pulled_on, "source": part.staged.source, "there": str(part.staged.seen)}
            return _changed(connection, _VANISHED_ORDERS, parameters)
        there = [str(part.staged.seen), *([str(part.looked_up.rows)] if part.looked_up else [])]
        statement = (
            f"update {INVOICES.qualified} as i set missing_since = $day where missing_since is null and {_MISSING}"
        )
        parameters = {"day": self.pulled_on, "source": part.staged.source, "there": there}
        return _changed(connection, statement, parameters)

    def _observe_payments(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> int:
        """Makes payments of today from what is outstanding now and was not yet; returns how many."""
        if self.table is not INVOICES or not part.observes:
            return 0
        parameters = {"day": self.pulled_on, "source": part.staged.source}
        return _changed(connection, sql.load("observe_payments"), parameters)

    def _reverse_payments(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> int:
        """Takes back today what a complete list of payments no longer has; returns how many that are."""
        if self.table is not PAYMENTS or not part.complete:
            return 0
        parameters = {"day": self.pulled_on, "source": part.staged.source, "seen": str(part.staged.seen)}
        count = _changed(connection, sql.load("reverse_payments"), parameters)
        if count > max(FEW, part.most_taken_back * part.staged.pulled):
            raise SourceError(
                f"{part.staged.source}.payments: {count} payments are gone from the list, which now has "
                f"{part.staged.pulled}; nothing was taken over. If that is meant so, pull with `dunning run --full`"
            )
        return count

    def _store_progress(self, connection: duckdb.DuckDBPyConnection, part: Pulled) -> None:
        if part.progress is None:
            return
        newest_at = part.newest_at or self.pulled_at
        store_progress(
            connection, part.staged.source, self.table.name, part.progress, self.pulled_at, newest_at, self.run_id
        )

    def _refused(self, connection: duckdb.DuckDBPyConnection, source: str) -> pa.Table:
        """Takes the rows out of `incoming` that must not be merged and returns them with their reasons."""
        (key,) = self.table.key
        reasons = [_of_two_sources(self.table)]
        if self.table is PAYMENTS:
            reasons.append(_IN_ANOTHER_CURRENCY)
        if self.table in OF_OWN_INVOICES:
            reasons.append(_about_anothers_invoice(self.table))
        parameters = {"source": source, "present": [*self.sources, MANUAL]}
        connection.execute(f"create or replace temp table refused as {' union all '.join(reasons)}", parameters)
        query = f"""
            select to_json(i)::varchar as row, string_agg(refused.reason, '; ') as reason
            from (select * exclude ({self._added}) from incoming) as i join refused using ({key}) group by i
        """
        rows = connection.sql(query).to_arrow_table()
        connection.execute(f"delete from incoming where {key} in (select {key} from refused)")
        return rows

    def _upsert(self, connection: duckdb.DuckDBPyConnection, staged: Staged) -> None:
        """Merges `incoming`, some rows at a time."""
        statement = self._merge_statement([column.name for column in self.table.incoming] + [*staged.custom])
        ((last,),) = connection.execute(f"select coalesce(max({PLACE}), 0) from incoming").fetchall()
        for first in range(1, last + 1, ROWS_MERGED):
            parameters = {"source": staged.source, "first": first, "stop": first + ROWS_MERGED}
            connection.execute(statement, parameters)

    def _merge_statement(self, columns: Sequence[str]) -> str:
        """SQL that upserts a part of `incoming`. What is the same already is not written again."""
        key = self.table.key[0]
        integers = [keys.key[0] for keys in self._keys]
        present = ", null::date as missing_since" if "missing_since" in self.table.column_names else ""
        compared = [*columns, "source", *(["missing_since"] if present else [])]
        changed = " or ".join(f"t.{quoted([name])} is distinct from i.{quoted([name])}" for name in compared)
        same = key.replace("_id", "_key") if key in integers else key
        return f"""
            merge into {self.table.qualified} as t
            using (
                select * exclude ({PLACE}), $source as source{present}
                from incoming where {PLACE} >= $first and {PLACE} < $stop
            ) as i
            on t.{same} = i.{same}
            when matched and ({changed}) then update by name
            when not matched then insert by name
        """

    @property
    def _keys(self) -> list[Table]:
        """The tables of integers that stand for ids of this table."""
        return [keys for keys in (CUSTOMER_KEYS, INVOICE_KEYS, ORDER_KEYS) if keys.key[0] in self.table.column_names]

    @property
    def _added(self) -> str:
        """SQL of the names of the columns that `incoming` has beyond what was staged."""
        return ", ".join([PLACE, *(keys.column_names[1] for keys in self._keys)])

    def store_rejected(
        self,
        connection: duckdb.DuckDBPyConnection,
        source: str,
        rejected: pa.Table,
        *,
        beside_earlier: bool = False,
    ) -> None:
        """Keeps the rejected rows of a source inside an open transaction, in place of those of its pull before."""
        if not beside_earlier:
            connection.execute(
                f'delete from {REJECTED_ROWS.qualified} where source = ? and "table" = ?',
                [source, self.table.name],
            )
        context = {
            "source": source,
            "table": self.table.name,
            "run_id": self.run_id,
            "pulled_at": self.pulled_at,
        }
        columns = {name: pa.repeat(pa.scalar(value), rejected.num_rows) for name, value in context.items()}
        append(
            connection,
            REJECTED_ROWS,
            pa.table({**columns, "row": rejected["row"], "reason": rejected["reason"]}),
        )


def refuse_too_many(table: Table, rows: int, rejected: pa.Table, max_rejected: float) -> None:
    """Raises TooManyRejectedRows where more than the share `max_rejected` of so many rows was rejected."""
    if rejected.num_rows <= max_rejected * rows:
        return
    reasons = rejected["reason"].slice(0, SHOWN_REASONS).to_pylist()
    raise TooManyRejectedRows(
        f"{table.qualified}: {rejected.num_rows} of {rows} rows were rejected, more than quality.max_rejected "
        f"({max_rejected:g}) allows, so none was taken over; look at source.rejected_rows. "
        f"The first: {masked('; '.join(reasons))}"
    )


def missing_invoices(connection: duckdb.DuckDBPyConnection, staged: Staged, most: int) -> list[str]:
    """Ids of invoices that are owed and that a complete list no longer has, those first that went missing last."""
    query = f"""
        select invoice_id from {INVOICES.qualified} as i where {_MISSING}
        order by missing_since desc nulls first, invoice_id limit $most
    """
    parameters = {"source": staged.source, "there": [str(staged.seen)], "most": most}
    return [invoice_id for (invoice_id,) in connection.execute(query, parameters).fetchall()]


_MISSING = f"""
    source = $source and status not in ('void', 'written_off')
    and invoice_id not in (select invoice_id from read_parquet($there, union_by_name = true))
    and total_minor <> coalesce((
        select sum(amount_minor) from {PAYMENTS.qualified} as p
        where p.invoice_key = i.invoice_key and p.currency = i.currency
    ), 0)
"""
"""SQL of the invoices (`i`) of a source that are owed and that are in none of the Parquet files `there`."""


@dataclass(frozen=True)
class LoadedPart:
    """What became of a source's part of a table; `set_aside` are the rejected rows and those that are left out."""

    rejected: pa.Table
    set_aside: pa.Table
    known: int
    vanished: int
    observed: int
    looked_up: int
    taken_back: int
    unmapped: Counter[str]


def _changed(connection: duckdb.DuckDBPyConnection, statement: str, parameters: Mapping[str, object]) -> int:
    """How many rows a statement changed."""
    ((count,),) = connection.execute(statement, dict(parameters)).fetchall()
    return int(count)


def _of_two_sources(table: Table) -> str:
    """SQL of the ids that another source holds, with the reason."""
    (key,) = table.key
    return f"""
        select i.{key}, '{key} ''' || i.{key} || ''' comes from source ''' || t.source
            || ''' too; an id can only come from one source' as reason
        from incoming as i join {table.qualified} as t using ({key})
        where t.source <> $source and list_contains($present, t.source)
    """


_FIRST_SEEN = f"""
    update {ORDER_EDITS.qualified} as e
    set seen_at = greatest($seen_at, e.edited_at, seen.observed_at + interval 1 microsecond)
    from (
        select edit_id, max(observed_at) as observed_at
        from incoming left join {ORDER_OBSERVATIONS.qualified} using (order_id)
        group by edit_id
    ) as seen
    where e.edit_id = seen.edit_id and e.seen_at is null
"""
"""What was observed before an edit was known does not show it, however the clocks go."""

_OUTDATED = f"""
    delete from incoming
    where exists (
        from {ORDERS.qualified} as t where t.order_id = incoming.order_id and t.updated_at > incoming.updated_at
    )
"""
"""Orders that a pull beside this one has read later: what it saw is not to be undone, nor observed once more."""

_VANISHED_ORDERS = f"""
    update {ORDERS.qualified} set missing_since = $day
    where source = $source and missing_since is null and order_id not in (select order_id from read_parquet($there))
"""

_IN_ANOTHER_CURRENCY = f"""
    select i.payment_id, 'a payment in ' || i.currency || ' for invoice ''' || i.invoice_id
        || ''', which is in ' || t.currency as reason
    from incoming as i join {INVOICES.qualified} as t using (invoice_id) where i.currency <> t.currency
"""


def _about_anothers_invoice(table: Table) -> str:
    """SQL of the ids of rows that name an invoice of another customer than theirs, with the reason."""
    (key,) = table.key
    return f"""
        select i.{key}, 'invoice ''' || i.invoice_id || ''' is not of customer ''' || i.customer_id
            || ''', but of ''' || t.customer_id || '''' as reason
        from incoming as i join {INVOICES.qualified} as t using (invoice_id) where i.customer_id <> t.customer_id
    """


def _has_new_ids(connection: duckdb.DuckDBPyConnection, keys: Table) -> bool:
    """Whether a row of `incoming` has an id without a key."""
    name, key = keys.column_names
    ((new,),) = connection.execute(
        f"select exists(from incoming where {name} is not null and {key} is null)"
    ).fetchall()
    return bool(new)


def give_keys(connection: duckdb.DuckDBPyConnection, keys: Table, column: str | None = None) -> None:
    """Gives an integer key to every id in a column of the temporary table `incoming` that has none yet.

    Args:
        connection: in a transaction of the warehouse.
        keys: ids and keys.
        column: of the ids; by default it is called as they are in `keys`.
    """
    name, key = keys.column_names
    connection.execute(
        f"""
        insert into {keys.qualified} by name
        select {name}, (select coalesce(max({key}), 0) from {keys.qualified}) + row_number() over () as {key}
        from (select distinct {column or name} as {name} from incoming)
        where {name} is not null and {name} not in (select {name} from {keys.qualified})
        """
    )
