"""Places: which directories and files are trusted, and that nothing there can make a reader wait or follow."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gpumodels_shared import places
from gpumodels_shared.places import (
    RefusedError,
    check_directory,
    default_directory,
    ensure_directory,
    every_users_directories,
    open_file,
    snapshot_files,
)

ME = os.geteuid()
NOBODY = 65_534
root_only = pytest.mark.skipif(ME != 0, reason="only root can give files away")


def make_file(path: Path, content: bytes = b"content") -> Path:
    """A regular file of ours."""
    path.write_bytes(content)
    return path


def test_the_environment_chooses_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_directory({"GPUMODELS_DIR": str(tmp_path)}) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert default_directory({"GPUMODELS_DIR": "here"}) == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_directory({"GPUMODELS_DIR": "~/there"}) == tmp_path / "there"
    assert default_directory({"GPUMODELS_DIR": "~no-such-user/there"}) == tmp_path / "~no-such-user/there"


def test_without_a_choice_it_is_in_shared_memory_under_our_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SHARED_MEMORY", tmp_path)
    assert default_directory({}) == tmp_path / f"gpumodels-{ME}"
    assert default_directory({"GPUMODELS_DIR": ""}, uid=1234) == tmp_path / "gpumodels-1234"


def test_without_shared_memory_it_is_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(places, "SHARED_MEMORY", tmp_path / "none")
    assert default_directory({}, uid=7) == tmp_path / "gpumodels-7"
    monkeypatch.setattr(places, "SHARED_MEMORY", make_file(tmp_path / "file"))
    assert default_directory({}, uid=7) == tmp_path / "gpumodels-7"


@pytest.mark.skipif(ME == 0, reason="root may write anywhere")
def test_shared_memory_that_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shm"
    shared.mkdir(mode=0o555)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(places, "SHARED_MEMORY", shared)
    assert default_directory({}, uid=7) == tmp_path / "gpumodels-7"


def test_a_missing_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "down"
    for _ in range(2):
        ensure_directory(directory)
        assert directory.stat().st_mode & 0o7777 == 0o700
    assert check_directory(directory, {ME}) == ME


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symlink_is_no_directory_of_ours(tmp_path: Path, dangling: bool) -> None:
    target = tmp_path / "target"
    if not dangling:
        target.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(target)
    for use in (ensure_directory, lambda directory: check_directory(directory, None)):
        with pytest.raises(RefusedError, match="is a symlink"):
            use(link)
    assert target.exists() is not dangling


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    for use in (ensure_directory, lambda directory: check_directory(directory, None)):
        with pytest.raises(RefusedError, match=f"can be written by others.*{mode:04o}.*chmod 700"):
            use(tmp_path)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_directory_that_others_can_only_read_is_good(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert check_directory(tmp_path, {ME}) == ME


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not a directory"):
        ensure_directory(make_file(tmp_path / "file"))


def test_a_missing_directory_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_directory(tmp_path / "none", None)


def test_a_directory_of_another_owner_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(RefusedError, match=f"belongs to uid {ME}, not to us"):
        check_directory(tmp_path, {ME + 1})


@root_only
def test_roots_viewer_accepts_every_owner_and_says_which(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    os.chown(tmp_path, NOBODY, -1)
    assert check_directory(tmp_path, None) == NOBODY
    with pytest.raises(RefusedError, match=f"belongs to uid {NOBODY}"):
        ensure_directory(tmp_path)


def test_every_users_directories_are_those_named_for_a_uid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    for directory in (shared / "gpumodels-0", shared / "gpumodels-1000", temporary / "gpumodels-1000", temporary / "gpumodels-x"):
        directory.mkdir(parents=True)
    make_file(temporary / "gpumodels-7")
    (temporary / "gpumodels-8").symlink_to(shared / "gpumodels-0")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(places, "SHARED_MEMORY", shared)
    # The symlink is among them, so that checking it says why it is refused.
    found = [shared / "gpumodels-0", shared / "gpumodels-1000", temporary / "gpumodels-1000", temporary / "gpumodels-8"]
    assert every_users_directories() == found


def test_discovery_ignores_temporaries_hidden_and_foreign_names(tmp_path: Path) -> None:
    for name in ("2-1-b.gpm", "1-1-a.gpm", ".new-0a0a", ".new-0a.gpm", ".hidden.gpm", "notes.txt", "1-1-a.gpm.bak"):
        make_file(tmp_path / name)
    assert snapshot_files(tmp_path) == ["1-1-a.gpm", "2-1-b.gpm"]


def test_a_regular_file_of_the_directorys_owner_is_opened_for_reading_only(tmp_path: Path) -> None:
    descriptor = open_file(make_file(tmp_path / "a.gpm"), ME)
    try:
        assert os.read(descriptor, 100) == b"content"
        assert not os.get_inheritable(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


def a_symlink(path: Path) -> None:
    """A symlink to a file that would itself be accepted."""
    path.symlink_to(make_file(path.with_name("target")))


def a_hard_link(path: Path) -> None:
    """A second name of a regular file."""
    path.hardlink_to(make_file(path.with_name("target")))


def a_device(path: Path) -> None:
    """A device node that is the same as /dev/zero."""
    os.mknod(path, 0o020600, os.makedev(1, 5))


def a_socket(path: Path) -> None:
    """A name that a socket was bound to."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(a_symlink, "is a symlink", id="symlink"),
        pytest.param(a_hard_link, "second name", id="hard link"),
        pytest.param(os.mkfifo, "not a regular file", id="fifo"),
        pytest.param(Path.mkdir, "not a regular file", id="directory"),
        pytest.param(a_device, "not a regular file", id="device", marks=root_only),
        pytest.param(a_socket, "not a regular file", id="socket"),
    ],
)
def test_what_is_no_ordinary_file_is_refused_without_waiting(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "a.gpm"
    make(path)
    descriptors = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    with pytest.raises(OSError, match=reason):  # where opening a FIFO waited for a writer, it would wait for ever
        open_file(path, ME)
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == len(descriptors), "a descriptor was left open"


def test_a_file_of_another_owner_than_its_directory_is_refused(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a.gpm")
    with pytest.raises(RefusedError, match=f"belongs to uid {ME}, its directory to uid {ME + 1}"):
        open_file(path, ME + 1)


@root_only
def test_a_file_that_was_given_away_is_refused(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a.gpm")
    os.chown(path, NOBODY, -1)
    with pytest.raises(RefusedError, match=f"belongs to uid {NOBODY}"):
        open_file(path, ME)


def test_a_file_that_is_gone_is_reported_as_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "a.gpm", ME)
