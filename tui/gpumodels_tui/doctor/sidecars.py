"""Checks of the sidecars themselves: whether there are any, their versions, how they are doing, and what they run in."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Final

from gpumodels_shared.layout import MAJOR, MINOR, LayoutError
from gpumodels_shared.live_processes import processes
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.units import format_age
from gpumodels_tui.doctor.directories import NEEDS_NEWER
from gpumodels_tui.doctor.findings import Finding, failed, passed, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.packages import own_version
from gpumodels_tui.sources.feed import ProcessState

START: Final = "Start one by `import gpumodels; gpumodels.start()` in a process, or by `python -m gpumodels run script.py`."
OLDEST_PYTHON: Final = (3, 10)
OLDEST_TORCH: Final = (2, 1)
ALIVE: Final = (Liveness.LIVE, Liveness.STALLED)


def running(machine: Machine) -> Iterator[Finding]:
    """Whether there is any."""
    alive = [process for process in machine.feed.processes if process.liveness in ALIVE]
    for process in alive:
        models = 0 if process.snapshot is None else len(process.snapshot.models)
        yield passed(f"{called(process)}: {models} {'model' if models == 1 else 'models'}")
    if not alive:
        ended = len(machine.feed.processes)
        ends = f"no sidecar runs; {ended} {'has' if ended == 1 else 'have'} ended"
        yield warned(ends if ended else "no sidecar runs", START)


def version(machine: Machine) -> Iterator[Finding]:
    """Whether each is of this version."""
    own = own_version()
    for process in _alive(machine):
        theirs = process.snapshot.process.sidecar_version if process.snapshot is not None else None
        if theirs is None:
            yield passed(f"{called(process)} has published nothing yet")
        elif theirs == own:
            yield passed(f"{called(process)} has {theirs}")
        else:
            yield warned(
                f"{called(process)} has gpumodels {theirs}, this is {own}",
                "Install the same version in both environments, and restart the process.",
            )
    if not _alive(machine):
        yield passed(f"no sidecar to compare with; this is {own}")


def file_format(machine: Machine) -> Iterator[Finding]:
    """Whether this version can read all that they write."""
    newer = [one for one in machine.feed.unreadable if NEEDS_NEWER in one.reason]
    for one in newer:
        yield failed(f"{one.path.name}: {one.reason}", "Run: pip install --upgrade 'gpumodels[tui]'")
    for process, minor in _minors(machine):
        if minor > MINOR:
            yield warned(
                f"{called(process)} writes format {MAJOR}.{minor}, of which this version knows what {MAJOR}.{MINOR} has",
                "Run: pip install --upgrade 'gpumodels[tui]'",
            )
    if not newer:
        yield passed(f"this version reads format {MAJOR}.{MINOR} and older")


def health(machine: Machine) -> Iterator[Finding]:
    """Whether they could read and write everything."""
    good = 0
    for process in _alive(machine):
        troubles = list(_troubles(process))
        yield from troubles
        good += not troubles
    if good:
        yield passed(f"{good} {'sidecar reports' if good == 1 else 'sidecars report'} no error")
    elif not _alive(machine):
        yield passed("no sidecar to ask")


def alive(machine: Machine) -> Iterator[Finding]:
    """Whether those that exist give signs of life."""
    now_ns = time.time_ns()
    found = processes(machine.directories, include_ended=True)
    for process in found:
        shown = process.label if process.pid is None else f"{process.label} {process.pid}"
        if process.state == "stalled":
            last = "" if process.snapshot_at_ns is None else f"; its last snapshot is {_age(now_ns, process.snapshot_at_ns)} old"
            yield warned(
                f"{shown} gave no sign of life for ten of its intervals{last}",
                "See whether it is stopped or swapped out, or whether something holds its interpreter (`py-spy dump --pid`).",
            )
    dead = sum(process.state == "dead" for process in found)
    lively = sum(process.state == "live" for process in found)
    killed = f"; {dead} ended without saying so, as when they are killed" if dead else ""
    yield passed(f"{lively} {'gives' if lively == 1 else 'give'} signs of life{killed}")


def torch(machine: Machine) -> Iterator[Finding]:
    """Which Python and which torch each has."""
    for process in _alive(machine):
        if process.snapshot is None:
            continue
        info = process.snapshot.process
        runs = f"torch {info.torch_version}" if info.torch_version else "no torch so far"
        shown = f"{called(process)}: Python {info.python_version}, {runs}"
        if _number(info.python_version) < OLDEST_PYTHON:
            yield warned(f"{shown}, which is older than 3.10", "Run it with a newer Python.")
        elif info.torch_version and _number(info.torch_version) < OLDEST_TORCH:
            yield warned(f"{shown}, which is older than 2.1", "Run it with a newer torch.")
        else:
            yield passed(shown)
    if not any(process.snapshot is not None for process in _alive(machine)):
        yield passed("no sidecar to ask")


def called(process: ProcessState) -> str:
    """`ComfyUI/main.py 4711`."""
    label = process.snapshot.process.label if process.snapshot is not None else "process"
    return f"{label} {process.shown_pid}"


def _alive(machine: Machine) -> list[ProcessState]:
    return [process for process in machine.feed.processes if process.liveness in ALIVE]


def _minors(machine: Machine) -> Iterator[tuple[ProcessState, int]]:
    for process in _alive(machine):
        try:
            reader = SnapshotReader(process.path, process.path.parent.stat().st_uid)
        except (LayoutError, OSError):
            continue
        reader.close()
        yield process, reader.header.minor


def _troubles(process: ProcessState) -> Iterator[Finding]:
    try:
        reader = SnapshotReader(process.path, process.path.parent.stat().st_uid)
        try:
            heartbeat = reader.heartbeat()
        finally:
            reader.close()
    except (LayoutError, OSError) as error:
        yield warned(f"{called(process)}: its file can't be read ({error})", "Run this again; if it stays, restart the process.")
        return
    if heartbeat.last_errno:
        yield failed(
            f"{called(process)} can't write its snapshots ({os.strerror(heartbeat.last_errno).lower()}); "
            f"{heartbeat.dropped} were dropped",
            "Make room in its directory (`directory.room`), or set GPUMODELS_DIR and restart it.",
        )
    if process.problem is not None:
        yield warned(f"{called(process)}: {process.problem}", "Run this again; if it stays, restart the process.")
    if process.snapshot is None:
        return
    failures = process.snapshot.health.failures
    if failures:
        yield warned(
            f"{called(process)} counts {failures} {'error' if failures == 1 else 'errors'}, such as tensors that can't be read",
            'Read what its logger "gpumodels" says, which tells each kind once.',
        )
    for text in process.snapshot.warnings:
        yield warned(f"{called(process)}: {text}", 'Read what its logger "gpumodels" says.')


def _age(now_ns: int, then_ns: int) -> str:
    return format_age((now_ns - then_ns) / 1e9)


def _number(version: str) -> tuple[int, ...]:
    """`2.13.0+cu130` as (2, 13)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
