"""`dunning check`: what is wrong with policy, sources and key before a run finds out. Changes nothing."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from pydantic import SecretStr

from dunning_pipeline import doubts, sql
from dunning_pipeline.assets.customers import COLUMNS, columns_for_rules, missing_column
from dunning_pipeline.errors import DunningError
from dunning_pipeline.guards import unusual_size
from dunning_pipeline.masking import masked
from dunning_pipeline.order_polling import order_sources
from dunning_pipeline.outbox import LAST_PLACE
from dunning_pipeline.partitions import Days
from dunning_pipeline.policy import Mapping, Policy, PolicyError, TableQuery, TableRequest
from dunning_pipeline.preflight_orders import about_orders
from dunning_pipeline.pulling import read_table
from dunning_pipeline.pulling_shops import shop_reader
from dunning_pipeline.resources.klaviyo import KeyRefused, Klaviyo, KlaviyoError, ScopeMissing
from dunning_pipeline.resources.loading import CHECKED_AGAINST_INVOICES, Pulled
from dunning_pipeline.resources.parties import OTHER, parties_of
from dunning_pipeline.resources.readers import PulledSource, pulled_sources, reader_of, shops
from dunning_pipeline.resources.staging import custom_columns, raw_columns_problem
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.rules.decisions import STREAM
from dunning_pipeline.rules.smart_rules import customer_column_names
from dunning_pipeline.sending import listed
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import CUSTOMERS, MANUAL, SOURCE_TABLES

LOCK_TIMEOUT_SECONDS = 5.0
SHOWN_REJECTED = 5
_TABLES = {table.name: table for table in SOURCE_TABLES}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: a sentence, and whether it is wrong, worth knowing or fine."""

    level: str
    sentence: str


@dataclass(frozen=True)
class _Look:
    """The columns that a table of a source yields, what is wrong with them or keeps them from being seen, its rows.

    `absent` are fields that the mapping names and no record on the first page of an API has; some leave out empty ones.
    """

    mapping: Mapping
    found: Sequence[str]
    problem: str | None
    read: Pulled | None = None
    absent: Sequence[str] = ()


_Looks = dict[tuple[str, str], _Look]
"""By source and table."""


def check(settings: Settings) -> Iterator[Finding]:
    """Looks at everything and stops at nothing."""
    if isinstance(settings.loaded, PolicyError):
        yield from (Finding("wrong", str(problem)) for problem in settings.loaded.problems)
        return
    policy = settings.policy
    yield Finding("fine", f"policy {settings.policy_file}: {len(policy.workflows)} workflows")
    yield from _check_home(settings)
    looks = _look_at_sources(settings, policy)
    yield from _check_sources(looks, order_sources(policy))
    yield from _check_shops(settings, policy)
    yield from _check_warehouse(settings, policy, looks)
    yield from _check_klaviyo(settings, policy)


def _look_at_sources(settings: Settings, policy: Policy) -> _Looks:
    return {
        (name, table_name): _look(name, source, table_name, mapping, settings)
        for name, source in pulled_sources(policy).items()
        for table_name, mapping in source.tables.items()
        if table_name in _TABLES
    }


def _look(name: str, source: PulledSource, table_name: str, mapping: Mapping, settings: Settings) -> _Look:
    try:
        found = reader_of(name, source, settings).columns(mapping)
    except DunningError as error:
        return _Look(mapping, (), str(error))
    table = _TABLES[table_name]
    absent: list[str] = []
    if isinstance(mapping, TableRequest):
        needed = {column.incoming_name for column in table.incoming if column.required}
        absent = [path for path in mapping.columns if path not in found and not needed & set(mapping.columns[path])]
    problem = raw_columns_problem(name, table, mapping, [*found, *absent])
    if problem:
        return _Look(mapping, found, problem)
    with TemporaryDirectory() as folder:
        try:
            read = read_table(settings, name, source, table, Path(folder))
        except DunningError as error:
            return _Look(mapping, found, str(error))
    return _Look(mapping, found, None, read, absent)


def _check_sources(looks: _Looks, of_orders: Sequence[str]) -> Iterator[Finding]:
    for (name, table_name), look in looks.items():
        if look.problem:
            yield Finding("wrong", look.problem)
        if look.read:
            yield from _check_rows(f"{name}.{table_name}", look.mapping, look.read)
        if look.absent:
            paths = ", ".join(look.absent)
            yield Finding(
                "note", f"{name}.{table_name}: no record on the first page has {paths}; see that they are right"
            )
    fed = {table_name for _, table_name in looks}
    needed = ("customers", "invoices")
    if of_orders and not fed.intersection(needed):
        yield Finding("note", f"no source feeds the tables {' and '.join(needed)}: there are events about orders only")
        return
    for name in needed:
        if name not in fed:
            yield Finding("wrong", f"no source of the policy feeds the table {name}")
    if "payments" not in fed:
        yield Finding("note", "no source feeds the table payments: every invoice counts as unpaid")


def _check_rows(what: str, mapping: Mapping, read: Pulled) -> Iterator[Finding]:
    """How many rows there are, of when they are, and the first that would be rejected, addresses masked."""
    staged = read.staged
    changes = isinstance(mapping, TableQuery) and mapping.watermark
    newest = read.progress.watermark if changes and read.progress else f"as of {read.newest_at:%Y-%m-%d %H:%M} UTC"
    columns = ", ".join(staged.found)
    yield Finding("fine", f"{what}: reachable, {staged.pulled} rows, newest change {newest}, columns {columns}")
    if rejected := staged.rejected.num_rows:
        yield Finding("note", f"{what}: {rejected} of {staged.pulled} rows would be rejected, the first of them:")
    for row in staged.rejected.slice(0, SHOWN_REJECTED).to_pylist():
        yield Finding("note", f"{what}: {masked(row['reason'])}: {masked(row['row'])}")


def _check_shops(settings: Settings, policy: Policy) -> Iterator[Finding]:
    """Whether shops let us in and answer, with one cheap request each."""
    for name, source in shops(policy).items():
        try:
            newest = shop_reader(name, source, settings, attempts=1).newest(None)
        except DunningError as error:
            yield Finding("wrong", str(error))
            continue
        seen = f"newest change {newest[0].updated_at:%Y-%m-%d %H:%M} UTC" if newest else "no orders yet"
        yield Finding("fine", f"{name}: reachable, version {source.api_version} of Shopify's API, {seen}")


def _check_apps(policy: Policy, read: doubts.Read) -> Iterator[Finding]:
    """The apps, or parties, that edited orders of each source, and as whom they count from now on (RULES 8.1)."""
    seen = """
        select coalesce(app_title, '') as app, count(*) as edits
        from source.order_edits where source = $source group by app order by edits desc, app
    """
    for name, parties in parties_of(policy).items():
        counts = read(seen, {"source": name}).itertuples(index=False)
        listed = [f"{app or 'no app'} ({n}) as {parties.get(app.strip().lower(), OTHER)}" for app, n in counts]
        if listed:
            through = ", ".join(listed)
            yield Finding("note", f"{name}: orders were edited through {through}; edited_by_apps says as whom")


def _check_home(settings: Settings) -> Iterator[Finding]:
    """Whether DUNNING_HOME can be written, or made."""
    home = settings.home.resolve()
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        yield Finding("wrong", f"DUNNING_HOME {settings.home} cannot be written: {nearest} is not a writable folder")


def _check_warehouse(settings: Settings, policy: Policy, looks: _Looks) -> Iterator[Finding]:
    """What policy and warehouse have to say about each other; the rules' columns also where nothing was pulled yet."""
    if not settings.warehouse_path.exists():
        yield from _check_rules(policy, looks, [])
        yield from (Finding("note", sentence) for sentence in about_orders(policy, None, settings.clock()))
        return
    read = Warehouse(settings.warehouse_path, lock_timeout=LOCK_TIMEOUT_SECONDS).look
    try:
        yield from _check_rules(policy, looks, read(COLUMNS, {})["column_name"].tolist())
        yield from _check_leftovers(policy, read)
        yield from _check_apps(policy, read)
        yield from (Finding("note", doubt.sentence) for doubt in _doubts(read, policy, settings.today()))
        yield from _check_batch(policy, read, settings.today())
        yield from (Finding("note", sentence) for sentence in about_orders(policy, read, settings.clock()))
    except DunningError as error:
        yield Finding("wrong", str(error))


def _check_rules(policy: Policy, looks: _Looks, stored: Sequence[str]) -> Iterator[Finding]:
    """Columns that smart rules name and customers do not have, neither at their sources nor `stored` (RULES 3.2)."""
    seen = [
        custom_columns(name, CUSTOMERS, look.mapping, look.found)
        for (name, table_name), look in looks.items()
        if table_name == CUSTOMERS.name and not look.problem
    ]
    if not seen and not stored:
        return
    names = [*CUSTOMERS.column_names, *stored, *(name for custom in seen for name in custom)]
    known = columns_for_rules(list(dict.fromkeys(names)))
    for name in customer_column_names(policy):
        if name not in known:
            yield Finding("wrong", missing_column(policy, name, known))


def _check_leftovers(policy: Policy, read: doubts.Read) -> Iterator[Finding]:
    """Invoices of sources that the policy no longer names: they stay in the warehouse, but are not chased."""
    rows = read("select source, count(*) as invoices from source.invoices group by source order by source", {})
    for source, count in rows.to_numpy():
        if source not in policy.sources and source != MANUAL:
            sentence = f"{count} invoices of the source {source}, which the policy no longer names, are not chased"
            yield Finding("note", sentence)


def _doubts(read: doubts.Read, policy: Policy, today: date) -> Iterator[doubts.Doubt]:
    """What was taken over and perhaps not meant so; amounts as of the newest day that was decided."""
    yield from doubts.about_rejected_rows(read)
    for table in CHECKED_AGAINST_INVOICES:
        yield from doubts.about_invoices(read, table)
    yield from doubts.about_other_currencies(read)
    yield from doubts.about_workflows(read, policy, today)
    yield from doubts.about_overlaps(read, today)
    for newest in read("select max(as_of) as day from dunning.open_invoices", {})["day"].dropna():
        day = Days(newest.date(), newest.date())
        yield from doubts.about_ties(read, policy, day)
        yield from doubts.about_figures(read, policy, day)


def _check_batch(policy: Policy, read: doubts.Read, today: date) -> Iterator[Finding]:
    """What a send would send now: the rest of today's newest live batch."""
    newest = read(
        "select batch_id, as_of from dunning.batches where stream = $stream and live"
        " order by created_at desc, rowid desc limit 1",
        {"stream": STREAM},
    )
    of_today = newest[newest["as_of"] == pd.Timestamp(today)]
    if of_today.empty:
        if policy.sending.live:
            yield Finding("note", f"there is no live batch of today ({today}) yet, so a send would send nothing")
        return
    batch_id = of_today["batch_id"].iloc[0]
    bodies = read(sql.load("to_send"), {"batch_id": batch_id, "first": 0, "last": LAST_PLACE})["body"]
    on_list = int(listed(bodies, policy.sending.allow_list).sum())
    limited = f", {on_list} of them to sending.allow_list; the others would be dropped" if on_list < len(bodies) else ""
    yield Finding("note", f"batch {batch_id} of today has {len(bodies)} reminders left to send{limited}")
    sent = read(sql.load("sent_days"), {"stream": STREAM, "as_of": today})
    unusual = unusual_size(len(bodies), today, sent, policy.sending)
    if unusual:
        yield Finding("note", f"batch {batch_id} is only sent if it is confirmed: it would send {unusual}")


def _check_klaviyo(settings: Settings, policy: Policy) -> Iterator[Finding]:
    live = policy.sending.live
    yield Finding("note", "sending.live is true: batches are sent" if live else "sending.live is false: a dry run")
    if policy.sending.allow_list:
        yield Finding("note", f"sending.allow_list restricts sending to {len(policy.sending.allow_list)} addresses")
    if live and not settings.home.is_absolute():
        yield Finding("wrong", f"DUNNING_HOME must be an absolute path when live, not {settings.home}")
    key = settings.environment.get("KLAVIYO_API_KEY")
    if not key:
        yield Finding("wrong" if live else "note", "the environment variable KLAVIYO_API_KEY is not set")
        return
    try:
        account = Klaviyo(settings.klaviyo_url, SecretStr(key)).account()
        yield Finding("fine", f"Klaviyo at {settings.klaviyo_url}: the key is of the account {account}")
    except ScopeMissing:
        sentence = "the Klaviyo key is good, but has no scope accounts:read, so its account cannot be shown"
        yield Finding("note", sentence)
    except KeyRefused as error:
        yield Finding("wrong", f"the Klaviyo key does not work: {error}")
    except KlaviyoError as error:
        yield Finding("wrong", f"the Klaviyo key could not be proved: {error}")
