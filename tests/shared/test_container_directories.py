"""Directories of sidecars inside other mount namespaces, which the test makes where it may."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpumodels_shared.container_directories import container_directories
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.places import RefusedError, open_directory, open_file, write_new
from gpumodels_tui.sources.feed import ProcessState, SnapshotFeed

MADE = "mount -t tmpfs none /dev/shm && mkdir -m 700 /dev/shm/gpumodels-0"


@contextmanager
def container(commands: str, **environment: str) -> Iterator[int]:
    """A process in a mount namespace of its own that has run these commands; its pid."""
    child = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f"{commands} && echo ready && exec sleep 60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            pytest.skip("mount namespaces can't be made here")
        yield child.pid
    finally:
        child.kill()
        child.communicate()


def within(pid: int) -> list[str]:
    return [str(path) for path in container_directories() if path.is_relative_to(f"/proc/{pid}/root")]


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root sees into other mount namespaces")


def test_a_containers_directory_is_found_while_the_container_runs() -> None:
    with container(MADE) as pid:
        assert within(pid) == [f"/proc/{pid}/root/dev/shm/gpumodels-0"]
    deadline = time.monotonic() + 5
    while within(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert within(pid) == []


@pytest.mark.parametrize(
    "commands",
    [
        "mount -t tmpfs none /dev/shm && ln -s {there}/gpumodels-0 /dev/shm/gpumodels-0",
        "mount -t tmpfs none /dev/shm && mkdir /dev/shm/gpumodels-x /dev/shm/gpumodels-",
        "mount -t tmpfs none /dev/shm && touch /dev/shm/gpumodels-0",
        "mount -t tmpfs none /tmp && mount -t tmpfs none /dev && ln -s {there} /dev/shm",
        "true",
        # On a file system that may let us wait, here /proc as a stand-in for FUSE.
        "mount -t tmpfs none /dev/shm && mkdir -m 700 /dev/shm/gpumodels-0 && mount -t proc none /dev/shm/gpumodels-0",
    ],
)
def test_no_symlink_is_followed_and_nothing_else_is_taken_for_a_directory(commands: str, tmp_path: Path) -> None:
    (tmp_path / "gpumodels-0").mkdir(mode=0o700)
    with container(commands.format(there=tmp_path)) as pid:
        assert within(pid) == []


@pytest.mark.parametrize("name", ["files", "with a blank"])
def test_a_directory_that_processes_of_a_container_chose_is_found(name: str) -> None:
    made = f"mount -t tmpfs none /mnt && mkdir -m 700 '/mnt/{name}'"
    with container(made, GPUMODELS_DIR=f"/mnt/{name}") as pid:
        assert within(pid) == [f"/proc/{pid}/root/mnt/{name}"]


@pytest.mark.parametrize(
    ("commands", "chosen"),
    [
        ("ln -s {there} /mnt/files", "/mnt/files"),
        ("ln -s {there}/.. /mnt/above", "/mnt/above/files"),
        ("mkdir -m 700 /mnt/files", "/mnt/up/../files"),
        ("mkdir -m 700 /mnt/files && cd /mnt", "files"),
        ("mkdir -m 777 /mnt/files && chmod 777 /mnt/files", "/mnt/files"),
        ("mkdir '/mnt/a b' && mount -t proc none '/mnt/a b'", "/mnt/a b/self"),
        ("touch /mnt/files", "/mnt/files"),
        ("true", "/" + "x" * 5000),
        ("true", ""),
    ],
)
def test_a_choice_that_leads_elsewhere_or_may_let_us_wait_is_not_taken(commands: str, chosen: str, tmp_path: Path) -> None:
    (there := tmp_path / "files").mkdir(mode=0o700)
    with container(f"mount -t tmpfs none /mnt && {commands.format(there=there)}", GPUMODELS_DIR=chosen) as pid:
        assert within(pid) == []


def test_a_directory_whose_way_becomes_a_symlink_after_it_was_found_is_refused(tmp_path: Path) -> None:
    (out_here := tmp_path / "gpumodels-0").mkdir(mode=0o700)
    secret = out_here / "1-2-00000000.gpm"
    secret.write_bytes(b"of somebody else")
    swapped = f"mount -t tmpfs none /tmp && mount -t tmpfs none /dev && ln -s {tmp_path} /dev/shm"
    with container(swapped) as pid:
        found = Path(f"/proc/{pid}/root/dev/shm/gpumodels-0")
        assert os.stat(found).st_ino == out_here.stat().st_ino  # it would lead out here
        with pytest.raises(RefusedError, match="shm is a symlink"):
            open_directory(found, None)
        with pytest.raises(RefusedError, match="shm is a symlink"):
            open_file(found / secret.name, 0)
        with pytest.raises(RefusedError, match="shm is a symlink"):
            write_new(found, "ask", b"", None)
        feed = SnapshotFeed([found])
        try:
            state = feed.poll()
        finally:
            feed.close()
    assert state.processes == ()
    assert [row.path for row in state.unreadable] == [found]


def test_nobody_but_root_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert container_directories(Path("/nonexistent")) == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["through /proc", "a directory that both see", "a directory in a volume that all may write to"])
def test_a_process_in_a_container_has_a_live_row_with_its_pid_here(way: str, tmp_path: Path) -> None:
    directory = None if way == "through /proc" else tmp_path / "files"
    if "volume" in way:
        tmp_path.chmod(0o777)
    elif directory is not None:
        directory.mkdir(mode=0o700)
    chosen = {} if directory is None else {"GPUMODELS_DIR": str(directory)}
    sidecar = "import gpumodels, sys, time; gpumodels.start(); print('ready', flush=True); time.sleep(60)"
    child = subprocess.Popen(
        [
            "unshare",
            "-mpf",
            "--mount-proc",
            "sh",
            "-c",
            f"mount -t tmpfs none /dev/shm && exec {sys.executable} -c {shlex.quote(sidecar)}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("GPUMODELS")} | chosen,
        start_new_session=True,
    )
    feed = None
    try:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            pytest.skip("PID namespaces can't be made here")
        feed = SnapshotFeed(None if directory is None else [directory])
        deadline = time.monotonic() + 25  # containers are searched for every ten seconds
        rows: list[ProcessState] = []
        while not rows and time.monotonic() < deadline:
            rows = [
                row
                for row in feed.poll().processes
                if str(row.path).startswith("/proc/" if directory is None else str(directory))
                and row.liveness is Liveness.LIVE
                and row.pid == 1
                and row.outer_pid
            ]
            time.sleep(0.05)
        (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        assert [row.shown_pid for row in rows] == [int(inner)]
    finally:
        if feed is not None:
            feed.close()
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("uid", [0, 65534])
def test_the_row_of_a_container_with_users_of_its_own_is_of_the_user_out_here(uid: int) -> None:
    python = (uid and shutil.which("python3", path="/usr/bin:/usr/local/bin")) or os.path.realpath(sys.executable)
    sidecar = "import gpumodels, os, time; gpumodels.start(); print('ready', os.geteuid(), flush=True); time.sleep(60)"
    script = f"mount -t tmpfs none /dev/shm && exec {shlex.quote(python)} -c {shlex.quote(sidecar)}"
    child = subprocess.Popen(
        ["unshare", "-U", "-r", "-m", "-p", "-f", "--mount-proc", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={key: value for key, value in os.environ.items() if not key.startswith("GPUMODELS")}
        | {"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
        user=uid,
        group=uid,
        extra_groups=[],
    )
    feed = None
    try:
        assert child.stdout is not None
        if (line := child.stdout.readline()) != "ready 0\n":
            os.killpg(child.pid, signal.SIGKILL)
            pytest.skip(f"no namespace of users here, or this user may not run our Python: {line}{child.communicate()[1][-200:]}")
        (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        feed = SnapshotFeed()
        deadline = time.monotonic() + 25  # containers are searched for every ten seconds
        rows: list[ProcessState] = []
        while not rows and time.monotonic() < deadline:
            rows = [row for row in feed.poll().processes if row.liveness is Liveness.LIVE and row.outer_pid == int(inner)]
            time.sleep(0.05)
        assert [(row.pid, row.user) for row in rows] == [(1, pwd.getpwuid(uid).pw_name)]
    finally:
        if feed is not None:
            feed.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
