"""`dunning check`: what is wrong with policy, sources and key before a run finds out. Changes nothing."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from dunning_pipeline.errors import DunningError
from dunning_pipeline.policy import Policy, PolicyError, unused_settings
from dunning_pipeline.resources.klaviyo import Klaviyo, KlaviyoError
from dunning_pipeline.resources.readers import pulled_sources, reader_of
from dunning_pipeline.resources.staging import raw_columns_problem
from dunning_pipeline.resources.warehouse import Warehouse
from dunning_pipeline.settings import Settings
from dunning_pipeline.tables import MANUAL, SOURCE_TABLES

FORBIDDEN = 403
LOCK_TIMEOUT_SECONDS = 5.0
_TABLES = {table.name: table for table in SOURCE_TABLES}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: a sentence, and whether it is wrong, worth knowing or fine."""

    level: str
    sentence: str


def check(settings: Settings) -> Iterator[Finding]:
    """Looks at everything and stops at nothing."""
    if isinstance(settings.loaded, PolicyError):
        yield from (Finding("wrong", str(problem)) for problem in settings.loaded.problems)
        return
    policy = settings.policy
    yield Finding("fine", f"policy {settings.policy_file}: {len(policy.workflows)} workflows")
    yield from (Finding("note", sentence) for sentence in unused_settings(policy))
    yield from _check_home(settings)
    yield from _check_sources(settings, policy)
    yield from _check_leftovers(settings, policy)
    yield from _check_klaviyo(settings, policy)


def _check_sources(settings: Settings, policy: Policy) -> Iterator[Finding]:
    fed = set()
    for name, source in pulled_sources(policy).items():
        for table_name, mapping in source.tables.items():
            if table_name not in _TABLES:
                continue
            fed.add(str(table_name))
            try:
                found = reader_of(name, source, settings).columns(mapping)
            except DunningError as error:
                yield Finding("wrong", str(error))
                continue
            problem = raw_columns_problem(name, _TABLES[table_name], mapping, found)
            yield (
                Finding("wrong", problem)
                if problem
                else Finding("fine", f"{name}.{table_name}: reachable, columns {', '.join(found)}")
            )
    for needed in ("customers", "invoices"):
        if needed not in fed:
            yield Finding("wrong", f"no source of the policy feeds the table {needed}")
    if "payments" not in fed:
        yield Finding("note", "no source feeds the table payments: every invoice counts as unpaid")


def _check_home(settings: Settings) -> Iterator[Finding]:
    """Whether DUNNING_HOME can be written, or made."""
    home = settings.home.resolve()
    nearest = next(folder for folder in (home, *home.parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        yield Finding("wrong", f"DUNNING_HOME {settings.home} cannot be written: {nearest} is not a writable folder")


def _check_leftovers(settings: Settings, policy: Policy) -> Iterator[Finding]:
    """Invoices of sources that the policy no longer names: they stay in the warehouse, but are not chased."""
    if not settings.warehouse_path.exists():
        return
    query = "select source, count(*) as invoices from source.invoices group by source order by source"
    try:
        rows = Warehouse(settings.warehouse_path, lock_timeout=LOCK_TIMEOUT_SECONDS).look(query)
    except DunningError as error:
        yield Finding("wrong", str(error))
        return
    for source, count in rows.to_numpy():
        if source not in policy.sources and source != MANUAL:
            sentence = f"{count} invoices of the source {source}, which the policy no longer names, are not chased"
            yield Finding("note", sentence)


def _check_klaviyo(settings: Settings, policy: Policy) -> Iterator[Finding]:
    live = policy.sending.live
    yield Finding("note", "sending.live is true: batches are sent" if live else "sending.live is false: a dry run")
    if live and not settings.home.is_absolute():
        yield Finding("wrong", f"DUNNING_HOME must be an absolute path when live, not {settings.home}")
    key = settings.environment.get("KLAVIYO_API_KEY")
    if not key:
        yield Finding("wrong" if live else "note", "the environment variable KLAVIYO_API_KEY is not set")
        return
    try:
        account = Klaviyo(settings.klaviyo_url, SecretStr(key)).account()
        yield Finding("fine", f"Klaviyo at {settings.klaviyo_url}: the key is of the account {account}")
    except KlaviyoError as error:
        if error.status == FORBIDDEN:
            sentence = "the Klaviyo key is good, but has no scope accounts:read, so its account cannot be shown"
            yield Finding("note", sentence)
        else:
            yield Finding("wrong", f"the Klaviyo key does not work: {error}")
