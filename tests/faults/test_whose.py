"""Which process and user a file belongs to, with reused pids, containers, other users and groups; and who may read it."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared import places
from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.places import RefusedError, chosen_group, snapshot_files
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.feed import FeedState, SnapshotFeed
from hosts import Host, a_host
from processes import run_python, running_python, wait_until
from snapshots import a_model, a_snapshot, published

Reached = Callable[[str, str], None]
WatchedHost = Callable[..., contextlib.AbstractContextManager[Host]]

ME: Final = os.geteuid()
ADA: Final = 54_321
BOB: Final = 54_322
TEAM: Final = 54_400
root_only = pytest.mark.skipif(ME != 0, reason="only root can be several users")


def poll_once(*directories: Path) -> FeedState:
    """What a viewer that has just been started sees in these directories."""
    feed = SnapshotFeed(directories)
    try:
        return feed.poll()
    finally:
        feed.close()


def test_a_reused_pid_is_another_process(shared_memory: Path, reached: Reached) -> None:
    """The writer is dead, a child of it still holds the inherited lock, and the pid now belongs to another process."""
    own = this_process()
    now = published(shared_memory, a_snapshot(a_model("new")), own)
    before = published(
        shared_memory,
        a_snapshot(a_model("old")),
        type(own)(own.pid, own.uid, own.start_ticks - 5, own.pid_namespace, own.boot_id),
    )
    states = {row.snapshot.models[0].name: row.liveness for row in poll_once(shared_memory).processes if row.snapshot}
    assert states == {"new": Liveness.LIVE, "old": Liveness.DEAD}
    now.close()
    before.abandon()
    reached("who", "reused pid: the old one dead, the new one live")


IN_A_NAMESPACE: Final = """
import sys, time
from pathlib import Path
from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_shared.codec import encode
from snapshots import a_model, a_snapshot
identity = this_process()
writer = SnapshotWriter(Path(sys.argv[1]), identity, heartbeat_ms=100)
writer.publish(encode(a_snapshot(a_model(sys.argv[2]))))
print(identity.pid, flush=True)
while True:
    time.sleep(0.05)
    writer.beat()
"""


@contextlib.contextmanager
def in_a_container(directory: Path, name: str) -> Iterator[int]:
    """Start a writer in a PID namespace of its own, and yield its pid there."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", IN_A_NAMESPACE]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[1])]))
    with subprocess.Popen(
        [*command, str(directory), name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        if not first:
            assert child.stderr is not None
            pytest.skip(f"no namespaces here: {child.stderr.read().strip()[:80]}")
        try:
            yield int(first)
        finally:
            child.kill()


def test_two_containers_with_one_pid_are_two_rows(shared_memory: Path, reached: Reached) -> None:
    with in_a_container(shared_memory, "one") as one, in_a_container(shared_memory, "two") as two:
        assert one == two == 1
        rows = poll_once(shared_memory).processes
        assert {row.snapshot.models[0].name for row in rows if row.snapshot} == {"one", "two"}
        assert [row.liveness for row in rows] == [Liveness.LIVE] * 2
        assert [row.pid for row in rows] == [1, 1]
        assert not any(row.is_local for row in rows), "pid 1 here is another process"
        assert len({row.key for row in rows}) == 2
    wait_until(lambda: [row.liveness for row in poll_once(shared_memory).processes] == [Liveness.DEAD] * 2)
    reached("who", "two PID namespaces, both pid 1: two rows, live, then dead")


def test_nobody_else_may_read_what_is_written(shared_memory: Path, watched_host: WatchedHost, reached: Reached) -> None:
    directory = shared_memory / "files"
    for umask in ("0", "0o022", "0o777"):
        with watched_host(directory, f"os.umask({umask})") as host:
            wait_until(lambda: snapshot_files(directory) != [])
            assert directory.stat().st_mode & 0o777 == 0o700
            (name,) = snapshot_files(directory)
            assert (directory / name).stat().st_mode & 0o777 == 0o600
            assert host.tell("records") == []
        (directory / name).unlink()
    reached("private", "directory 0700, files 0600, whatever the umask")


AS_USER: Final = """
import json, os, sys
from pathlib import Path
# Imports come before the user changes, who may not be allowed to read Python's directories.
import gpumodels, gpumodels_shared.places, gpumodels_tui.sources.feed
gpumodels_shared.places.SHARED_MEMORY = Path(sys.argv[1])
os.environ.pop("GPUMODELS_DIR", None)
uid, groups = int(sys.argv[2]), [int(group) for group in sys.argv[3].split(",") if group]
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
"""
"""The start of a process that runs as some user with some groups, and takes another directory for /dev/shm."""

VIEW: Final = (
    AS_USER
    + """
from gpumodels_tui.sources.feed import SnapshotFeed
state = SnapshotFeed([Path(name) for name in sys.argv[4:]] or None).poll()
print(json.dumps([[[row.user, row.snapshot and [model.name for model in row.snapshot.models]] for row in state.processes],
                  [one.reason for one in state.unreadable]]))
"""
)


@pytest.fixture
def everybodys(shared_memory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that stands for /dev/shm: every user may write there."""
    shared_memory.chmod(0o1777)
    monkeypatch.setattr(places, "SHARED_MEMORY", shared_memory)
    monkeypatch.setattr(tempfile, "tempdir", str(shared_memory))
    monkeypatch.delenv("GPUMODELS_DIR", raising=False)
    monkeypatch.delenv("GPUMODELS_GROUP", raising=False)
    return shared_memory


def file_of(everybodys: Path, uid: int, name: str) -> None:
    """Write a snapshot file as that user's sidecar leaves it."""
    directory = everybodys / f"gpumodels-{uid}"
    directory.mkdir(mode=0o700)
    writer = SnapshotWriter(directory, this_process(), 1000)
    writer.publish(encode(a_snapshot(a_model(name))))
    writer.abandon()
    os.chown(writer.path, uid, uid)
    os.chown(directory, uid, uid)


@root_only
def test_roots_viewer_sees_all_users_and_names_them(everybodys: Path, reached: Reached) -> None:
    nobody = pwd.getpwnam("nobody")
    file_of(everybodys, nobody.pw_uid, "of nobody")
    file_of(everybodys, ADA, "of one without a name")
    file_of(everybodys, 0, "of root")
    feed = SnapshotFeed()
    rows = {row.user: row.snapshot.models[0].name for row in feed.poll().processes if row.snapshot}
    feed.close()
    assert rows == {"nobody": "of nobody", str(ADA): "of one without a name", "root": "of root"}
    reached("private", "root's viewer: 3 users, named")


@root_only
def test_another_users_viewer_sees_nothing(everybodys: Path) -> None:
    file_of(everybodys, ADA, "secret")
    everywhere = run_python(VIEW, str(everybodys), str(BOB), "")
    assert (everywhere.returncode, everywhere.stdout.strip()) == (0, "[[], []]")
    asked = run_python(VIEW, str(everybodys), str(BOB), "", str(everybodys / f"gpumodels-{ADA}"))
    assert asked.returncode == 0
    assert "secret" not in asked.stdout
    assert f"belongs to uid {ADA}" in asked.stdout


@root_only
def test_a_group_may_read_where_asked(everybodys: Path, reached: Reached) -> None:
    source = (
        AS_USER
        + """
import gpumodels
gpumodels.start()
print(flush=True)
sys.stdin.read()
"""
    )
    group = {"GPUMODELS_GROUP": str(TEAM), "GPUMODELS_INTERVAL": "0.1"}
    directory = everybodys / f"gpumodels-{ADA}"
    with running_python(source, str(everybodys), str(ADA), str(TEAM), environment=group) as host:
        assert host.stdout is not None
        host.stdout.readline()
        wait_until(lambda: directory.exists() and snapshot_files(directory) != [])
        (name,) = snapshot_files(directory)
        status, of_file = directory.stat(), (directory / name).stat()
        assert (status.st_mode & 0o777, status.st_gid) == (0o750, TEAM)
        assert (of_file.st_mode & 0o777, of_file.st_gid) == (0o640, TEAM)
        member = run_python(VIEW, str(everybodys), str(BOB), str(TEAM), environment=group)
        assert f'[[["{ADA}"' in member.stdout, member
        by_name = run_python(VIEW, str(everybodys), str(BOB), str(TEAM), str(directory))
        assert f'"{ADA}"' in by_name.stdout
        stranger = run_python(VIEW, str(everybodys), str(BOB), "", str(directory), environment=group)
        assert stranger.stdout.startswith("[[], [")
    reached("private", "GPUMODELS_GROUP: 0750 and 0640, a member's viewer sees it, a stranger's doesn't")


def test_a_group_that_is_not_there_or_not_ours_keeps_the_file_private(
    shared_memory: Path, watched_host: WatchedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUMODELS_GROUP", "no-such-group")
    with watched_host(shared_memory) as host:
        host.wait_for_ticks(3)
        (name,) = snapshot_files(shared_memory)
        assert (shared_memory / name).stat().st_mode & 0o777 == 0o600
        (warning,) = host.tell("records")
        assert "no such group" in warning


def test_groups_are_chosen_by_name_or_number() -> None:
    some = grp.getgrall()[0]
    assert chosen_group({"GPUMODELS_GROUP": some.gr_name}) == some.gr_gid
    assert chosen_group({"GPUMODELS_GROUP": "54400"}) == TEAM
    assert chosen_group({"GPUMODELS_GROUP": ""}) is None
    assert chosen_group({}) is None
    with pytest.raises(RefusedError, match="no such group"):
        chosen_group({"GPUMODELS_GROUP": "nobody-s-group"})


def test_files_of_one_host_are_its_own(shared_memory: Path) -> None:
    with a_host(shared_memory, "import gpumodels; gpumodels.start()") as host:
        host.wait_for_ticks(1)
        (row,) = poll_once(shared_memory).processes
        assert (row.pid, row.user, row.is_local) == (host.pid, pwd.getpwuid(ME).pw_name, True)
