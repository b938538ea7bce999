"""Finds running ComfyUI servers in /proc, and whether they have a sidecar."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumodels_shared.identity import start_ticks
from gpumodels_shared.layout import LayoutError, WriterState
from gpumodels_shared.places import default_directory, snapshot_files
from gpumodels_shared.reader import SnapshotReader

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A process that runs ComfyUI's main.py."""

    pid: int
    folders: tuple[Path, ...]
    """Of its main.py, and its base directory if it was given one; links resolved."""
    python: Path | None
    """As it was called, so that a virtual environment's is not mistaken for the one that it was made from."""
    has_sidecar: bool | None
    """None where its files may not be read."""


def running_servers(folder: Path, proc: Path = PROC) -> list[RunningServer] | None:
    """The servers of this ComfyUI folder or base directory that may be looked at; None where the system has no /proc."""
    if not (proc / "self").exists():
        return None
    servers = {server.pid: server for server in _servers(proc) if folder.resolve() in server.folders}
    return [server for pid, server in sorted(servers.items()) if _parent(proc / str(pid)) not in servers]


def _servers(proc: Path) -> Iterator[RunningServer]:
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another user's
            arguments = [os.fsdecode(part) for part in (process / "cmdline").read_bytes().split(b"\0")][:-1]
            script = next((number for number, part in enumerate(arguments) if Path(part).name == "main.py"), 0)
            if not script:
                continue
            directory = (process / "cwd").readlink()
            folders = [(directory / arguments[script]).parent]
            folders += [directory / given for given in _base_directories(arguments[script:])]
            environment = _environment(process)
            yield RunningServer(
                int(process.name),
                tuple(one.resolve() for one in folders),
                _python(arguments[0], directory, environment),
                _has_sidecar(process, environment),
            )


def _base_directories(arguments: list[str]) -> Iterator[str]:
    for number, part in enumerate(arguments):
        option, _, value = part.partition("=")
        if option == "--base-directory":
            yield value or next(iter(arguments[number + 1 :]), "")


def _environment(process: Path) -> Mapping[str, str]:
    pairs = [os.fsdecode(pair).partition("=") for pair in (process / "environ").read_bytes().split(b"\0")]
    return {name: value for name, _, value in pairs if name}


def _python(called: str, directory: Path, environment: Mapping[str, str]) -> Path | None:
    if "/" in called:
        return directory / called
    found = shutil.which(called, path=environment.get("PATH", ""))
    return directory / found if found is not None else None


def _has_sidecar(process: Path, environment: Mapping[str, str]) -> bool | None:
    uid = process.stat().st_uid
    directory = default_directory(environment, uid)
    pid = int(process.name)
    try:
        names = [name for name in snapshot_files(directory) if name.startswith(f"{pid}-{start_ticks(pid) or 0}-")]
    except FileNotFoundError:
        return False
    except OSError:
        return None
    for name in names:
        with suppress(OSError, LayoutError), closing(SnapshotReader(directory / name, uid)) as reader:
            if reader.heartbeat().state in (WriterState.STARTING, WriterState.RUNNING):
                return True
    return False


def _parent(process: Path) -> int:
    """A forked worker has the command line of the server that it was forked from."""
    try:
        status = (process / "stat").read_bytes()
    except OSError:
        return 0
    return int(status[status.rfind(b")") + 2 :].split()[1])
