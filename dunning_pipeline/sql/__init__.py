"""SQL that is longer than a line or two, one statement a file; `load` reads it."""

from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """The text of `<name>.sql` beside this module."""
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
