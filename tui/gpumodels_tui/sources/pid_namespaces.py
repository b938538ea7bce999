"""What a pid means here: NVIDIA's driver names processes by the numbers of the first PID namespace, the machine's own."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path
from typing import Final

from gpumodels_shared.identity import NO_ID, boot_id, pid_namespace, start_ticks
from gpumodels_shared.layout import Header

FIRST_NAMESPACE: Final = 0xEFFFFFFC
"""`PROC_PID_INIT_INO` of Linux: the inode of the first PID namespace, `pid:[4026531836]`, since version 3.8."""

PROC: Final = Path("/proc")


@cache
def sees_all_pids() -> bool:
    """Whether this process is in the first PID namespace, as far as the platform has any; a container usually isn't."""
    return pid_namespace() in (FIRST_NAMESPACE, 0)


def pid_from_outside(header: Header, proc: Path = PROC) -> int | None:
    """The pid here of a process that runs in a container and writes this file; None if it can't be known.

    The kernel tells both numbers to the namespaces outside, as `NSpid` in `/proc/<pid>/status`, outermost first.
    """
    if header.boot_id == NO_ID or header.boot_id != boot_id():
        return None
    found = [pid for pid in _all_pids(proc) if _is_writer(pid, header, proc)]
    return found[0] if len(found) == 1 else None


def _all_pids(proc: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc) if name.isdecimal()]
    except OSError:
        return []


def _is_writer(pid: int, header: Header, proc: Path) -> bool:
    """Whether this process, seen from outside, is the one that the header names from inside."""
    if _innermost_pid(pid, proc) != header.pid:
        return False
    with contextlib.suppress(OSError):  # of other users' processes, the namespace may not be asked for
        return (proc / str(pid) / "ns" / "pid").stat().st_ino == header.pid_namespace
    return bool(header.start_ticks) and start_ticks(pid) == header.start_ticks


def _innermost_pid(pid: int, proc: Path) -> int | None:
    """The process's pid in its own namespace; None for a process of the first namespace, and for one that is gone."""
    try:
        with open(proc / str(pid) / "status", "rb") as status:
            numbers = next((line.split()[1:] for line in status if line.startswith(b"NSpid:")), [])
    except OSError:
        return None
    return int(numbers[-1]) if len(numbers) > 1 else None
