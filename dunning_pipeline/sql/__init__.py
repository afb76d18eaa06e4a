"""SQL that is longer than a line or two, one statement a file; `load` reads it.

Also how names and texts are put into SQL where a parameter cannot stand.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files


@cache
def load(name: str) -> str:
    """The text of `<name>.sql` beside this module."""
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def quoted(names: Sequence[str]) -> str:
    """Names as a list of quoted SQL identifiers."""
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: object) -> str:
    """Text as a quoted SQL literal."""
    return "'" + str(text).replace("'", "''") + "'"
