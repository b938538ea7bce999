"""The host forks in every possible way: the parent's file stays intact, no child hangs, and no file is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest

from gpumodels_shared.layout import WriterState
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader

Reached = Callable[[str, str], None]

BUSY: Final = """
import ctypes, gc, itertools, json, os, sys, threading, time
import gpumodels
import gpumodels.sidecar as module
from gpumodels_shared.schema import Snapshot

# Each tick has something to say, long or short, so that a fork meets a write as often as can be.
numbers = itertools.count(1)
new_files = False
written = 0
def tick(sidecar):
    global written
    written = number = next(numbers)
    if new_files and number % 3 == 0:
        sidecar._publisher.abandon()  # so that many forks meet a half-made file
    sidecar._publisher.publish(
        Snapshot(taken_at_ns=number, process=sidecar._process, warnings=(str(number),) * (number * 977 % 9000))
    )
    with sidecar.fork_gate.released():
        pass
module.Sidecar._tick = tick
module.SHORTEST_INTERVAL_SECONDS = 0.0

def files_open():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass
    return [one for one in found if one.endswith(".gpm") or ".new-" in one]

def has_file(pid):
    return any(name.startswith(f"{pid}-") for name in os.listdir(os.environ["GPUMODELS_DIR"]))

def ended(pid, seconds=20):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hangs"
"""
"""A host whose sidecar publishes as fast as it can, with functions that check what a child inherited."""


def run_host(source: str, directory: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run the host to its end, without any error, and return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BUSY + dedent(source), *map(str, arguments)],
        env={**os.environ, "GPUMODELS_DIR": str(directory), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=3000,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextlib.contextmanager
def the_file_of(directory: Path, pid: int) -> Iterator[SnapshotReader]:
    """A reader of this process's file, of which there must be exactly one."""
    (name,) = (name for name in snapshot_files(directory) if name.startswith(f"{pid}-"))
    reader = SnapshotReader(directory / name, os.geteuid())
    try:
        yield reader
    finally:
        reader.close()


def strays(directory: Path) -> list[str]:
    """Names of files that are no snapshot files: no writer may leave any."""
    return [name for name in os.listdir(directory) if not name.endswith(".gpm")]


def test_forks_meet_a_writer_at_any_moment(shared_memory: Path, reached: Reached, full: bool) -> None:
    count = 5000 if full else 150
    source = """
    new_files = True
    gpumodels.start(interval=0.0005)
    time.sleep(0.1)
    answers, inherited = {}, 0
    longest = 0.0
    for number in range(int(sys.argv[1])):
        reading, writing = os.pipe()
        while written <= number:
            time.sleep(0.0005)
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            os.write(writing, bytes([len(files_open())]))
            if number % 10 == 0:
                gpumodels.start(interval=0.05)
                until = time.monotonic() + 15
                while not (ok := has_file(os.getpid())) and time.monotonic() < until:
                    time.sleep(0.001)
                gpumodels.stop()
                os._exit(0 if ok else 5)
            os._exit(0)
        longest = max(longest, time.perf_counter() - started)
        os.close(writing)
        answer = str(ended(child))
        inherited += (os.read(reading, 1) or b"\\0")[0]
        os.close(reading)
        answers[answer] = answers.get(answer, 0) + 1
    own, until = f"{os.getpid()}-", time.monotonic() + 10
    # A file that was let go of while a child still held it goes when the next one comes.
    while sum(name.startswith(own) for name in os.listdir(os.environ["GPUMODELS_DIR"])) > 1 and time.monotonic() < until:
        time.sleep(0.001)
    new_files = False
    gpumodels.stop()
    figures = {"answers": answers, "inherited": inherited, "written": written, "longest": longest}
    print(json.dumps({"pid": os.getpid(), **figures}))
    """
    figures = run_host(source, shared_memory, count)
    reached(
        "fork",
        f"os.fork ×{count:,} during {figures['written']:,} writes: {figures['answers'].get('0', 0):,} children ended well, "
        f"{figures['inherited']} held the parent's file, longest fork {figures['longest'] * 1000:.0f} ms",
    )
    assert figures["answers"] == {"0": count}
    assert figures["inherited"] == 0
    assert figures["written"] > count
    assert strays(shared_memory) == []
    with the_file_of(shared_memory, figures["pid"]) as reader:
        assert reader.heartbeat().state is WriterState.EXITED
        assert reader.latest() is not None
        assert not reader.is_locked()


def test_forks_from_c_are_noticed_late_but_well(shared_memory: Path, reached: Reached, full: bool) -> None:
    """Python isn't notified of the fork: the child has all variables of the parent, and no thread.

    The sidecar's thread sleeps at that moment. If it waited for the interpreter lock, as any thread may, the child's interpreter
    would wait for it when it releases the lock: in CPython a fork(2) from C is safe only if nothing but C follows it.
    """
    source = """
    gpumodels.start(interval=0.01)
    time.sleep(0.1)
    # With the interpreter lock kept: the child's only thread holds it.
    fork = ctypes.PyDLL(None).fork
    gate = module._current.fork_gate
    (ours,) = (thread for thread in threading.enumerate() if thread.name == "gpumodels")

    def is_at_rest():
        # Asleep at the gate. The kernel is asked while the interpreter lock is free: a thread that waits for the lock wakes up.
        if not sys._current_frames()[ours.ident].f_code.co_filename.endswith("fork_gate.py"):
            return False
        stat = os.open(f"/proc/self/task/{ours.native_id}/stat", os.O_RDONLY)
        try:
            return b") S " in os.read(stat, 512)
        finally:
            os.close(stat)

    answers = []
    for number in range(12):
        while not gate.close_for_fork():
            pass
        while not is_at_rest():
            time.sleep(0.001)
        started = time.monotonic()
        child = fork()
        if child != 0:
            gate.open_after_fork()
        if child == 0:
            if number % 3 == 0:
                gpumodels.stop()
                os._exit(0)
            if number % 3 == 1:
                gpumodels.start(interval=0.01)
                time.sleep(0.05)
                gpumodels.stop()
                os._exit(0)
            sys.exit(0)  # through atexit
        answers.append([ended(child), time.monotonic() - started])
    alive = any(thread.name == "gpumodels" for thread in threading.enumerate())
    gpumodels.stop()
    print(json.dumps({"pid": os.getpid(), "answers": answers, "alive": alive}))
    """
    figures = run_host(source, shared_memory)
    slowest = max(seconds for _, seconds in figures["answers"])
    reached(
        "fork",
        f"fork from C ×{len(figures['answers'])} (our thread at rest): all children ended well, the slowest in {slowest:.1f} s",
    )
    assert [code for code, _ in figures["answers"]] == [0] * 12
    assert slowest < 1.5 or not full  # `ended` kills what hangs
    assert figures["alive"]
    assert strays(shared_memory) == []
    with the_file_of(shared_memory, figures["pid"]) as reader:
        assert reader.heartbeat().state is WriterState.EXITED
        assert reader.latest() is not None


def test_sixteen_workers_of_a_data_loader(shared_memory: Path, reached: Reached, full: bool) -> None:
    rounds = 10 if full else 1
    source = """
    gpumodels.start(interval=0.0005)
    import torch, warnings
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than this machine has cores
    from torch.utils.data import DataLoader
    total = 0
    for _ in range(int(sys.argv[1])):
        for batch in DataLoader(list(range(64)), batch_size=2, num_workers=16):
            total += int(batch.sum())
    gpumodels.stop()
    print(json.dumps({"pid": os.getpid(), "total": total}))
    """
    started = time.monotonic()
    figures = run_host(source, shared_memory, rounds)
    assert figures["total"] == rounds * sum(range(64))
    assert strays(shared_memory) == []
    assert len(snapshot_files(shared_memory)) == 1
    with the_file_of(shared_memory, figures["pid"]) as reader:
        assert reader.heartbeat().state is WriterState.EXITED
    reached(
        "fork", f"DataLoader ×16 workers, {rounds} round{'s' * (rounds > 1)}: 1 file, {time.monotonic() - started:.0f} s in all"
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(shared_memory: Path, tmp_path: Path, method: str, reached: Reached) -> None:
    """The script starts the sidecar at its top, as `import gpumodels.auto` does: children that import it start their own."""
    script = tmp_path / "train.py"
    script.write_text(
        dedent("""
        import gpumodels.auto
        import json, multiprocessing, os, sys, time

        def work(number):
            time.sleep(0.02)
            return number * 2

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            with context.Pool(3) as pool:
                total = sum(pool.map(work, range(30)))
            print(json.dumps({"pid": os.getpid(), "total": total}))
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), method],
        env={**os.environ, "GPUMODELS_DIR": str(shared_memory), "GPUMODELS_INTERVAL": "0.05"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert figures["total"] == sum(range(30)) * 2
    assert strays(shared_memory) == []
    files = len(snapshot_files(shared_memory))
    if method == "fork":
        assert files == 1
    with the_file_of(shared_memory, figures["pid"]) as reader:
        assert reader.heartbeat().state is WriterState.EXITED
    reached("fork", f"{method}: {files} file{'s' * (files > 1)}, no strays")


def test_a_server_that_loads_first_and_forks_its_workers_then(shared_memory: Path, reached: Reached) -> None:
    """As gunicorn does with `preload_app`: each worker starts a sidecar of its own after the fork; one dies and is replaced."""
    source = """
    gpumodels.start(interval=0.02)
    time.sleep(0.1)

    def worker():
        gpumodels.start(interval=0.02)
        while True:
            time.sleep(0.05)

    def fork_worker():
        child = os.fork()
        if child == 0:
            worker()
        return child

    workers = [fork_worker() for _ in range(4)]
    def have_files(pids):
        until = time.monotonic() + 15
        while time.monotonic() < until:
            if all(map(has_file, pids)):
                return True
            time.sleep(0.01)
        return False
    ok = have_files([os.getpid(), *workers])
    os.kill(workers[0], 9)
    os.waitpid(workers[0], 0)
    workers.append(fork_worker())
    ok = ok and have_files([os.getpid(), *workers])
    for pid in workers[1:]:
        os.kill(pid, 15)
        os.waitpid(pid, 0)
    gpumodels.stop()
    print(json.dumps({"pid": os.getpid(), "ok": ok, "workers": workers}))
    """
    figures = run_host(source, shared_memory)
    assert figures["ok"]
    assert strays(shared_memory) == []
    assert len(snapshot_files(shared_memory)) == 6
    for pid in figures["workers"]:
        with the_file_of(shared_memory, pid) as reader:
            assert not reader.is_locked()
            assert reader.heartbeat().state in (WriterState.STARTING, WriterState.RUNNING)
    with the_file_of(shared_memory, figures["pid"]) as reader:
        assert reader.heartbeat().state is WriterState.EXITED
    reached("fork", "preload, 5 workers: a file each")
