"""The directories of snapshots, as they are on this machine's disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpumodels_tui.doctor import directories
from machines import a_machine, found, statuses
from snapshots import a_model, a_snapshot, published


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir(mode=0o700)
    return made


def test_a_directory_that_is_there_passes(directory: Path) -> None:
    assert found(directories.path, a_machine(directory)) == [("PASS", f"{directory} is there")]


def test_a_symlink_and_a_file_fail(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(directory)
    (tmp_path / "file").touch()
    said = found(directories.path, a_machine(tmp_path / "link", tmp_path / "file"))
    assert [status for status, _ in said] == ["FAIL", "FAIL"]
    assert "is a symlink" in said[0][1]
    assert "is not a directory" in said[1][1]


def test_a_chosen_directory_that_is_missing_warns_and_the_default_one_is_made_later(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert found(directories.path, a_machine(missing)) == [("WARN", f"{missing} doesn't exist")]
    assert statuses(directories.path, a_machine(environment={"GPUMODELS_DIR": str(missing)})) == ["PASS"]


def test_a_directory_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert statuses(directories.path, a_machine(environment={"GPUMODELS_DIR": str(tmp_path / "file" / "none")})) == ["FAIL"]


def test_your_own_passes_and_anothers_fails(directory: Path) -> None:
    machine = a_machine(directory)
    assert statuses(directories.owner, machine) == ["PASS"]
    machine.uid += 4711
    directory.chmod(0o700)
    assert statuses(directories.owner, machine) == ["FAIL"]
    directory.chmod(0o750)
    assert statuses(directories.owner, machine) == ["PASS"]
    machine.uid = 0
    assert statuses(directories.owner, machine) == ["PASS"]


def test_without_a_directory_nothing_can_be_wrong_with_it(tmp_path: Path) -> None:
    assert statuses(directories.owner, a_machine(tmp_path / "none")) == ["PASS"]
    assert statuses(directories.mode, a_machine(tmp_path / "none")) == ["PASS"]


@pytest.mark.parametrize(
    ("mode", "status"), [(0o700, "PASS"), (0o750, "PASS"), (0o755, "WARN"), (0o770, "FAIL"), (0o777, "FAIL"), (0o500, "FAIL")]
)
def test_who_else_may_write_decides(directory: Path, mode: int, status: str) -> None:
    directory.chmod(mode)
    assert statuses(directories.mode, a_machine(directory)) == [status]
    directory.chmod(0o700)


def test_a_file_system_with_room_passes_and_is_named_once(directory: Path) -> None:
    assert statuses(directories.room, a_machine(directory, directory / "a" / "b")) == ["PASS"]


@pytest.mark.parametrize(
    ("free", "inodes", "status"), [(100, 9, "FAIL"), (1000, 9, "WARN"), (1000_000, 0, "FAIL"), (1000_000, 9, "PASS")]
)
def test_a_file_system_without_room_fails(
    directory: Path, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, status: str
) -> None:
    system = SimpleNamespace(f_bavail=free, f_frsize=1024, f_files=9, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", lambda path: system)
    assert statuses(directories.room, a_machine(directory)) == [status]


@pytest.mark.slow
def test_a_real_file_system_that_is_full_fails(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    program = (
        "from machines import a_machine, statuses; from gpumodels_tui.doctor import directories; from pathlib import Path;"
        "import sys; print(statuses(directories.room, a_machine(Path(sys.argv[1]))))"
    )
    script = f"mount -t tmpfs -o size=64k none {tmp_path} && exec {sys.executable} -c '{program}' {tmp_path}"
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("namespaces may not be made here")
    assert done.stdout == "['FAIL']\n", done.stderr


def test_files_that_can_be_read_pass_and_others_are_named(directory: Path) -> None:
    writer = published(directory, a_snapshot(a_model()))
    assert found(directories.files, a_machine(directory)) == [("PASS", "files that can be read: 1")]
    (directory / "1-1-0.gpm").write_bytes(b"nonsense")
    assert found(directories.files, a_machine(directory)) == [("WARN", "1-1-0.gpm: truncated: 8 bytes, incomplete header")]
    writer.abandon()


def test_too_many_files_are_said(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.sources.feed.MAX_FILES", 1)
    writers = [published(directory, a_snapshot(a_model())) for _ in range(2)]
    assert ("WARN", f"{directory} holds 2 files; only 1 are read") in found(directories.files, a_machine(directory))
    for writer in writers:
        writer.abandon()
