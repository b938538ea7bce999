"""Why a process has no sidecar: only what the kernel says for certain, the rest stays open."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

from gpumodels_shared.identity import started_at_seconds
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.places import SHARED_MEMORY, default_directory
from gpumodels_tui.doctor.findings import Finding, passed, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.user_names import user_name

MOST_BYTES: Final = 8 * 1024 * 1024
"""Of a file in /proc that is read."""
CLOCK_SECONDS: Final = 2.0
"""More than the error of a process's start: the kernel tells its own start in full seconds."""
START: Final = "Start one by `import gpumodels; gpumodels.start()` in it, or by `python -m gpumodels run script.py`."
_LIBRARY: Final = re.compile(rb"(/[^\n]*?)/torch/lib/libtorch[^/\n]*\.so", re.ASCII)


def why_without(pid: int, machine: Machine) -> Finding | None:
    """The first reason that holds; None if the process has ended."""
    place = machine.proc / str(pid)
    try:
        uid = place.stat().st_uid
        status = (place / "status").read_bytes()
    except OSError:
        return None
    name = f"{_program(place)} {pid}"
    if uid != machine.uid and machine.uid != 0:
        return warned(
            f"{name} is {user_name(uid)}'s, whose snapshots you may not read",
            "Run this as that user or as root, or share by GPUMODELS_GROUP.",
        )
    maps = _read(place / "maps")
    if maps is not None and not _is_python(place, maps):
        return passed(f"{name} is no Python process that could have a sidecar")
    if _was_stopped(pid, machine):
        return warned(f"{name} had a sidecar, which was stopped", "Call `gpumodels.start()` again in it.")
    environment = _environment(place)
    if environment.get("GPUMODELS") == "0":
        return warned(f"{name} was started with GPUMODELS=0, which keeps the sidecar off", "Restart it without that.")
    if len(_numbers(status)) > 1 or _has_other_shared_memory(place):
        own = machine.own_directory
        return warned(
            f"{name} runs in a container, whose files aren't read here",
            f"Share the directory with it (`-v {own}:{own} -e GPUMODELS_DIR={own}`), and start a sidecar in it.",
        )
    stated = environment.get("GPUMODELS_DIR", "")
    directory = Path(stated) if stated else default_directory({}, uid)
    if directory.is_absolute() and directory not in machine.directories and (stated or directory.exists()):
        because = f"was started with GPUMODELS_DIR={stated}" if stated else f"writes to {directory}, if it has a sidecar"
        return warned(f"{name} {because}, which isn't read here", f"Run: gpumodels-tui --dir {directory}")
    if maps is None:
        return warned(f"{name} has no sidecar, and may not be asked why", START)
    library = _LIBRARY.search(maps)
    if library is None:
        return passed(f"{name} has no torch loaded, so a sidecar would see no models")
    return _of_its_environment(pid, name, Path(os.fsdecode(library[1])), environment.get("PYTHONPATH", ""))


def _of_its_environment(pid: int, name: str, packages: Path, path: str) -> Finding:
    """Whether gpumodels is where its torch is, and since when."""
    installed = next(packages.glob("gpumodels-*.dist-info"), None)
    folders = [packages, *(Path(folder) for folder in path.split(os.pathsep) if folder.startswith("/"))]
    if installed is None and not any((folder / "gpumodels").is_dir() for folder in folders):
        return warned(
            f"{name} has started no sidecar, and gpumodels isn't installed beside its torch, in {packages}",
            "Install it there by that environment's pip, and restart the process with it.",
        )
    started = started_at_seconds(pid)
    if installed is not None and started is not None and started + CLOCK_SECONDS < installed.stat().st_mtime <= time.time():
        return warned(f"{name} was started before gpumodels was installed beside its torch", "Restart it, with a sidecar in it.")
    return warned(f"{name} has started no sidecar", START)


def _was_stopped(pid: int, machine: Machine) -> bool:
    """Whether one of its files says that it has ended, while the process still runs."""
    ticks = _start_ticks(machine.proc / str(pid))
    return any(
        one.liveness is Liveness.EXITED and one.driver_pid == pid and one.path.name.startswith(f"{pid}-{ticks}-")
        for one in machine.feed.processes
    )


def _has_other_shared_memory(place: Path) -> bool:
    """Whether its /dev/shm is another file system than the one here, as in a container that shares the PID namespace."""
    try:
        return (place / "root" / "dev" / "shm").stat().st_dev != SHARED_MEMORY.stat().st_dev
    except OSError:
        return False  # unknown


def _start_ticks(place: Path) -> int | None:
    stat = _read(place / "stat") or b""
    fields = stat[stat.rfind(b")") + 2 :].split()
    return int(fields[19]) if len(fields) > 19 else None


def _program(place: Path) -> str:
    """The name of what runs, without its arguments: those of Python say which script it is."""
    words = [os.fsdecode(word) for word in (_read(place / "cmdline") or b"").split(b"\0")]
    if not words[0]:
        return os.fsdecode((_read(place / "comm") or b"process").strip())
    names = [Path(word).name for word in words[:3]]
    if not names[0].startswith(("python", "pypy")) or len(names) < 2:
        return names[0]
    return f"python -m {names[2]}" if words[1] == "-m" and len(names) > 2 else names[0] if words[1].startswith("-") else names[1]


def _is_python(place: Path, maps: bytes) -> bool:
    """Whether it runs Python's interpreter, as far as its program's name or a library of its tells."""
    try:
        program = (place / "exe").readlink().name
    except OSError:
        return True  # unknown
    return program.startswith(("python", "pypy")) or b"libpython" in maps or b"/torch/lib/" in maps or b"/lib-dynload/" in maps


def _numbers(status: bytes) -> list[bytes]:
    """Its numbers in all PID namespaces, the outermost first."""
    return status.partition(b"\nNSpid:")[2].partition(b"\n")[0].split()


def _environment(place: Path) -> dict[str, str]:
    """What it was started with; empty if that may not be read."""
    entries = (os.fsdecode(entry).partition("=") for entry in (_read(place / "environ") or b"").split(b"\0"))
    return {name: value for name, equals, value in entries if equals}


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return None
