"""Processes above a process: servers start workers that are on the GPU, and keep the port and the arguments themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

MOST_ABOVE: Final = 3
MOST_COMMAND_BYTES: Final = 64 * 1024


def is_worker(command: Sequence[str]) -> bool:
    """Whether the command says that another process started this one as a part of itself, and nothing of its own model.

    So do the titles of vLLM and SGLang (`VLLM::EngineCore`, `sglang::scheduler`), and multiprocessing's commands.
    """
    words = " ".join(command[:8])
    return "::" in words.partition(" ")[0] or "multiprocessing.spawn" in words or "multiprocessing.forkserver" in words


def parents_of(pid: int, proc: str = "/proc") -> Iterator[tuple[int, tuple[str, ...]]]:
    """(pid, command) of the process's parent, of its parent, and so on; those in its PID namespace at most."""
    for _ in range(MOST_ABOVE):
        parent = _parent(pid, proc)
        if parent is None or parent <= 1:
            return
        yield parent, command_of(parent, proc)
        pid = parent


def command_of(pid: int, proc: str = "/proc") -> tuple[str, ...]:
    """The arguments of a process; empty if it has none or has ended."""
    words = _read(f"{proc}/{pid}/cmdline", MOST_COMMAND_BYTES).rstrip(b"\0").split(b"\0")
    return tuple(os.fsdecode(word) for word in words) if words != [b""] else ()


def _parent(pid: int, proc: str) -> int | None:
    stat = _read(f"{proc}/{pid}/stat", 4096)
    fields = stat[stat.rfind(b")") + 2 :].split()
    return int(fields[1]) if len(fields) > 1 else None


def _read(path: str, most_bytes: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(most_bytes) or b""
    except OSError:
        return b""
