"""What a pid means here: NVIDIA's driver names processes by the numbers of the first PID namespace, the machine's own."""

from __future__ import annotations

import contextlib
import os
import time
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


class PidsInside:
    """Which processes that are seen here have another pid in a namespace of their own. They are listed again after a while."""

    kept_seconds = 2.0

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._listed_at = float("-inf")
        self._by_inner: dict[int, list[int]] = {}

    def from_outside(self, header: Header) -> int | None:
        """The pid here of a process that runs in a container and writes this file; None if it can't be known.

        The kernel tells both numbers to the namespaces outside, as `NSpid` in `/proc/<pid>/status`, outermost first.
        """
        if header.boot_id == NO_ID or header.boot_id != boot_id():
            return None
        now = time.monotonic()
        if now - self._listed_at > self.kept_seconds:
            self._listed_at, self._by_inner = now, self._list()
        found = [pid for pid in self._by_inner.get(header.pid, ()) if self._is_writer(pid, header)]
        return found[0] if len(found) == 1 else None

    def _list(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        with contextlib.suppress(OSError):
            for name in os.listdir(self._proc):
                if name.isdecimal() and (inner := self._innermost_pid(name)) is not None:
                    found.setdefault(inner, []).append(int(name))
        return found

    def _is_writer(self, pid: int, header: Header) -> bool:
        """Whether this process, seen from outside, is the one that the header names from inside."""
        with contextlib.suppress(OSError):  # of other users' processes, the namespace may not be asked for
            return (self._proc / str(pid) / "ns" / "pid").stat().st_ino == header.pid_namespace
        return bool(header.start_ticks) and start_ticks(pid) == header.start_ticks

    def _innermost_pid(self, name: str) -> int | None:
        """The process's pid in its own namespace; None for a process of the first namespace, and for one that is gone."""
        try:
            with open(self._proc / name / "status", "rb") as status:
                _, _, line = status.read().partition(b"\nNSpid:")
        except OSError:
            return None
        numbers = line.partition(b"\n")[0].split()
        return int(numbers[-1]) if len(numbers) > 1 else None


PIDS_INSIDE: Final = PidsInside()


def pid_from_outside(header: Header) -> int | None:
    """See `PidsInside.from_outside`, of this machine."""
    return PIDS_INSIDE.from_outside(header)
