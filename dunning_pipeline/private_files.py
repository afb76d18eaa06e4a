"""Files that only the user who runs the pipeline can read, and that survive a crash. What is in them is not known."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700

_guard = threading.Lock()
_depth = 0
_outer_umask = 0


@contextmanager
def private_umask() -> Iterator[None]:
    """Whatever this process creates meanwhile is its user's alone: for files that libraries create by themselves.

    The umask is the process's: while one thread is in here, files of the others get no more rights either.
    """
    global _depth, _outer_umask  # noqa: PLW0603 (so is the umask)
    with _guard:
        if _depth == 0:
            _outer_umask = os.umask(0o077)
        _depth += 1
    try:
        yield
    finally:
        with _guard:
            _depth -= 1
            if _depth == 0:
                os.umask(_outer_umask)


def make_private_folder(folder: Path) -> Path:
    """Makes a folder and those above it; if it is there already its rights are taken down to its user's alone."""
    with private_umask():
        folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(PRIVATE_FOLDER)
    return folder


def create_private_file(path: Path) -> Path:
    """An empty file for somebody else to fill. Raises FileExistsError."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))
    return path


def sync_file(path: Path) -> None:
    """Has the content of a file on the disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def sync_folder(folder: Path) -> None:
    """Has the names in a folder on the disk, where the system knows such a thing."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
