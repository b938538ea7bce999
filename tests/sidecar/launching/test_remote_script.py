from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpumodels.launching.remote_script import RemoteScript


def a_script(folder: Path, root: Path = Path("/")) -> RemoteScript:
    return RemoteScript(root, folder, os.geteuid(), os.getegid())


def test_the_folder_and_the_script_are_for_their_owner_alone_and_are_removed(tmp_path: Path) -> None:
    script = a_script(tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (script.path.parent, script.path)] == [0o700, 0o600]
    compile(script.path.read_text(), "script", "exec")
    script.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_path_is_the_one_in_the_targets_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "tmp").mkdir(parents=True)
    script = a_script(Path("/tmp"), tmp_path / "root")
    assert script.path.parent.parent == Path("/tmp")
    assert [file.name for file in (tmp_path / "root" / "tmp").iterdir()] == [script.path.parent.name]
    script.remove()


def test_a_temporary_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "tmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="irectory"):
        a_script(Path("/tmp"), tmp_path / "root")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_an_answer_that_is_no_file_is_none(kind: str, tmp_path: Path) -> None:
    script = a_script(tmp_path)
    answer = script.path.parent / "answer"
    if kind == "link":
        answer.symlink_to("/etc/hostname")
        assert script.answer() is None
    else:
        os.mkfifo(answer)
        assert script.answer() == ""  # at once
    script.remove()


def test_one_that_answered_before_it_was_left_is_removed_at_once(tmp_path: Path) -> None:
    script = a_script(tmp_path)
    (script.path.parent / "answer").write_text("started")
    script.leave()
    assert list(tmp_path.iterdir()) == []
