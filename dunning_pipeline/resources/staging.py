"""Rows of a source as it yields them, all text, to the typed rows of a declared table or to a rejection.

Works on Parquet files in a staging folder with an in-memory DuckDB, so that neither the warehouse's lock nor much
memory is held however long a pull takes. Reading a source belongs in its own module, writing to the warehouse in
loading.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from dunning_pipeline.errors import SourceError
from dunning_pipeline.policy import Mapping
from dunning_pipeline.rules.money import known_currencies
from dunning_pipeline.sql import literal, quoted
from dunning_pipeline.tables import Column, Kind, Table

NOISE = "0.000001"
"""Share of a minor unit up to which an amount is binary noise, to be rounded, rather than a wrong amount."""

FIRST_YEAR, LAST_YEAR = 1900, 2200

REJECTS_SCHEMA = pa.schema([("row", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Staged:
    """What a pull of one table from one source came to.

    `rows` is a Parquet file with the incoming columns of the table, typed, each key once; `rejected` has `row`
    (JSON, as it came) and `reason`. `pulled` counts all rows, `duplicates` those whose key a newer row has,
    `rounded` the amounts from which binary noise was taken. `custom` are columns beyond the declared ones.
    """

    source: str
    rows: Path
    rejected: pa.Table
    pulled: int
    duplicates: int
    rounded: int
    custom: tuple[str, ...]


def stage(source: str, table: Table, mapping: Mapping, raw: Path, unreadable: pa.Table, time_zone: str) -> Staged:
    """Types, checks and deduplicates the rows of `raw` (RULES 1.5; CONTRACT, Source tables).

    Args:
        source: name of the source, for messages.
        table: the table the rows are meant for.
        mapping: how the source's columns become the table's.
        raw: Parquet file of text columns as the source names them.
        unreadable: rows (`row`, `reason`) that could not even be read.
        time_zone: IANA zone of instants without one, and the zone whose days dates are.

    Raises:
        SourceError: a column that the table needs, or that the mapping names, is not there.
    """
    found = tuple(pq.read_schema(raw).names)
    expressions = _mapped_columns(source, table, mapping, found)
    custom = custom_columns(source, table, mapping, found)
    target = raw.with_suffix(".staged.parquet")
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"set TimeZone = '{time_zone}'")
        connection.register("currencies", _currencies())
        connection.execute(_typing_query(table, mapping, expressions, custom), {"raw": str(raw)})
        rejected = connection.sql("select row, reason from typed where reason <> '' order by _position")
        key, newest = quoted(table.key), "updated_at desc nulls last, " if "updated_at" in expressions else ""
        connection.execute(
            f"create temp table kept as select *, row_number() over (partition by {key} order by {newest}"
            "_position desc) as _rank from typed where reason = ''"
        )
        names = [column.name for column in table.incoming]
        names += [f"custom_{number} as {quoted([name])}" for number, name in enumerate(custom)]
        connection.execute(
            f"copy (select {', '.join(names)} from kept where _rank = 1) to {literal(target)} (format parquet)"
        )
        pulled, duplicates, rounded = _counts(connection)
        return Staged(
            source=source,
            rows=target,
            rejected=pa.concat_tables([unreadable, rejected.to_arrow_table().cast(REJECTS_SCHEMA)]),
            pulled=pulled + unreadable.num_rows,
            duplicates=duplicates,
            rounded=rounded,
            custom=tuple(custom),
        )


def raw_columns_problem(source: str, table: Table, mapping: Mapping, found: Sequence[str]) -> str | None:
    """What is wrong with the columns that a source yields, as a sentence; None when all is well."""
    try:
        _mapped_columns(source, table, mapping, found)
        custom_columns(source, table, mapping, found)
    except SourceError as error:
        return str(error)
    return None


def _mapped_columns(source: str, table: Table, mapping: Mapping, found: Sequence[str]) -> dict[str, str]:
    """The SQL of each incoming column's text by the column's name; columns that nothing yields are left out."""
    for named in mapping.columns:
        if named not in found:
            raise SourceError(f"{source}.{table.name}: the mapping names column '{named}', {_yields(found)}")
    by_target = {target: named for named, targets in mapping.columns.items() for target in targets}
    expressions = {}
    for column in table.incoming:
        name = column.incoming_name
        if name in mapping.values:
            expressions[column.name] = literal(mapping.values[name])
        elif name in by_target or name in found:
            expressions[column.name] = f"nullif(trim(raw.{quoted([by_target.get(name, name)])}), '')"
        elif column.required:
            raise SourceError(
                f"{source}.{table.name}: column '{name}' is needed, {_yields(found)}; name it so in the query, or "
                f"give `columns: {{<its name>: {name}}}` or `values: {{{name}: <constant>}}`"
            )
    return expressions


def _yields(found: Sequence[str]) -> str:
    return f"but the source yields {', '.join(found)}"


def custom_columns(source: str, table: Table, mapping: Mapping, found: Sequence[str]) -> dict[str, str]:
    """The SQL of each column's text beyond the declared ones, by its name, of a table that takes them.

    Without `columns` in the mapping these are all that the source yields; with it only those that it names.

    Raises:
        SourceError: a column's name is one that the pipeline fills, or a declared one in other letters.
    """
    if not table.custom_columns:
        return {}
    named = {target: their for their, targets in mapping.columns.items() for target in targets}
    taken = named or dict(zip(found, found, strict=True))
    texts = {name: f"raw.{quoted([their])}" for name, their in taken.items()}
    texts |= {name: literal(value) for name, value in mapping.values.items()}
    incoming = {column.incoming_name for column in table.incoming}
    custom = {name: text for name, text in texts.items() if name not in incoming}
    for name in custom:
        if name.lower() in incoming:
            raise SourceError(f"{source}.{table.name}: column '{name}' must be named '{name.lower()}', or mapped")
        if name.lower() in table.column_names:
            raise SourceError(f"{source}.{table.name}: column '{name}' is filled by the pipeline; give it another name")
    return custom


def _typing_query(table: Table, mapping: Mapping, expressions: dict[str, str], custom: dict[str, str]) -> str:
    """SQL that creates `typed`: the incoming columns, `custom_0` …, `row`, `reason`, `_rounded`, `_position`."""
    mapped = [column for column in table.incoming if column.name in expressions]
    money = [column for column in mapped if column.kind is Kind.MONEY]
    texts = [f"{expressions[column.name]} as text_{column.name}" for column in mapped]
    kept = [f"{text} as custom_{number}" for number, text in enumerate(custom.values())]
    exact = [f"{_exact(column, mapping)} as exact_{column.name}" for column in money]
    typed = [f"{_typed(column, mapping, expressions)} as {column.name}" for column in table.incoming]
    noisy = [f"coalesce(exact_{column.name} <> {column.name}, false)" for column in money]
    results = [*map(_with_default, table.incoming), *(f"custom_{number}" for number in range(len(custom)))]
    return f"""
        create temp table typed as
        with texts as (
            select {", ".join([*texts, *kept])}, _position, to_json(raw)::varchar as row
            from (select rows as raw, row_number() over () as _position from read_parquet($raw) as rows)
        ),
        exact as (
            select {", ".join(["texts.*", *exact, *(["currencies.digits"] if money else [])])} from texts
            {"left join currencies on currencies.code = upper(text_currency)" if money else ""}
        ),
        cast_rows as (select {", ".join(["exact.*", *typed, " or ".join(noisy) or "false"])} as _rounded from exact),
        judged as (
            select *, concat_ws('; ', {", ".join(_reasons(table, mapping, mapped))}) as reason from cast_rows
        )
        select {", ".join(results)}, row, reason, _rounded, _position from judged
    """


def _with_default(column: Column) -> str:
    return f"coalesce({column.name}, {column.default}) as {column.name}" if column.default else column.name


def _exact(column: Column, mapping: Mapping) -> str:
    """Minor units as a decimal that still shows a wrong fraction; empty for text that is no amount."""
    if mapping.minor_units:
        return f"try_cast(text_{column.name} as decimal(38, 18))"
    return f"try_cast(text_{column.name} as decimal(33, 18)) * currencies.factor"


def _typed(column: Column, mapping: Mapping, expressions: dict[str, str]) -> str:
    """SQL of the typed value; empty where the text is not of the column's kind."""
    if column.name not in expressions:
        return f"null::{column.kind.sql}"
    text = f"text_{column.name}"
    match column.kind:
        case Kind.MONEY:
            exact = f"exact_{column.name}"
            return f"case when abs({exact} - round({exact})) <= {NOISE} then try_cast(round({exact}) as bigint) end"
        case Kind.DATE:
            return _possible(_date(text, mapping))
        case Kind.TEXT if column.name == "currency":
            return f"case when upper({text}) in (select code from currencies) then upper({text}) end"
        case Kind.TEXT if column.allowed:
            allowed = ", ".join(map(literal, column.allowed))
            return f"case when lower({text}) in ({allowed}) then lower({text}) end"
        case _:
            return f"try_cast({text} as {column.kind.sql})"


def _date(text: str, mapping: Mapping) -> str:
    if mapping.date_format:
        return f"try_strptime({text}, {literal(mapping.date_format)})::date"
    plain = f"regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}')"
    return f"case when {plain} then try_cast({text} as date) else try_cast({text} as timestamptz)::date end"


def _possible(day: str) -> str:
    """The day, unless its year tells that it was mapped or typed wrongly."""
    return f"case when year({day}) between {FIRST_YEAR} and {LAST_YEAR} then {day} end"


def _reasons(table: Table, mapping: Mapping, mapped: Sequence[Column]) -> Iterator[str]:
    """SQL of each possible reason to reject a row; empty where it does not apply."""
    for column in mapped:
        name, text = column.incoming_name, f"text_{column.name}"
        if column.required:
            yield f"case when {text} is null then {literal(name + ' is empty')} end"
        misfit = f"{text} is not null and {column.name} is null"
        if column.kind is Kind.MONEY:
            misfit += " and currency is not null"
        opening = f"{literal(name + ' ')} || chr(39) || {text} || chr(39)"
        yield f"case when {misfit} then {opening} || {_what_is_allowed(column, mapping)} end"
    for rule in table.row_rules:
        yield f"case when {rule.broken} then {literal(rule.reason)} end"


def _what_is_allowed(column: Column, mapping: Mapping) -> str:
    """SQL of the end of the sentence about a text that is not of the column's kind."""
    match column.kind:
        case Kind.MONEY if mapping.minor_units:
            return literal(" is no whole number of minor units")
        case Kind.MONEY:
            return (
                f"case when exact_{column.name} is null then ' is no amount' "
                "else ' has more than the ' || digits || ' decimals of ' || currency end"
            )
        case Kind.DATE:
            return literal(f" is no date of the form {mapping.date_format or '2026-11-22'}")
        case Kind.INSTANT:
            return literal(" is no time of the form 2026-11-22T09:00:00+00:00")
        case Kind.TEXT if column.name == "currency":
            return literal(" is no ISO 4217 currency")
        case Kind.TEXT:
            return literal(f" is not allowed; allowed: {', '.join(column.allowed)}")
        case _:
            return literal(" is not allowed; allowed: true, false")


def _counts(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    """Rows typed, rows that gave way to a newer one of the same key, rows whose amounts were rounded."""
    (row,) = connection.execute(
        "select (select count(*) from typed), (select count(*) from kept where _rank > 1),"
        " (select count(*) from kept where _rank = 1 and _rounded)"
    ).fetchall()
    return row


def _currencies() -> pa.Table:
    known = known_currencies()
    digits = list(known.values())
    return pa.table({"code": list(known), "digits": digits, "factor": [10**places for places in digits]})
