"""The files under DUNNING_HOME/history: their names, how they come to be on the disk, which of them can be trusted.

A name holds the table, the time and a checksum of the content: `sent_history-20261122T083000Z-0f3a….parquet`. What is
in the files, and what is missing in them, is history.py's.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dunning_pipeline.private_files import create_private_file, make_private_folder, sync_file, sync_folder

CHECKSUM_DIGITS = 16

_NAME = re.compile(rf"(?P<table>[a-z_]+)-\d{{8}}T\d{{6}}Z-(?P<checksum>[0-9a-f]{{{CHECKSUM_DIGITS}}})\.parquet")


@dataclass(frozen=True)
class Inspected:
    """What lies in the folder: paths of sound files by table, and by name what is wrong with the others."""

    sound: Mapping[str, tuple[Path, ...]]
    damaged: Mapping[str, str]

    @property
    def names(self) -> set[str]:
        """Names of all of them."""
        return {path.name for paths in self.sound.values() for path in paths} | set(self.damaged)

    def paths(self, table: str) -> tuple[Path, ...]:
        """The sound files of a table, oldest first."""
        return self.sound.get(table, ())


@dataclass
class Draft:
    """Files of one write that are still under temporary names, by table, in the order in which they are to appear."""

    folder: Path
    partials: dict[str, Path] = field(default_factory=dict)

    def partial(self, table: str) -> Path:
        """A new, empty, private file in the folder, for the rows of a table."""
        path = make_private_folder(self.folder) / f"{table}-{secrets.token_hex(8)}.partial"
        self.partials[table] = create_private_file(path)
        return path

    def drop(self, table: str) -> None:
        """Removes the file of a table that turned out to be empty."""
        self.partials.pop(table).unlink()

    def keep(self, at: datetime) -> dict[str, str]:
        """Has the files on the disk under their names, first to last; returns the names by table."""
        names = {}
        for table, partial in self.partials.items():
            sync_file(partial)
            names[table] = f"{table}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{checksum(partial)}.parquet"
            partial.replace(self.folder / names[table])
        if names:
            sync_folder(self.folder)
        return names

    def discard(self) -> None:
        """Removes what is still under a temporary name."""
        for partial in self.partials.values():
            partial.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """The first digits of the SHA-256 of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:CHECKSUM_DIGITS]


def names_in(folder: Path) -> set[str]:
    """Names of everything in the folder that is, or looks like, a file of the history."""
    return {path.name for path in folder.glob("*") if path.suffix in (".parquet", ".partial")}


def inspect(folder: Path, names: Iterable[str]) -> Inspected:
    """Reads the files through and tells the sound ones from the damaged ones."""
    sound: dict[str, list[Path]] = {}
    damaged: dict[str, str] = {}
    for name in sorted(names):
        path, parts = folder / name, _NAME.fullmatch(name)
        if path.suffix == ".partial":
            damaged[name] = "half-written: a run was killed while it wrote this file"
        elif not parts:
            damaged[name] = "not named as files of the history are"
        elif problem := _problem(path, parts["checksum"]):
            damaged[name] = problem
        else:
            sound.setdefault(parts["table"], []).append(path)
    return Inspected({table: tuple(paths) for table, paths in sound.items()}, damaged)


def _problem(path: Path, expected: str) -> str | None:
    try:
        if checksum(path) != expected:
            return "corrupt: its content is not what was written"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return None
