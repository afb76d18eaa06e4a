"""Staged rows into the source tables: integer keys, upsert by key, rejections, all in one short transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from dunning_pipeline.errors import TooManyRejectedRows
from dunning_pipeline.resources.staging import Staged
from dunning_pipeline.resources.warehouse import Warehouse, append
from dunning_pipeline.sql import quoted
from dunning_pipeline.tables import (
    ASSIGNMENTS,
    CONTACTS,
    CUSTOMER_KEYS,
    INVOICE_KEYS,
    INVOICES,
    MANUAL,
    PAYMENTS,
    PROMISES,
    REJECTED_ROWS,
    Table,
)

SHOWN_REASONS = 3
OF_OWN_INVOICES = (PROMISES, ASSIGNMENTS, CONTACTS)
"""Tables whose rows may name an invoice of their customer, and of nobody else."""

CHECKED_AGAINST_INVOICES = (PAYMENTS, *OF_OWN_INVOICES)
"""Tables of which rows are rejected for what their invoices say: to be loaded after these."""


@dataclass(frozen=True)
class Loaded:
    """Counts of one load: rows written, and all rows of the pull that were rejected in the end."""

    written: int
    rejected: int


@dataclass(frozen=True)
class Loader:
    """Writes what was staged for `table` in the run `run_id` at `pulled_at`.

    `sources` are the names that the policy knows. A row whose source is none of them is taken over by the one that
    yields its id now, so that a source can be renamed or replaced.
    """

    warehouse: Warehouse
    table: Table
    run_id: str
    pulled_at: datetime
    sources: Sequence[str] = ()

    def load(self, staged: Sequence[Staged], max_rejected: float) -> Loaded:
        """Upserts the rows of every source and stores the rejected ones; what is not in them stays as it is.

        Rows whose id another source holds already, payments in another currency than their invoice (RULES 1.2), and
        promises, assignments and contacts about somebody else's invoice are rejected here, because only the warehouse
        knows.

        Raises:
            TooManyRejectedRows: more than the share `max_rejected` was rejected. The rejected rows are stored so
                that they can be looked at; none of the others is taken over.
        """
        rejected: dict[str, pa.Table] = {}
        try:
            with self.warehouse.transaction() as connection:
                for part in staged:
                    refused = self._merge(connection, part)
                    rejected[part.source] = pa.concat_tables([part.rejected, refused])
                    self._store_rejected(connection, part.source, rejected[part.source])
                self._check_share(staged, rejected, max_rejected)
        except TooManyRejectedRows:
            with self.warehouse.transaction() as connection:
                for source, rows in rejected.items():
                    self._store_rejected(connection, source, rows)
            raise
        count = sum(rows.num_rows for rows in rejected.values())
        return Loaded(sum(part.pulled - part.duplicates for part in staged) - count, count)

    def _check_share(self, staged: Sequence[Staged], rejected: Mapping[str, pa.Table], max_rejected: float) -> None:
        pulled = sum(part.pulled for part in staged)
        count = sum(rows.num_rows for rows in rejected.values())
        if count <= max_rejected * pulled:
            return
        reasons = [reason for rows in rejected.values() for reason in rows["reason"].to_pylist()]
        raise TooManyRejectedRows(
            f"{self.table.qualified}: {count} of {pulled} rows were rejected, more than quality.max_rejected "
            f"({max_rejected:g}) allows, so none was taken over; look at source.rejected_rows. "
            f"The first: {'; '.join(reasons[:SHOWN_REASONS])}"
        )

    def _merge(self, connection: duckdb.DuckDBPyConnection, part: Staged) -> pa.Table:
        for name in part.custom:
            connection.execute(f"alter table {self.table.qualified} add column if not exists {quoted([name])} VARCHAR")
        connection.execute(
            "create or replace temp table incoming as select * from read_parquet($rows)",
            {"rows": str(part.rows)},
        )
        for keys in (CUSTOMER_KEYS, INVOICE_KEYS):
            if keys.key[0] in self.table.column_names:
                _give_keys(connection, keys)
        refused = self._refused(connection, part.source)
        connection.execute(self._merge_statement(), {"source": part.source})
        return refused

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
            from incoming as i join refused using ({key}) group by i
        """
        rows = connection.sql(query).to_arrow_table()
        connection.execute(f"delete from incoming where {key} in (select {key} from refused)")
        return rows

    def _merge_statement(self) -> str:
        key = self.table.key[0]
        joins = {
            keys.key[0]: f"left join {keys.qualified} using ({keys.key[0]})"
            for keys in (CUSTOMER_KEYS, INVOICE_KEYS)
            if keys.key[0] in self.table.column_names
        }
        extra = ", ".join(name.replace("_id", "_key") for name in joins)
        present = ", null::date as missing_since" if "missing_since" in self.table.column_names else ""
        return f"""
            merge into {self.table.qualified} as t
            using (
                select incoming.*, {extra}, $source as source{present} from incoming {" ".join(joins.values())}
            ) as i
            on t.{key} = i.{key}
            when matched then update by name
            when not matched then insert by name
        """

    def _store_rejected(self, connection: duckdb.DuckDBPyConnection, source: str, rejected: pa.Table) -> None:
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


def _of_two_sources(table: Table) -> str:
    """SQL of the ids that another source holds, with the reason."""
    (key,) = table.key
    return f"""
        select i.{key}, '{key} ''' || i.{key} || ''' comes from source ''' || t.source
            || ''' too; an id can only come from one source' as reason
        from incoming as i join {table.qualified} as t using ({key})
        where t.source <> $source and list_contains($present, t.source)
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


def _give_keys(connection: duckdb.DuckDBPyConnection, keys: Table) -> None:
    """Gives an integer key to every id of `incoming` that has none yet."""
    name, key = keys.column_names
    connection.execute(
        f"""
        insert into {keys.qualified} by name
        select {name}, (select coalesce(max({key}), 0) from {keys.qualified}) + row_number() over () as {key}
        from (select distinct {name} from incoming where {name} is not null)
        where {name} not in (select {name} from {keys.qualified})
        """
    )
