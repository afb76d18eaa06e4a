"""Disks that are full and files that are read-only, as far as the machine lets tests make them."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: writing fails there, in the middle of a write if need be.

    That stands in for a full disk, and for files that are read-only where `size` is 0, on every machine and at every
    byte: what fails for us is the same call to `write`.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own in `folder`, e.g. of `4m`; skips where mounting is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk: a really full one is not tried")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here, a really full one is not tried: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Nothing is left of a small disk."""
    filling = disk / "filling"
    with filling.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    try:
        yield
    finally:
        filling.unlink()


@contextmanager
def read_only(file: Path) -> Iterator[None]:
    """A file that not even root can write; skips where that cannot be had."""
    if shutil.which("chattr") is None:
        pytest.skip("there is no chattr: a read-only file is not tried")
    marked = subprocess.run(["chattr", "+i", str(file)], capture_output=True, text=True, check=False)
    if marked.returncode:
        pytest.skip(f"files cannot be made read-only here, which is not tried: {marked.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(file)], check=True)
