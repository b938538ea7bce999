"""Recordings are regular files; symlinks, pipes, and what is there already are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpumodels_tui.recording.files import create, is_being_written, open_for_reading
from gpumodels_tui.recording.lines import RecordingError


def test_a_new_file_is_its_owners_and_locked_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson.gz"
    writer = create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader = open_for_reading(path)
    assert is_being_written(reader)
    os.close(writer)
    assert not is_being_written(reader)
    os.close(reader)


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("mine")
    with pytest.raises(RecordingError, match="is there already"):
        create(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_symlinks_are_refused_both_ways(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    for opening in (create, open_for_reading):
        with pytest.raises(RecordingError, match="is a symlink; name the file itself"):
            opening(link)
    assert not (tmp_path / "nowhere").exists()


def test_pipes_directories_and_nothing_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "not a regular file"), (".", "not a regular file"), ("none", "no such file")):
        with pytest.raises(RecordingError, match=reason):
            open_for_reading(tmp_path / name)
    with pytest.raises(RecordingError, match="no such file"):
        create(tmp_path / "none" / "r")
