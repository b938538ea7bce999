"""The table of faults: each test reports the figure that it reached, and all are printed beside their targets at the end.

Short forms run by default; `GPUMODELS_FAULTS=full` (`make faults`) runs the full counts, each row also alone.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hosts import Host, a_host
from processes import wait_until

FULL: Final = os.environ.get("GPUMODELS_FAULTS") == "full"

ROWS: Final = {
    "kill": ("kill -9 the writer at random points", "0 bad accepts; a valid snapshot every time"),
    "flat out": ("flat-out writer, 8 readers, 256 KiB", "0 bad accepts, 0 backward sequence, read p99 ≤ 100 µs"),
    "fuzz": ("bit flips at every header byte; fuzzed files", "0 crashes, 0 hangs, RSS < 350 MB"),
    "pulled away": ("truncated to 0, extended, replaced, removed during reads", "reader survives all, says why"),
    "no room": (
        "full tmpfs, RLIMIT_FSIZE, EMFILE, read-only file system, missing or removed directory",
        "host unaffected, one warning, heals within 2 ticks",
    ),
    "outgrown": ("payload outgrows its slot under reads", "no reader misses more than one tick"),
    "crowd": ("64 writers at 2 Hz; 1,000 dead files beside 10 live ones", "found in ≤ 200 ms; no live file ever removed"),
    "who": ("PID reuse; two containers with the same pid", "never the wrong process; two rows"),
    "clock": ("wall clock ±1 year; suspend", "never falsely dead"),
    "stopped": ("SIGSTOP; GIL held", "its age after 3 beats, stalled within 10, live again within 1"),
    "fork": (
        "os.fork during a write, fork from C, DataLoader ×16 workers, spawn and forkserver, preloading servers",
        "parent's file intact, no deadlock, no stray files",
    ),
    "exit": (
        "exec, sys.exit, os._exit, unhandled exception, interpreter shutdown, daemon threads, start/stop ×1,000",
        "no hang, no traceback on stderr, exit code unchanged",
    ),
    "traps": (
        "symlink, hard link, FIFO, device, 10 GiB sparse file, wrong uid, writable directory, a swapper racing",
        "0 followed, nobody waits",
    ),
    "bombs": (
        "msgpack bombs, 100,000-deep nesting, ext types, invalid UTF-8, wrong types, negative sizes, absurd counts",
        "rejected with a reason ≤ 50 ms",
    ),
    "golden": ("golden files of each schema version ever released", "all decode, or say which viewer they need"),
    "cost": ("publish cost, 256 KiB, in memory and on a disk", "p99 ≤ 2 ms"),
    "private": ("paths and command lines", "read by nobody else unless asked; root's viewer names all users"),
    "start": ("concurrent start(), a second copy, another uid after start, descriptors closed by the host", "one file, no harm"),
}
"""By the key that tests use, the fault and its target, in the table's order."""

Reached = Callable[[str, str], None]

_figures: dict[str, list[str]] = {}


@pytest.fixture
def reached() -> Reached:
    """A function that adds a figure to a row of the table; several tests may add to one row."""

    def add(row: str, figure: str) -> None:
        assert row in ROWS
        _figures.setdefault(row, []).append(figure)

    return add


@pytest.fixture
def full() -> bool:
    """Whether the full counts were asked for."""
    return FULL


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The full counts take minutes."""
    here = Path(__file__).parent
    for item in items:
        if FULL and here in item.path.parents:
            item.add_marker(pytest.mark.timeout(3600))


def pytest_unconfigure(config: pytest.Config) -> None:
    """The table, as it stands in docs/faults.md, after all else."""
    if not _figures:
        return
    out = config.get_terminal_writer()
    out.line()
    out.line(f"Faults, {'full' if FULL else 'short'} counts, {os.cpu_count()} cores, Python {platform.python_version()}:")
    out.line()
    out.line("| fault | target | reached |")
    out.line("|---|---|---|")
    for row, (fault, target) in ROWS.items():
        if row in _figures:
            out.line(f"| {fault} | {target} | {'; '.join(_figures[row])} |")


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    """A private directory where sidecars' files usually are: in memory."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place, prefix="gpumodels-faults-") as directory:
        yield Path(directory)


WatchedHost = Callable[..., contextlib.AbstractContextManager[Host]]


@pytest.fixture
def watched_host(tmp_path: Path) -> WatchedHost:
    """A host whose standard error, log and own work are checked: none may suffer from what happens to the sidecar.

    In the host, `records` holds the sidecar's log lines of level warning and above, `published` whether each attempt to publish
    left a good file, and `work` counts up in a thread of its own.
    """

    @contextlib.contextmanager
    def host(directory: Path, setup: str = "", start: str = "gpumodels.start()") -> Iterator[Host]:
        errors = tmp_path / f"stderr-{len(list(tmp_path.iterdir()))}"
        with a_host(directory, _WATCH.replace("ERRORS", repr(str(errors))) + setup + "\n" + start) as started:
            yield started
            before = started.tell("work")
            wait_until(lambda: bool(started.tell("work") > before))
            assert started.close() == 0
        assert errors.read_text() == ""

    return host


_WATCH: Final = """
import os, sys, time, logging, resource, threading
import gpumodels
import gpumodels.publishing.publisher
os.dup2(os.open(ERRORS, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), 2)
records = []
class Keep(logging.Handler):
    def emit(self, record):
        records.append(record.getMessage())
logging.getLogger("gpumodels").addHandler(Keep(logging.WARNING))
published = []
publish = gpumodels.publishing.publisher.Publisher.publish
def publish_and_tell(publisher, snapshot):
    publish(publisher, snapshot)
    writer = publisher._writer
    published.append(writer is not None and writer.still_named() and not publisher._has_warned)
gpumodels.publishing.publisher.Publisher.publish = publish_and_tell
work = 0
def count_up():
    global work
    while True:
        work += 1
        time.sleep(0.005)
threading.Thread(target=count_up, daemon=True).start()
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a file system in memory with these options. Skips the test if mounting isn't allowed."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"mounted-{len(places)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("may not mount")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
