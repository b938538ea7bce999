"""However the host ends, it ends as it would without the sidecar: with the same exit code and output, and no later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest

from gpumodels_shared.liveness import Liveness, Pulse
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader

Reached = Callable[[str, str], None]

PRELUDE: Final = """
import atexit, os, signal, sys, threading, time
{sidecar}
time.sleep(0.12)
"""

PUBLISHED: Final = """
import gpumodels; gpumodels.start()
from pathlib import Path
from gpumodels_shared.reader import SnapshotReader
def is_published():
    for path in Path(os.environ["GPUMODELS_DIR"]).glob("*.gpm"):
        reader = SnapshotReader(path, os.geteuid())
        payload = reader.latest()
        reader.close()
        return payload is not None
while not is_published():
    time.sleep(0.005)
"""
"""The start of a host's program, which waits until its first snapshot can be read."""

ENDINGS: Final = {
    "falls off its end": "print('done')",
    "sys.exit(7)": "sys.exit(7)",
    "sys.exit with a message": "sys.exit('no more')",
    "os._exit": "os._exit(3)",
    "unhandled exception": "raise ValueError('its own')",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)",
    "SIGTERM handled by sys.exit": "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); os.kill(os.getpid(), signal.SIGTERM)",
    "SIGTERM waited for": """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGTERM)
            print(signal.sigwait([signal.SIGTERM]))
    """,
    "abort": "os.abort()",
    "exec": "os.execv(sys.executable, [sys.executable, '-c', 'print(1)'])",
    "daemon threads at work": """
        for _ in range(4):
            threading.Thread(target=lambda: sum(iter(lambda: 1, 2)), daemon=True).start()
        print('out')
    """,
    "a thread outlives main": "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    "a thread raises": """
        def fail():
            sys.exit(5)
        threading.Thread(target=fail).start()
    """,
    "atexit raises": """
        def fail():
            raise RuntimeError('at exit')
        atexit.register(fail)
    """,
    "atexit forks": """
        def fork():
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        atexit.register(fork)
    """,
    "a child exits through atexit": """
        child = os.fork()
        if child == 0:
            sys.exit(6)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """,
    "standard streams closed": "sys.stdout.close(); sys.stderr.close(); os.close(0)",
}

BUSY_SIDECAR: Final = """
import gpumodels.sidecar as module
module.Sidecar._tick = lambda sidecar: time.sleep(600)
"""


def ending(source: str, directory: Path, sidecar: str) -> tuple[int, str, str, float]:
    """Run a host to its end: exit code, standard output, standard error, and seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE.format(sidecar=sidecar) + dedent(source)],
        env={**os.environ, "GPUMODELS_DIR": str(directory), "GPUMODELS_INTERVAL": "0.05"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - started


def test_endings_are_the_hosts_own(shared_memory: Path, reached: Reached, full: bool) -> None:
    latest = 0.0
    start = "import gpumodels; gpumodels.start()"
    with ThreadPoolExecutor(3) as pool:
        without_sidecar = pool.map(partial(ending, directory=shared_memory, sidecar=""), ENDINGS.values())
        with_sidecar = pool.map(partial(ending, directory=shared_memory, sidecar=start), ENDINGS.values())
    for name, without, with_it in zip(ENDINGS, without_sidecar, with_sidecar, strict=True):
        assert lines_as_given(with_it[:3]) == lines_as_given(without[:3]), name
        later = with_it[3] - without[3]
        if later > 1:  # the machine may have been busy; a host that is held up is so each time
            later = ending(ENDINGS[name], shared_memory, start)[3] - without[3]
        latest = max(latest, later)
        assert later < 2 or not full, name
    reached("exit", f"{len(ENDINGS)} ways to end: same exit code, output and errors; {latest:.1f} s later at most")
    assert [name for name in os.listdir(shared_memory) if not name.endswith(".gpm")] == []


def lines_as_given(outcome: tuple[object, ...]) -> list[str]:
    """The outcome as text, without addresses of threads, which differ; line numbers are the same with a sidecar and without."""
    return [str(part).partition(" at 0x")[0] for part in outcome]


def test_a_tick_that_takes_for_ever_does_not_keep_the_host(shared_memory: Path, reached: Reached, full: bool) -> None:
    code, output, errors, seconds = ending(
        "print('done')", shared_memory, BUSY_SIDECAR + "import gpumodels; gpumodels.start(interval=0.05)"
    )
    reached("exit", f"in the middle of a tick of ten minutes: {seconds:.1f} s in all")
    assert (code, output, errors) == (0, "done\n", "")
    assert seconds < 4 or not full  # `ending` waits for half a minute, not for ten


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("print('done')", Liveness.EXITED),
        ("os._exit(3)", Liveness.DEAD),
        ("sys.exit(1)", Liveness.EXITED),
        ("exec", Liveness.DEAD),
    ],
)
def test_the_file_says_how_it_ended(shared_memory: Path, source: str, expected: Liveness) -> None:
    ending(ENDINGS.get(source, source), shared_memory, PUBLISHED)
    (name,) = snapshot_files(shared_memory)
    reader = SnapshotReader(shared_memory / name, os.geteuid())
    assert Pulse(50).observe(reader.heartbeat(), reader.is_locked(), time.monotonic()) is expected
    assert reader.latest() is not None
    reader.close()


def test_starting_and_stopping_a_thousand_times_leaves_nothing_behind(shared_memory: Path, reached: Reached, full: bool) -> None:
    rounds = 1000 if full else 100
    source = """
    import gc, json, resource
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    def measure():
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd")), resident(), len(gc.get_objects())
    def once(number):
        gpumodels.start(interval=0.05)
        if number % 2:
            time.sleep(0.002)
        gpumodels.stop()
    for number in range(20):
        once(number)
    before = measure()
    for number in range(ROUNDS):
        once(number)
    after = measure()
    print(json.dumps([before, after, len(os.listdir(os.environ["GPUMODELS_DIR"]))]))
    """.replace("ROUNDS", str(rounds))
    code, output, errors, _ = ending(source, shared_memory, "import gpumodels")
    assert (code, errors) == (0, "")
    before, after, files = json.loads(output)
    grown = (after[2] - before[2]) / 1024
    reached(
        "exit",
        f"start/stop ×{rounds:,}: {after[0] - before[0]} threads, {after[1] - before[1]} descriptors, "
        f"{after[3] - before[3]} objects, {grown:.0f} kB more; {files} file",
    )
    assert after[:2] == before[:2]
    assert after[3] - before[3] < 50
    assert grown < 1500
    assert files == 1
