"""SQL of the benchmarks, one statement a file; `load` reads it."""

from pathlib import Path


def load(name: str) -> str:
    """The text of `<name>.sql` beside this module."""
    return (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
