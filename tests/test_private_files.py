"""Files for one user alone: folders, files, and what libraries create meanwhile."""

import os
import stat
from pathlib import Path

import pytest

from dunning_pipeline.private_files import create_private_file, make_private_folder, private_umask


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_with_those_above_it_for_its_user_alone(tmp_path: Path) -> None:
    folder = make_private_folder(tmp_path / "home" / "history")
    assert mode(folder) == mode(folder.parent) == 0o700


def test_a_folder_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "history"
    folder.mkdir(mode=0o755)
    make_private_folder(folder)
    assert mode(folder) == 0o700


def test_a_file_is_private_from_its_first_moment_and_never_replaced(tmp_path: Path) -> None:
    file = create_private_file(tmp_path / "file")
    assert mode(file) == 0o600
    with pytest.raises(FileExistsError):
        create_private_file(file)


def test_what_is_created_meanwhile_is_private_and_afterwards_as_before(tmp_path: Path) -> None:
    outer = os.umask(0o022)
    try:
        with private_umask(), private_umask():
            (tmp_path / "within").write_text("")
        (tmp_path / "after").write_text("")
    finally:
        os.umask(outer)
    assert mode(tmp_path / "within") == 0o600
    assert mode(tmp_path / "after") == 0o644
