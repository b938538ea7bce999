"""The identity of the process that wrote a file, for which a pid alone is not enough."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from gpumodels_shared.identity import NO_ID, boot_id, pid_namespace, start_ticks, started_at_seconds, this_process
from processes import running_python

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def test_this_process_knows_itself() -> None:
    identity = this_process()
    assert (identity.pid, identity.uid) == (os.getpid(), os.geteuid())
    assert this_process() == identity


@linux_only
def test_on_linux_every_part_of_the_identity_is_known() -> None:
    identity = this_process()
    assert identity.start_ticks > 0
    assert identity.pid_namespace == Path("/proc/self/ns/pid").stat().st_ino
    assert len(identity.boot_id) == 16
    assert identity.boot_id != NO_ID
    assert (boot_id(), pid_namespace()) == (identity.boot_id, identity.pid_namespace)


@linux_only
def test_there_are_no_start_ticks_of_an_unused_pid() -> None:
    assert start_ticks(2**30) is None
    assert started_at_seconds(2**30) is None


@linux_only
@pytest.mark.parametrize("name", [b"a b (c) d", b") S 1 1 1 1", b"((((", b")))) 0 0"])
def test_a_commands_name_full_of_parentheses_and_spaces_does_not_move_the_fields(name: bytes) -> None:
    comm = Path("/proc/self/comm")
    ticks, before = start_ticks(os.getpid()), comm.read_bytes()
    # The main thread's name is the process's; a thread of pytest's own might run this test.
    named = Path(f"/proc/self/task/{os.getpid()}/comm")
    try:
        named.write_bytes(name)
        assert f"({name.decode()}) " in Path(f"/proc/{os.getpid()}/stat").read_text()
        assert start_ticks(os.getpid()) == ticks
    finally:
        named.write_bytes(before.strip())


@linux_only
@pytest.mark.slow
def test_a_later_process_has_other_start_ticks_and_started_just_now() -> None:
    with running_python("print(flush=True); input()") as child:
        assert child.stdout is not None
        child.stdout.readline()
        theirs, ours = start_ticks(child.pid), start_ticks(os.getpid())
        assert theirs is not None
        assert ours is not None
        assert theirs > ours
        started = started_at_seconds(child.pid)
        assert started is not None
        assert abs(time.time() - started) < 30
