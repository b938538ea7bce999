"""A writing process that is killed, forked or short of disk: readers can tell from the file, and the process isn't harmed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import struct
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.layout import Heartbeat, WriterState
from gpumodels_shared.liveness import Liveness, Pulse
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import Payload, SnapshotReader
from processes import run_python, running_python, wait_until

ME: Final = os.geteuid()

MAKE_WRITER: Final = """
import os, sys
from pathlib import Path
from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter
directory = Path(sys.argv[1])
writer = SnapshotWriter(directory, this_process(), heartbeat_ms=100)
"""

WRITE_FLAT_OUT: Final = (
    MAKE_WRITER
    + """
import struct
seq = 0
while True:
    seq += 1
    writer.publish(struct.pack("<Q", seq) * (1 + seq * 977 % 20_000))
"""
)


def only_file(directory: Path) -> Path:
    """The one snapshot file in a directory."""
    (name,) = snapshot_files(directory)
    return directory / name


def liveness(reader: SnapshotReader, heartbeat: Heartbeat) -> Liveness:
    """The liveness that a viewer sees that has just been started."""
    return Pulse(reader.header.heartbeat_ms).observe(heartbeat, reader.is_locked(), time.monotonic())


def checked(payload: Payload | None) -> int:
    """The sequence number of a flat-out writer's payload, which must be intact."""
    assert payload is not None
    assert payload.data == struct.pack("<Q", payload.seq) * (len(payload.data) // 8)
    return payload.seq


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_whole_snapshot_and_counts_as_dead(tmp_path: Path) -> None:
    """Forks children instead of starting interpreters, to save time for fifty of them."""
    moments = random.Random(4)
    script = f"""
import signal
directory = sys.argv[1]
for _ in range(50):
    child = os.fork()
    if child == 0:
        exec(compile({WRITE_FLAT_OUT!r}, "writer", "exec"))
    print(child, flush=True)
    sys.stdin.readline()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(flush=True)
    sys.stdin.readline()
"""
    seqs: list[int] = []
    with running_python("import os, sys\n" + script, str(tmp_path)) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(50):
            pid = parent.stdout.readline().strip()
            wait_until(lambda: len(snapshot_files(tmp_path)) == 1)
            reader = SnapshotReader(only_file(tmp_path), ME)
            wait_until(partial(has_come_as_far, reader, moments.randrange(1, 400)))
            print("kill", file=parent.stdin, flush=True)
            parent.stdout.readline()
            reader.close()
            reader = SnapshotReader(only_file(tmp_path), ME)
            assert str(reader.header.pid) == pid
            assert liveness(reader, reader.heartbeat()) is Liveness.DEAD
            seqs.append(checked(reader.latest()))
            reader.close()
            for left in tmp_path.iterdir():
                left.unlink()
            print("next", file=parent.stdin, flush=True)
        assert parent.wait(30) == 0
    print(f"killed 50 times, after {min(seqs)} to {max(seqs)} snapshots: 50 whole, 0 bad")  # noqa: T201
    assert len(set(seqs)) > 10


def has_come_as_far(reader: SnapshotReader, seq: int) -> bool:
    """Whether the writer has published this sequence number, in this file or in the larger one that took its name."""
    if reader.heartbeat().state is not WriterState.SUPERSEDED:
        return reader.heartbeat().last_seq >= seq
    larger = SnapshotReader(reader.path, ME)
    try:
        return larger.heartbeat().last_seq >= seq
    finally:
        larger.close()


@pytest.mark.slow
def test_a_stopped_writer_is_stalled_and_continues_as_live(tmp_path: Path) -> None:
    with running_python(WRITE_FLAT_OUT.replace("writer.publish", "writer.beat() or 1 or writer.publish"), str(tmp_path)) as child:
        wait_until(lambda: len(snapshot_files(tmp_path)) == 1)
        reader = SnapshotReader(only_file(tmp_path), ME)
        pulse = Pulse(reader.header.heartbeat_ms)

        def now() -> Liveness:
            return pulse.observe(reader.heartbeat(), reader.is_locked(), time.monotonic())

        assert now() is Liveness.LIVE
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: now() is Liveness.STALLED, 5)
        child.send_signal(signal.SIGCONT)
        wait_until(lambda: now() is Liveness.LIVE, 5)
        child.kill()
        child.wait()
        assert now() is Liveness.DEAD
        reader.close()


@pytest.mark.slow
def test_a_forked_child_that_abandons_its_parents_file_leaves_file_and_lock_intact(tmp_path: Path) -> None:
    source = (
        MAKE_WRITER
        + """
writer.publish(b"before the fork")
child = os.fork()
if child == 0:
    refused = 0
    for use in (writer.beat, lambda: writer.publish(b"from the child"), lambda: writer.publish(bytes(1 << 20))):
        try:
            use()
        except OSError:
            refused += 1
    writer.close()
    writer.abandon()
    own = SnapshotWriter(directory, this_process(), heartbeat_ms=100)
    own.publish(b"the child's own")
    own.close()
    os._exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
print(child, flush=True)
input()
writer.publish(b"after the fork")
print(flush=True)
input()
"""
    )
    with running_python(source, str(tmp_path)) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        readers = {reader.header.pid: reader for reader in (SnapshotReader(tmp_path / n, ME) for n in snapshot_files(tmp_path))}
        assert set(readers) == {parent.pid, child_pid}
        of_parent, of_child = readers[parent.pid], readers[child_pid]
        assert of_parent.is_locked()
        assert of_parent.heartbeat().state is WriterState.RUNNING
        payload = of_parent.latest()
        assert payload is not None
        assert payload.data == b"before the fork"
        assert liveness(of_child, of_child.heartbeat()) is Liveness.EXITED
        print("on", file=parent.stdin, flush=True)
        parent.stdout.readline()
        payload = of_parent.latest()
        assert payload is not None
        assert (payload.seq, payload.data) == (2, b"after the fork")
        parent.kill()
        parent.wait()
        assert liveness(of_parent, of_parent.heartbeat()) is Liveness.DEAD
        for reader in readers.values():
            reader.close()


@pytest.mark.slow
def test_a_goodbye_frees_the_file_though_a_child_that_knows_nothing_still_holds_it(tmp_path: Path) -> None:
    source = (
        MAKE_WRITER
        + """
ready, stay = os.pipe()
if os.fork() == 0:
    os.close(stay)
    os.read(ready, 1)
    os._exit(0)
writer.close()
print(flush=True)
input()
"""
    )
    with running_python(source, str(tmp_path)) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        reader = SnapshotReader(only_file(tmp_path), ME)
        assert liveness(reader, reader.heartbeat()) is Liveness.EXITED
        reader.close()


@pytest.mark.slow
def test_a_program_that_is_executed_inherits_no_descriptor(tmp_path: Path) -> None:
    source = MAKE_WRITER + "os.execv(sys.executable, [sys.executable, '-c', 'print(flush=True); input()'])"
    with running_python(source, str(tmp_path)) as child:
        assert child.stdout is not None
        child.stdout.readline()
        reader = SnapshotReader(only_file(tmp_path), ME)
        assert liveness(reader, reader.heartbeat()) is Liveness.DEAD
        reader.close()


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: it makes the kernel refuse the same allocation."""
    source = """
import errno, json, os, resource, sys
from pathlib import Path
from gpumodels_shared.identity import this_process
from gpumodels_shared import writer as module
from gpumodels_shared.writer import SnapshotWriter
directory, seen = Path(sys.argv[1]), []

def refused(action):
    before = len(os.listdir("/proc/self/fd"))
    try:
        action()
    except OSError as error:
        seen.append([error.errno, sorted(os.listdir(directory)), len(os.listdir("/proc/self/fd")) - before])

def limit(length):
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, resource.RLIM_INFINITY))

limit(100_000)
refused(lambda: SnapshotWriter(directory, this_process(), heartbeat_ms=100))
limit(resource.RLIM_INFINITY)
writer = SnapshotWriter(directory, this_process(), heartbeat_ms=100)
writer.publish(b"before")
limit(200_000)
refused(lambda: writer.publish(bytes(100_000)))
del os.posix_fallocate  # as on macOS: zeros are written instead
refused(lambda: writer.publish(bytes(100_000)))
writer.publish(b"after")
limit(resource.RLIM_INFINITY)
writer.publish(bytes(100_000))
writer.close()
print(json.dumps(seen))
"""
    done = run_python(source, str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    path = only_file(tmp_path)
    assert json.loads(done.stdout) == [[errno.EFBIG, [], 0], [errno.EFBIG, [path.name], 0], [errno.EFBIG, [path.name], 0]]
    reader = SnapshotReader(path, ME)
    payload = reader.latest()
    assert payload is not None
    assert (payload.seq, payload.data) == (3, bytes(100_000))
    assert path.stat().st_size == reader.header.file_bytes
    reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["RLIMIT_NOFILE", "read-only directory"])
def test_no_descriptors_and_no_permission_are_errors_and_the_old_file_stays_usable(tmp_path: Path, fault: str) -> None:
    if fault == "read-only directory" and ME == 0:
        pytest.skip("root may write anywhere")
    set_fault = {
        "RLIMIT_NOFILE": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))",
        "read-only directory": "directory.chmod(0o500)",
    }[fault]
    source = (
        MAKE_WRITER
        + f"""
writer.publish(b"before")
{set_fault}
try:
    writer.publish(bytes(100_000))
except OSError:
    writer.publish(b"after")
    writer.close()
    print("survived")
"""
    )
    done = run_python(source, str(tmp_path))
    tmp_path.chmod(0o700)
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")
    assert len(os.listdir(tmp_path)) == 1
    reader = SnapshotReader(only_file(tmp_path), ME)
    payload = reader.latest()
    assert payload is not None
    assert (payload.seq, payload.data) == (2, b"after")
    reader.close()


@pytest.mark.slow
def test_what_the_host_process_loads_is_the_standard_library_and_msgpack() -> None:
    source = """
import sys
before = set(sys.modules)
import gpumodels_shared.codec, gpumodels_shared.writer
import gpumodels_shared.cleaning, gpumodels_shared.liveness, gpumodels_shared.units
# Compiled modules make some up as they load: those come from no file.
loaded = [name for name, module in sys.modules.items() if name not in before and getattr(module, "__file__", None)]
print(*{name.partition(".")[0] for name in loaded})
"""
    done = run_python(source)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"gpumodels_shared", "msgpack"} <= loaded
    assert loaded - sys.stdlib_module_names <= {"gpumodels_shared", "msgpack"}
