"""What Dagster's UI shows of a materialisation: counts, columns, a preview without addresses."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from dunning_pipeline.masking import masked, masked_value
from dunning_pipeline.tables import Table

PREVIEW_ROWS = 10
COUNTED_VALUES = 30
"""More than there are reasons, so that the counts of decisions add up."""

Metadata = Mapping[str, Any]


def preview(frame: pd.DataFrame, rows: int = PREVIEW_ROWS) -> dg.MarkdownMetadataValue:
    """The first rows as a table, addresses masked."""
    shown = frame.head(rows).astype(object).where(frame.head(rows).notna(), "")
    lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "|" + " --- |" * shown.shape[1]]
    lines += ["| " + " | ".join(map(_cell, shown.columns, row)) + " |" for row in shown.to_numpy()]
    return dg.MetadataValue.md(masked("\n".join(lines)))


def counts(values: pd.Series) -> dg.MarkdownMetadataValue:
    """How often each value occurs, as a table, the most frequent first."""
    counted = values.value_counts().rename("rows").reset_index()
    return preview(counted, COUNTED_VALUES)


def counts_table(counted: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Counts by value as a table."""
    return preview(pd.DataFrame({"value": list(counted), "rows": list(counted.values())}), COUNTED_VALUES)


def column_schema(table: Table) -> dg.TableSchemaMetadataValue:
    """The declared columns with types and meanings."""
    columns = [dg.TableColumn(column.name, column.kind.sql, column.meaning) for column in table.columns]
    return dg.MetadataValue.table_schema(dg.TableSchema(columns))


def _cell(column: str, value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return value.date().isoformat() if value == value.normalize() and value.tz is None else str(value)
    return masked_value(column, " ".join(str(value).split())).replace("|", "\\|")[:120]
