"""Identifies a process beyond its pid, which may be reused: by start time, PID namespace and boot."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

NO_ID = bytes(16)


class ProcessIdentity(NamedTuple):
    """What identifies a process. A field that the platform doesn't provide is 0, or zeros."""

    pid: int
    uid: int
    start_ticks: int
    """/proc/<pid>/stat field 22: clock ticks between boot and the process's start."""
    pid_namespace: int
    """The inode of its PID namespace."""
    boot_id: bytes
    """See the function `boot_id`."""


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    pid = os.getpid()
    return ProcessIdentity(pid, os.geteuid(), start_ticks(pid) or 0, pid_namespace(), boot_id())


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None if there is no such process, or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name may hold spaces and parentheses; fields are counted from its last one.
    fields = stat[stat.rfind(b")") + 2 :].split()
    return int(fields[19]) if len(fields) > 19 else None


def pid_namespace() -> int:
    """The inode of this process's PID namespace; 0 if the platform has none."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def boot_id() -> bytes:
    """16 bytes that differ from boot to boot; zeros if the platform provides none."""
    try:
        found = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return NO_ID
    return found if len(found) == len(NO_ID) else NO_ID


def started_at_seconds(pid: int) -> float | None:
    """When the process started, in seconds since the epoch; None if the platform doesn't tell."""
    ticks = start_ticks(pid)
    if ticks is None or not sys.platform.startswith("linux"):
        return None
    try:
        for line in Path("/proc/stat").read_text().splitlines():
            if line.startswith("btime "):
                return int(line.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    return None
