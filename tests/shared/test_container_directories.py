"""Directories of sidecars inside other mount namespaces, which the test makes where it may."""

from __future__ import annotations

import os
import shlex
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
from gpumodels_tui.sources.feed import ProcessState, SnapshotFeed

MADE = "mount -t tmpfs none /dev/shm && mkdir -m 700 /dev/shm/gpumodels-0"


@contextmanager
def container(commands: str) -> Iterator[int]:
    """A process in a mount namespace of its own that has run these commands; its pid."""
    child = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f"{commands} && echo ready && exec sleep 60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
        deadline = time.monotonic() + 10
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
