"""Ready-made mappings of known systems: a folder each, with a select statement for each table.

`presets.yaml` says how each is pulled. Sources that name a preset get its tables beside those that they map themselves.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

NAMES = ("odoo", "erpnext", "tryton")


@cache
def load(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The mappings of a preset by table, as a policy file would have them. Raises KeyError for an unknown one."""
    folder = files(__package__)
    listed = yaml.safe_load(folder.joinpath("presets.yaml").read_text(encoding="utf-8"))
    return {
        table: {"query": folder.joinpath(name, f"{table}.sql").read_text(encoding="utf-8"), **(settings or {})}
        for table, settings in listed[name].items()
    }
