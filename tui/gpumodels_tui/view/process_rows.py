"""The processes: what is known of each, with a sidecar or without, and where its memory on each device went."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.sources.gpus import GpuProcess, HardwareState
from gpumodels_tui.view.device_names import Device, devices_named, holds_memory, process_title
from gpumodels_tui.view.memory_parts import MemoryPart, memory_parts

NOT_ATTACHED: Final = "not attached"
LONGEST_COMMAND: Final = 400


class ProcessDevice(Struct, frozen=True):
    """One process on one device."""

    key: str
    """The device's."""
    name: str | None
    """What the process calls it, as it is: `cuda:0`. None without a sidecar."""
    title: str
    """`cuda:0 = GPU 2  NVIDIA H100`: the process's name for it, and the machine's."""
    parts: tuple[MemoryPart, ...]
    total_bytes: int | None
    """Of the device."""


class ProcessRow(Struct, frozen=True):
    """One process."""

    key: str
    """A sidecar's file, or `pid:4711` without one."""
    title: str
    """`ComfyUI/main.py 4711`."""
    pid: int
    user: str
    command: str
    """As a shell would take it; empty where nobody may know. Safe to draw."""
    started_at_ns: int | None
    state: ProcessState | None
    """None without a sidecar."""
    devices: tuple[ProcessDevice, ...]


class UnattachedRow(Struct, frozen=True):
    """A process without a sidecar, on one GPU."""

    key: str
    pid: int
    command: str
    user: str
    used_bytes: int | None
    """As the driver counts; None where it doesn't say."""
    started_at_ns: int | None


def attached_row(
    state: ProcessState,
    named: Mapping[str, Device],
    held: Sequence[tuple[str, str, int]],
    counted: Mapping[str, int | None],
) -> ProcessRow:
    """A process with a sidecar.

    Args:
        state: Its file.
        named: What it calls its devices.
        held: (device key, model key, bytes) of its models.
        counted: Its bytes as the driver counts them, by its name of the device.
    """
    devices = []
    for memory in devices_named(state):
        if (device := named.get(memory.device)) is None:
            continue
        here = ((key, size) for place, key, size in held if place == device.key)
        parts = memory_parts(here, [memory], counted.get(memory.device)) if holds_memory(state) else ()
        name = safe_text(memory.device, 40)
        title = name if device.title.startswith(name) else f"{name} = {device.title}"
        devices.append(ProcessDevice(device.key, memory.device, title, parts, device.total_bytes))
    info = state.snapshot.process if state.snapshot is not None else None
    return ProcessRow(
        key=state.key,
        title=process_title(state),
        pid=state.pid,
        user=safe_text(state.user, 80),
        command=shown_command(info.command) if info is not None else "",
        started_at_ns=None if info is None else info.started_at_ns,
        state=state,
        devices=tuple(devices),
    )


def unattached_rows(processes: Sequence[ProcessState], hardware: HardwareState) -> dict[str, list[UnattachedRow]]:
    """By device key: those on a GPU whose pid no sidecar has, most bytes first."""
    attached = {state.pid for state in processes if state.is_local and holds_memory(state)}
    found: dict[str, list[UnattachedRow]] = {}
    for gpu in hardware.gpus:
        rows = [_unattached(pid, used, hardware.running.get(pid)) for pid, used in gpu.processes.items() if pid not in attached]
        found[f"gpu:{gpu.uuid}"] = sorted(rows, key=lambda row: (-(row.used_bytes or 0), row.pid))
    return found


def without_sidecars(unattached: Mapping[str, Sequence[UnattachedRow]], by_key: Mapping[str, Device]) -> list[ProcessRow]:
    """One row a process, with each GPU that it is on."""
    first: dict[int, UnattachedRow] = {}
    devices: dict[int, list[ProcessDevice]] = {}
    for key, rows in unattached.items():
        for row in rows:
            first.setdefault(row.pid, row)
            parts = memory_parts([], [], row.used_bytes)
            device = by_key[key]
            devices.setdefault(row.pid, []).append(ProcessDevice(key, None, device.title, parts, device.total_bytes))
    return [
        ProcessRow(row.key, f"{row.command} {pid}", pid, row.user, row.command, row.started_at_ns, None, tuple(devices[pid]))
        for pid, row in sorted(first.items())
    ]


def shown_command(command: Sequence[str]) -> str:
    """One line, quoted where a shell needs it; safe to draw."""
    return safe_text(" ".join(map(shlex.quote, command[:200])), LONGEST_COMMAND)


def _unattached(pid: int, used: int | None, process: GpuProcess | None) -> UnattachedRow:
    if process is None:
        return UnattachedRow(f"pid:{pid}", pid, "", "", used, None)
    user = safe_text(process.user or "", 80)
    return UnattachedRow(f"pid:{pid}", pid, shown_command(process.command), user, used, process.started_at_ns)
