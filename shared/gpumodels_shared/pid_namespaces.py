"""What a pid means here: NVIDIA's driver names processes by the numbers of the first PID namespace, the machine's own."""

from __future__ import annotations

import contextlib
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


_this_boot = cache(boot_id)


def pid_from_outside(header: Header, inode: int, proc: Path = PROC) -> int | None:
    """The pid here of a process that runs in a container and holds the lock of its file; None if it can't be known.

    `/proc/locks` tells who holds a lock by the number that the holder has for who asks. That it is the writer is checked: the
    kernel tells the numbers of all namespaces as `NSpid` in `/proc/<pid>/status`, the outermost first.

    Args:
        header: of the file.
        inode: the file's.
        proc: where the kernel tells of processes.
    """
    if header.boot_id == NO_ID or header.boot_id != _this_boot():
        return None
    found = [pid for pid in _lock_holders(inode, proc) if _is_writer(pid, header, proc)]
    return found[0] if len(found) == 1 else None


def _lock_holders(inode: int, proc: Path) -> list[int]:
    """Who locks files of this number, on whichever file system."""
    try:
        with open(f"{proc}/locks", "rb") as locks:
            text = locks.read()
    except OSError:
        return []
    number = b":%d " % inode
    if number not in text:
        return []
    fields = [line.split() for line in text.splitlines() if number in line]
    return list({int(pid) for _, kind, _, access, pid, *_ in fields if (kind, access) == (b"FLOCK", b"WRITE")})


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
        status = (proc / str(pid) / "status").read_bytes()
    except OSError:
        return None
    numbers = status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return int(numbers[-1]) if len(numbers) > 1 else None
