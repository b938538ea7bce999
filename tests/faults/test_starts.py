"""Unusual starts: many at once, a second copy of the package, a host that changes its user or closes our descriptors."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest

from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from hosts import Host
from processes import wait_until

Reached = Callable[[str, str], None]
WatchedHost = Callable[..., contextlib.AbstractContextManager[Host]]

ME: Final = os.geteuid()
SOMEBODY: Final = 54_321


def run_host(source: str, directory: Path, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the host to its end, without any error, and return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(source)],
        env={**os.environ, "GPUMODELS_DIR": str(directory), "GPUMODELS_INTERVAL": "0.05", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


LOG: Final = """
import importlib.util, json, logging, os, sys, threading, time
records = []
class Keep(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger("gpumodels").addHandler(Keep())
logging.getLogger("gpumodels").setLevel("INFO")
def threads():
    return sum(thread.name == "gpumodels" for thread in threading.enumerate())
def files():
    return [name for name in os.listdir(os.environ["GPUMODELS_DIR"])]
def has_file():
    return any(name.endswith(".gpm") for name in files())
def until(condition):
    give_up = time.monotonic() + 30
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.005)
    return condition()
"""


def test_many_starts_at_once_are_one(shared_memory: Path, reached: Reached) -> None:
    source = """
    import gpumodels
    barrier = threading.Barrier(24)
    def start():
        barrier.wait()
        gpumodels.start()
    starters = [threading.Thread(target=start) for _ in range(24)]
    for one in starters: one.start()
    for one in starters: one.join()
    until(has_file)
    print(json.dumps({"threads": threads(), "files": files(), "said": sum("already running" in one for one in records)}))
    """
    figures = run_host(LOG + dedent(source), shared_memory)
    assert figures["threads"] == 1
    assert len(figures["files"]) == 1
    assert figures["said"] == 23
    reached("start", "24 start() at once: 1 thread, 1 file")


def test_a_second_copy_of_the_package_stays_off_and_says_so(shared_memory: Path, reached: Reached) -> None:
    source = """
    import gpumodels
    gpumodels.start()
    until(has_file)
    first = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "gpumodels"}
    import gpumodels as second
    assert second is not first["gpumodels"]
    second.start()
    time.sleep(0.2)
    while_both = [threads(), len(files())]
    second.stop()
    still = threads()
    first["gpumodels"].stop()
    second.start()
    time.sleep(0.2)
    print(json.dumps({"both": while_both, "still": still, "after": threads(), "said": records}))
    """
    figures = run_host(LOG + dedent(source), shared_memory)
    assert figures["both"] == [1, 1]
    assert figures["still"] == 1
    assert figures["after"] == 1, "with the first one stopped, the second may start"
    assert sum("another copy" in one for one in figures["said"]) == 1
    reached("start", "second copy: off, says so")


def test_a_start_that_finds_no_thread_leaves_nothing_behind(shared_memory: Path) -> None:
    source = """
    import gpumodels
    import gpumodels.sidecar as module
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    start, module._SidecarThread.start = module._SidecarThread.start, refuse
    hooks = list(sys.meta_path)
    gpumodels.start()
    left = [threads(), files(), sys.meta_path == hooks]
    module._SidecarThread.start = start
    gpumodels.start()
    until(has_file)
    print(json.dumps({"left": left, "then": [threads(), len(files())], "said": records}))
    """
    figures = run_host(LOG + dedent(source), shared_memory)
    assert figures["left"] == [0, [], True]
    assert figures["then"] == [1, 1]
    assert len([one for one in figures["said"] if "can't start new thread" in one]) == 1


def test_a_handler_may_stop_what_is_just_starting(shared_memory: Path) -> None:
    source = """
    import gpumodels, signal
    signal.signal(signal.SIGALRM, lambda *_: gpumodels.stop())
    for delay in range(1, 60):
        signal.setitimer(signal.ITIMER_REAL, delay * 0.0001)
        gpumodels.start()
        signal.setitimer(signal.ITIMER_REAL, 0)
    gpumodels.stop()
    print(json.dumps({"threads": threads()}))
    """
    assert run_host(LOG + dedent(source), shared_memory) == {"threads": 0}


@pytest.mark.skipif(ME != 0, reason="only root can become somebody else")
def test_a_host_that_becomes_another_user_goes_on_among_that_users_files(shared_memory: Path, reached: Reached) -> None:
    shared_memory.chmod(0o1777)
    source = f"""
    from pathlib import Path
    import gpumodels, gpumodels_shared.places
    del os.environ["GPUMODELS_DIR"]
    gpumodels_shared.places.SHARED_MEMORY = place = Path({str(shared_memory)!r})
    gpumodels.start()
    as_root = until(lambda: list((place / "gpumodels-0").glob("*.gpm")))
    os.seteuid({SOMEBODY})  # for a moment only: stays where it is
    time.sleep(0.2)
    for_a_moment = (place / "gpumodels-{SOMEBODY}").exists()
    os.seteuid(0)
    os.setgroups([])
    os.setgid({SOMEBODY})
    os.setuid({SOMEBODY})
    moved = until(lambda: list((place / "gpumodels-{SOMEBODY}").glob("*.gpm")))
    time.sleep(0.2)
    gpumodels.stop()
    warnings = [one for one in records if "cannot" in one or "failed" in one]
    print(json.dumps({{"as_root": len(as_root), "for_a_moment": for_a_moment, "moved": len(moved), "warnings": warnings}}))
    """
    figures = run_host(LOG + dedent(source), shared_memory)
    assert figures == {"as_root": 1, "for_a_moment": False, "moved": 1, "warnings": []}
    (name,) = snapshot_files(shared_memory / f"gpumodels-{SOMEBODY}")
    reader = SnapshotReader(shared_memory / f"gpumodels-{SOMEBODY}" / name, SOMEBODY)
    assert reader.header.uid == SOMEBODY
    assert reader.latest() is not None
    reader.close()
    reached("start", "setuid: on among the new user's files, no warning")


@pytest.mark.skipif(ME != 0, reason="only root can become somebody else")
def test_a_host_that_becomes_another_user_keeps_the_file_it_was_told_to_have(shared_memory: Path) -> None:
    source = f"""
    import gpumodels
    gpumodels.start()
    until(has_file)
    before = files()
    os.setuid({SOMEBODY})
    time.sleep(0.3)
    print(json.dumps({{"before": before, "said": records, "threads": threads()}}))
    """
    figures = run_host(LOG + dedent(source), shared_memory)
    assert snapshot_files(shared_memory) == figures["before"]
    assert figures["said"] == []


def test_a_host_that_closes_every_descriptor_keeps_its_own_and_is_published_again(
    shared_memory: Path, watched_host: WatchedHost, reached: Reached
) -> None:
    with watched_host(shared_memory) as host:
        wait_until(lambda: snapshot_files(shared_memory) != [])
        before = snapshot_files(shared_memory)
        host.tell("os.closerange(3, 1000)")
        host.tell("own = [open(os.devnull) for _ in range(40)]")
        started = time.monotonic()
        wait_until(lambda: snapshot_files(shared_memory) not in ([], before))
        seconds = time.monotonic() - started
        assert len(snapshot_files(shared_memory)) == 1
        host.wait_for_ticks(2)
        host.tell("gpumodels.stop()")
        assert host.tell("[one.read() for one in own] == [''] * 40"), "none of its files was closed"
        assert len(host.tell("records")) <= 1, "a tick may have been in the middle of it"
    reached("start", f"all descriptors closed by the host: published again in {seconds:.1f} s, none of its own closed")
