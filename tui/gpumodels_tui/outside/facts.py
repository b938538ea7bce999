"""What is known of the models of a process without a sidecar, each with how it is known; immutable, for any thread."""

from __future__ import annotations

from enum import Enum

from gpumodels_shared.records import Record


class KnownBy(Enum):
    """How a model of a process is known from outside; what is more certain stands first."""

    MAPPED = "mapped"
    OPEN = "open"
    SERVER = "server"
    ARGUMENT = "argument"


class OutsideModel(Record):
    """One model: the files of one checkpoint, or what an argument or a server says."""

    known_by: KnownBy
    files: tuple[str, ...] = ()
    """The paths by which the process knows them; of a deleted file the last one. Not safe to draw."""
    stated: tuple[str, ...] = ()
    """What an argument or a server calls it, or what a store that names files by their content does. Not safe to draw."""
    said_by: str = ""
    """The argument (`--model`), or the server (`llama.cpp at 127.0.0.1:8080`)."""
    file_bytes: int | None = None
    """The size of its files together."""
    mapped_bytes: int = 0
    """How much of them is mapped: addresses, which need not be in memory, and say nothing of any GPU."""
    is_deleted: bool = False
    """Some of its files are gone from the disk while the process still has them."""
    is_here: bool = False
    """Its paths lead to the same files for the viewer: not so in a container, where another file may have that path."""


class OutsideFacts(Record):
    """All that is known of one process."""

    models: tuple[OutsideModel, ...] = ()
    """The most certain first; of those that are known alike, the largest."""
    unread: str = ""
    """Why its files could not be seen; empty if they could."""
    not_said: str = ""
    """Why its server told nothing although it was asked; empty otherwise."""


NOTHING: OutsideFacts = OutsideFacts()
"""What is known before anybody looked."""


class Wanted(Record):
    """A process to be looked at."""

    pid: int
    command: tuple[str, ...]
    used_bytes: int | None
    """What the driver counts of it on all GPUs: when this changes, it may have loaded something."""
