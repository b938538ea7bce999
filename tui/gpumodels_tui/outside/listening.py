"""The ports on which a process listens for this machine itself, as the kernel tells: which server is whose is no guess."""

from __future__ import annotations

import os
from typing import Final

MOST_DESCRIPTORS: Final = 8192
MOST_TABLE_BYTES: Final = 4 * 1024**2
LISTENING: Final = b"0A"
TABLES: Final = ("tcp6", "tcp")
LOOPBACK: Final = (b"0100007F", b"00000000", b"0" * 32, b"00000000000000000000000001000000")
"""127.0.0.1, any address, and the same of IPv6, as /proc/net/tcp writes them on little-endian machines."""


def ports_of(pid: int, proc: str = "/proc") -> tuple[int, ...]:
    """The ports on which it listens and that 127.0.0.1 or ::1 leads to, in order; empty where that may not be known.

    A process in another network namespace, as in a container, has none: what listens on its port here is another one.
    """
    try:
        its, ours = os.stat(f"{proc}/{pid}/ns/net"), os.stat(f"{proc}/self/ns/net")
        if (its.st_dev, its.st_ino) != (ours.st_dev, ours.st_ino):
            return ()
        sockets = _sockets(f"{proc}/{pid}/fd")
    except OSError:
        return ()
    if not sockets:
        return ()
    listening = {fields[9]: _port_of(fields) for table in TABLES for fields in _listeners(f"{proc}/{pid}/net/{table}")}
    return tuple(sorted({listening[inode] for inode in sockets & listening.keys()}))


def is_of_owner(port: int, pid: int, proc: str = "/proc") -> bool:
    """Whether what listens on this port here is certainly its owner's, and the process isn't in a container.

    For processes of others, of which the kernel tells neither sockets nor network: whose a listening socket is, it tells all.
    """
    try:
        with open(f"{proc}/{pid}/status", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file.read(16_384).splitlines() if b":" in line)
        uid = lines[b"Uid"].split()[0]
    except (OSError, KeyError, IndexError):
        return False
    owners = {fields[7] for table in TABLES for fields in _listeners(f"{proc}/self/net/{table}") if _port_of(fields) == port}
    return len(lines.get(b"NSpid", b"").split()) <= 1 and owners == {uid}


def _sockets(directory: str) -> set[bytes]:
    """The inodes of its sockets."""
    found: set[bytes] = set()
    with os.scandir(directory) as listed:
        for _, entry in zip(range(MOST_DESCRIPTORS), listed, strict=False):
            try:
                text = os.readlink(os.fsencode(entry.path))  # noqa: PTH115  # as bytes, of thousands
            except OSError:
                continue
            if text.startswith(b"socket:["):
                found.add(text[8:-1])
    return found


def _listeners(table: str) -> list[list[bytes]]:
    """The fields of each socket that listens for this machine: 1 is the address, 7 its owner, 9 its inode."""
    try:
        with open(table, "rb") as file:
            lines = file.read(MOST_TABLE_BYTES).splitlines()[1:]
    except OSError:
        return []
    found = [line.split() for line in lines]
    return [fields for fields in found if len(fields) > 9 and fields[3] == LISTENING and fields[1].partition(b":")[0] in LOOPBACK]


def _port_of(fields: list[bytes]) -> int:
    return int(fields[1].partition(b":")[2], 16)
