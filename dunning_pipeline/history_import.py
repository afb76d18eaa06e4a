"""Contacts that another system made, from a CSV or Parquet file into `source.contacts`, as if recorded by hand.

What a contact does to a decision is up to the rules (RULES 5.2).
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pandas as pd
from pydantic import ValidationError

from dunning_pipeline.errors import SourceError
from dunning_pipeline.history import keep_history
from dunning_pipeline.policy import Policy, TableFile
from dunning_pipeline.pulling import staging_folder
from dunning_pipeline.resources.files import FileSourceReader
from dunning_pipeline.resources.loading import Loader, Pulled
from dunning_pipeline.resources.staging import stage
from dunning_pipeline.resources.warehouse import Warehouse, fetch
from dunning_pipeline.settings import Settings
from dunning_pipeline.sql import literal
from dunning_pipeline.tables import CONTACTS, CUSTOMERS, MANUAL, REJECTED_ROWS, RowRule, Table

SHOWN_IDS = 3


@dataclass(frozen=True)
class Imported:
    """What became of the rows of a file. `known` had been recorded before under the same id, and stay as they were.

    `reasons` counts rejected rows by reason; `doubts` are sentences about contacts that count for less than they say.
    `contact_ids` are those that the file and the warehouse have.
    """

    contacts: int
    known: int
    duplicates: int
    reasons: Mapping[str, int]
    doubts: tuple[str, ...]
    contact_ids: "pd.Series[str]"

    @property
    def rejected(self) -> int:
        """Rows that were not taken; `source.rejected_rows` has them."""
        return sum(self.reasons.values())


def contacts_file(path: Path, **mapping: object) -> TableFile:
    """The file with its mapping, as a source of the policy would describe it.

    Args:
        path: the file.
        mapping: `columns`, `values`, `date_format` and `delimiter` of docs/sources-files.md; empty ones do not count.

    Raises:
        SourceError: something in the mapping is not allowed.
    """
    # The reader takes patterns; here exactly one file is meant.
    settings = {"path": glob.escape(str(path.resolve())), **{name: value for name, value in mapping.items() if value}}
    try:
        return TableFile.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise SourceError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def import_contacts(settings: Settings, warehouse: Warehouse, file: TableFile) -> Imported:
    """Appends the contacts of a file that are not known yet, by their id, and writes them to the history's files.

    Raises:
        SourceError: the file cannot be read, or lacks a column.
        TooManyRejectedRows: more than `quality.max_rejected` of its rows were rejected; none was taken.
        HistoryError: they are recorded, but the file of the history could not be written.
    """
    now, run_id = settings.clock(), f"import-{uuid4()}"
    with staging_folder(settings.home, run_id, CONTACTS) as folder:
        raw = folder / "import.parquet"
        unreadable = FileSourceReader("import", Path("/"), settings.environment).read(file, raw).unreadable
        time_zone = settings.policy.organisation.time_zone
        staged = stage("import", _until(settings), file, raw, unreadable, time_zone)
        sources = [*settings.policy.sources]
        loader = Loader(warehouse, CONTACTS, run_id, now, settings.today(), sources, append_only=True)
        loaded = loader.load([Pulled(replace(staged, source=MANUAL))], settings.policy.quality.max_rejected)
        imported = pd.read_parquet(staged.rows, columns=["contact_id"])["contact_id"]
    with warehouse.transaction() as connection:
        query = f"select reason from {REJECTED_ROWS.qualified} where run_id = $run_id"
        reasons = fetch(connection, query, {"run_id": run_id})["reason"]
        query = f"select * from {CONTACTS.qualified} semi join imported using (contact_id) where source = $source"
        connection.register("imported", imported.to_frame())
        contacts = fetch(connection, query, {"source": MANUAL})
        customers = fetch(connection, f"select customer_id from {CUSTOMERS.qualified}")["customer_id"]
    keep_history(warehouse, now)
    return Imported(
        contacts=loaded.written,
        known=loaded.known,
        duplicates=staged.duplicates,
        reasons={str(reason): int(number) for reason, number in reasons.value_counts().items()},
        doubts=(*_unknown_customers(contacts, customers), *_unknown_actions(contacts, settings.policy)),
        contact_ids=contacts["contact_id"],
    )


def _until(settings: Settings) -> Table:
    """The table with one more rule: a day that is yet to come tells of dates that were read in a wrong format."""
    today = settings.today()
    rule = RowRule(f"contacted_on > date {literal(today)}", f"contacted_on is after today ({today})")
    return replace(CONTACTS, row_rules=(*CONTACTS.row_rules, rule))


def _unknown_customers(contacts: pd.DataFrame, customers: pd.Series) -> list[str]:
    unknown = contacts.loc[~contacts["customer_id"].isin(customers), "customer_id"]
    return [f"{len(unknown)} are with customers that no source has ({_shown(unknown)})"] if len(unknown) else []


def _unknown_actions(contacts: pd.DataFrame, policy: Policy) -> list[str]:
    names = {(flow.name, action) for flow in policy.workflows for action in flow.action_names}
    pairs = contacts["workflow"].fillna("") + ": " + contacts["action"].fillna("")
    named = contacts["workflow"].notna() | contacts["action"].notna()
    fitting = pairs.isin([f"{workflow}: {action}" for workflow, action in names]) & contacts["invoice_id"].notna()
    executing_nothing = pairs[named & ~fitting]
    if executing_nothing.empty:
        return []
    return [
        f"{len(executing_nothing)} execute nothing and count for the minimum contact delay only: they name no invoice, "
        f"or no workflow and action of the policy ({_shown(executing_nothing)})"
    ]


def _shown(values: pd.Series) -> str:
    distinct = values.drop_duplicates().tolist()
    return ", ".join(distinct[:SHOWN_IDS]) + (", …" if len(distinct) > SHOWN_IDS else "")
