"""Rows of a source as it yields them to the typed rows of a declared table or to a rejection.

Works on Parquet files in a staging folder with an in-memory DuckDB, so that neither the warehouse's lock nor much
memory is held however long a pull takes. Reading a source belongs in its own module, writing to the warehouse in
loading.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from dunning_pipeline.errors import SourceError
from dunning_pipeline.masking import masked
from dunning_pipeline.policy import Mapping
from dunning_pipeline.policy_file import JSON_DATE, NUMBERED_DATES, UNIX_SECONDS
from dunning_pipeline.resources.watermarks import Watermark
from dunning_pipeline.rules.money import known_currencies
from dunning_pipeline.sql import literal, quoted
from dunning_pipeline.tables import Column, Kind, Table

NOISE = "0.000001"
"""Share of a minor unit up to which an amount is binary noise, to be rounded, rather than a wrong amount."""

MEMORY_LIMIT = "512MB"
"""What does not fit is spilled to the staging folder."""

FIRST_YEAR, LAST_YEAR = 1900, 2200
MOST_SECONDS = (LAST_YEAR + 100 - 1970) * 366 * 24 * 60 * 60
"""Since 1970: a number beyond is no time, or not in seconds."""

CHANGES = "changes"
"""What an edit changed. Only shown: an edit is not rejected for it, but taken without."""

REJECTS_SCHEMA = pa.schema([("row", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Raw:
    """What a reader has to say beside the rows: those that it could not read (`row`, `reason`), how far it came.

    `newest`: when what was read last changed, as far as the reader knows: files have a time. `left_out`: rows that the
    mapping leaves out, with the reason.
    """

    unreadable: pa.Table
    watermark: Watermark | None = None
    newest: datetime | None = None
    left_out: pa.Table = field(default_factory=REJECTS_SCHEMA.empty_table)


@dataclass(frozen=True)
class Staged:
    """What a pull of one table from one source came to.

    `rows` is a Parquet file with the incoming columns of the table, typed, each key once; `rejected` has `row`
    (JSON, as it came) and `reason`. `pulled` counts all rows, `duplicates` those whose key a newer row has,
    `rounded` the amounts from which binary noise was taken. `custom` are columns beyond the declared ones.
    `found` are the columns that the source yielded, `seen` is a Parquet file of all keys, those of rejected rows too.
    """

    source: str
    rows: Path
    seen: Path
    rejected: pa.Table
    pulled: int
    duplicates: int
    rounded: int
    custom: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def taken(self) -> int:
        """The number of `rows`."""
        return self.pulled - self.duplicates - int(self.rejected.num_rows)


def stage(
    source: str,
    table: Table,
    mapping: Mapping,
    raw: Path,
    unreadable: pa.Table,
    time_zone: str,
    id_prefix: str | None = None,
) -> Staged:
    """Types, checks and deduplicates the rows of `raw` (RULES 1.5; CONTRACT, Source tables).

    Args:
        source: name of the source, for messages.
        table: the table the rows are meant for.
        mapping: how the source's columns become the table's.
        raw: Parquet file of columns as the source names them: text, numbers, booleans, dates, times or UUIDs.
        unreadable: rows (`row`, `reason`) that could not even be read.
        time_zone: IANA zone of instants without one, and the zone whose days dates are.
        id_prefix: put before every id of ours; `external_id` is Klaviyo's.

    Raises:
        SourceError: a column that the table needs, or that the mapping names, is not there.
    """
    found = tuple(pq.read_schema(raw).names)
    expressions = _prefixed(_mapped_columns(source, table, mapping, found), id_prefix)
    custom = custom_columns(source, table, mapping, found)
    target, seen = raw.with_suffix(".staged.parquet"), raw.with_suffix(".seen.parquet")
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"set memory_limit = '{MEMORY_LIMIT}'")
        connection.execute(f"set temp_directory = {literal(raw.with_suffix('.spilled'))}")
        connection.execute(f"set TimeZone = {literal(time_zone)}")
        connection.register("currencies", _currencies())
        texts = texts_of(pq.read_schema(raw))
        connection.execute(_typing_query(table, mapping, expressions, custom, texts), {"raw": str(raw)})
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
        connection.execute(
            f"copy (select distinct {key} from typed where {key} is not null) to {literal(seen)} (format parquet)"
        )
        pulled, duplicates, rounded = _counts(connection)
        return Staged(
            source=source,
            rows=target,
            seen=seen,
            rejected=pa.concat_tables([unreadable, rejected.to_arrow_table().cast(REJECTS_SCHEMA)]),
            pulled=pulled + unreadable.num_rows,
            duplicates=duplicates,
            rounded=rounded,
            custom=tuple(custom),
            found=found,
        )


def used_columns(source: str, table: Table, mapping: Mapping, found: Sequence[str]) -> tuple[str, ...]:
    """Those of the source's columns that fill a column of the table."""
    custom = custom_columns(source, table, mapping, found)
    names = {column.incoming_name for column in table.incoming} | custom.keys()
    return tuple(name for name in found if name in mapping.columns or name in names)


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
            text = f"nullif(trim(raw.{quoted([by_target.get(name, name)])}), '')"
            expressions[column.name] = _translated(text, mapping.translate.get(name, {}))
        elif column.required:
            raise SourceError(
                f"{source}.{table.name}: column '{name}' is needed, {_yields(found)}; name it so in the query, or "
                f"give `columns: {{<its name>: {name}}}` or `values: {{{name}: <constant>}}`"
            )
    for column in table.incoming:
        if column.kind is Kind.MONEY and column.name in expressions and "currency" not in expressions:
            raise SourceError(
                f"{source}.{table.name}: column 'currency' is needed beside '{column.incoming_name}', {_yields(found)};"
                " name it so in the query, or give `values: {currency: <constant>}`"
            )
    return expressions


def _translated(text: str, ours: dict[str, str]) -> str:
    """SQL of our text where theirs is listed, else of theirs."""
    if not ours:
        return text
    cases = " ".join(f"when {literal(theirs)} then {literal(our)}" for theirs, our in ours.items())
    return f"case {text} {cases} else {text} end"


OTHERS_IDS = ("external_id", "person_id")
"""Ids that are not the source's own."""


def _prefixed(expressions: dict[str, str], prefix: str | None) -> dict[str, str]:
    if not prefix:
        return expressions
    return {
        name: f"{literal(prefix)} || {text}" if name.endswith("_id") and name not in OTHERS_IDS else text
        for name, text in expressions.items()
    }


def _yields(found: Sequence[str]) -> str:
    # Without a line of headings, the names are what stands in the first row.
    return f"but the source yields {masked(', '.join(found))}"


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


def texts_of(schema: pa.Schema) -> str:
    """SQL of all columns of a source's rows as text, exactly as exact_texts.py writes them."""
    if all(map(pa.types.is_string, schema.types)):
        return "*"
    return ", ".join(f"{_text(quoted([field.name]), field.type)} as {quoted([field.name])}" for field in schema)


def _text(name: str, kind: pa.DataType) -> str:
    if not pa.types.is_timestamp(kind):
        return f"{name}::varchar"
    at, zone = (f"({name} at time zone 'UTC')", " || '+00:00'") if kind.tz else (name, "")
    return (
        f"case when microsecond({at}) % 1000000 = 0 then strftime({at}, '%Y-%m-%d %H:%M:%S')"
        f" else strftime({at}, '%Y-%m-%d %H:%M:%S.%f') end{zone}"
    )


def _typing_query(
    table: Table, mapping: Mapping, expressions: dict[str, str], custom: dict[str, str], source_texts: str
) -> str:
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
            select {", ".join([*texts, *kept])}, _position, raw
            from (
                select rows as raw, row_number() over () as _position
                from (select {source_texts} from read_parquet($raw)) as rows
            )
        ),
        exact as (
            select {", ".join(["texts.*", *exact, *(["currencies.digits"] if money else [])])} from texts
            {"left join currencies on currencies.code = upper(text_currency)" if money else ""}
        ),
        cast_rows as (select {", ".join(["exact.*", *typed, " or ".join(noisy) or "false"])} as _rounded from exact),
        judged as (
            select *, concat_ws('; ', {", ".join(_reasons(table, mapping, mapped))}) as reason from cast_rows
        )
        select {", ".join(results)}, case when reason <> '' then to_json(raw)::varchar end as row, reason,
            _rounded, _position from judged
    """


def _with_default(column: Column) -> str:
    return f"coalesce({column.name}, {column.default}) as {column.name}" if column.default else column.name


def _exact(column: Column, mapping: Mapping) -> str:
    """Minor units as a decimal that still shows a wrong fraction; empty for text that is no amount."""
    text = _with_point(f"text_{column.name}") if mapping.decimal_comma else f"text_{column.name}"
    if mapping.minor_units and not mapping.minor_unit_decimals:
        return f"try_cast({text} as decimal(38, 18))"
    if mapping.minor_units:
        return f"try_cast({text} as decimal(29, 18)) * {_minor_units_of_theirs(mapping.minor_unit_decimals)}"
    return f"try_cast({text} as decimal(33, 18)) * currencies.factor"


def _minor_units_of_theirs(decimals: dict[str, int]) -> str:
    """SQL of how many of our minor units one of the source's is, as a decimal."""
    digits = known_currencies()
    factors = {code: Decimal(10) ** (digits[code] - theirs) for code, theirs in decimals.items() if code in digits}
    cases = " ".join(f"when {literal(code)} then {factor:f}" for code, factor in factors.items())
    return f"(case upper(text_currency) {cases} else 1 end)::decimal(9, 6)"


def _with_point(text: str) -> str:
    """An amount written as 1.234,56 with a decimal point; empty for a text of another form."""
    written = r"[+-]?([0-9]+|[0-9]{1,3}([. \x{00A0}\x{202F}''][0-9]{3})+)(,[0-9]+)?"
    digits = rf"regexp_replace({text}, '[. \x{{00A0}}\x{{202F}}'']', '', 'g')"
    return f"case when regexp_full_match({text}, '{written}') then replace({digits}, ',', '.') end"


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
            return _possible(_date(text, _date_format(column, mapping)))
        case Kind.INSTANT:
            return _instant(text, _date_format(column, mapping))
        case Kind.TEXT if column.name == "currency":
            return f"case when upper({text}) in (select code from currencies) then upper({text}) end"
        case Kind.TEXT if column.name == CHANGES:
            return f"case when {_lists_changes(text)} then {text} end"
        case Kind.TEXT if column.allowed:
            allowed = ", ".join(map(literal, column.allowed))
            return f"case when lower({text}) in ({allowed}) then lower({text}) end"
        case _:
            return f"try_cast({text} as {column.kind.sql})"


def _lists_changes(text: str) -> str:
    """SQL of whether a text is a JSON list of objects with a title, an amount, and a whole quantity if any."""
    item = (
        "json_type(item, '$.title') = 'VARCHAR' and json_type(item, '$.amount') in ('DOUBLE', 'BIGINT', 'UBIGINT')"
        " and coalesce(json_type(item, '$.quantity'), 'NULL') in ('NULL', 'BIGINT', 'UBIGINT')"
    )
    items = f"[coalesce({item}, false) for item in json_extract(try_cast({text} as json), '$[*]')]"
    return f"json_type(try_cast({text} as json)) = 'ARRAY' and coalesce(list_bool_and({items}), true)"


def _date_format(column: Column, mapping: Mapping) -> str | None:
    """The format of a date, or of a time: for times a format of dates alone does not count."""
    general = mapping.date_format
    if column.kind is Kind.INSTANT and general not in NUMBERED_DATES:
        general = None
    return mapping.date_formats.get(column.name, general)


def _date(text: str, date_format: str | None) -> str:
    if date_format == JSON_DATE:
        return f"({_numbered_time(text, date_format)} at time zone 'UTC' + {_written_offset(text)})::date"
    if date_format in NUMBERED_DATES:
        return f"{_numbered_time(text, str(date_format))}::date"
    if date_format:
        return f"try_strptime({text}, {literal(date_format)})::date"
    plain = f"regexp_full_match({text}, '[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}')"
    return f"case when {plain} then try_cast({text} as date) else try_cast({text} as timestamptz)::date end"


def _instant(text: str, time_format: str | None) -> str:
    if time_format in NUMBERED_DATES:
        return _numbered_time(text, str(time_format))
    if time_format:
        return f"try_strptime({text}, {literal(time_format)})::timestamptz"
    return f"try_cast({text} as timestamptz)"


_JSON_DATE = r"/Date\((-?[0-9]+)([+-][0-9]{4})?\)/"


def _numbered_time(text: str, form: str) -> str:
    """SQL of the instant that a number stands for; empty for any other text, and beyond the years that are possible."""
    number, factor = text, 1 if form == UNIX_SECONDS else 1000
    if form == JSON_DATE:
        number = (
            f"case when regexp_full_match({text}, '{_JSON_DATE}') then regexp_extract({text}, '{_JSON_DATE}', 1) end"
        )
    micros = f"try_cast({number} as decimal(30, 6)) * {1_000_000 // factor}"
    latest = MOST_SECONDS * 1_000_000
    return f"case when abs({micros}) < {latest} then make_timestamptz(({micros})::bigint) end"


def _written_offset(text: str) -> str:
    """SQL of the offset in a `/Date(…+0100)/`, as an interval: it says of which day the time is meant."""
    offset = f"regexp_extract({text}, '{_JSON_DATE}', 2)"
    minutes = (
        f"(coalesce(try_cast({offset}[2:3] as integer), 0) * 60 + coalesce(try_cast({offset}[4:5] as integer), 0))"
    )
    return f"to_minutes(case when {offset}[1] = '-' then -{minutes} else {minutes} end)"


def _possible(day: str) -> str:
    """The day, unless its year tells that it was mapped or typed wrongly."""
    return f"case when year({day}) between {FIRST_YEAR} and {LAST_YEAR} then {day} end"


def _reasons(table: Table, mapping: Mapping, mapped: Sequence[Column]) -> Iterator[str]:
    """SQL of each possible reason to reject a row; empty where it does not apply."""
    for column in mapped:
        name, text = column.incoming_name, f"text_{column.name}"
        if column.required:
            yield f"case when {text} is null then {literal(name + ' is empty')} end"
        if column.name == CHANGES:
            continue
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
            return literal(f" is no date of the form {_date_format(column, mapping) or '2026-11-22'}")
        case Kind.INSTANT:
            return literal(f" is no time of the form {_date_format(column, mapping) or '2026-11-22T09:00:00+00:00'}")
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
