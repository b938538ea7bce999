"""Rows for the processes, with or without a sidecar, and for the parts of their memory on each device."""

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
    """The device's key."""
    name: str | None
    """The process's name for it, unchanged: `cuda:0`. None without a sidecar."""
    title: str
    """`cuda:0 = GPU 2  NVIDIA H100`: the process's name for it, and the machine's."""
    parts: tuple[MemoryPart, ...]
    total_bytes: int | None
    """The device's total memory."""


class ProcessRow(Struct, frozen=True):
    """One process, with or without a sidecar."""

    key: str
    """The path of the sidecar's file, or `pid:4711` without a sidecar."""
    title: str
    """Label and pid, `ComfyUI/main.py 4711`."""
    pid: int
    user: str
    command: str
    """Quoted for a shell; empty if it can't be read. Safe to draw."""
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
    """As the driver counts; None if it doesn't report them."""
    started_at_ns: int | None


def attached_row(
    state: ProcessState,
    named: Mapping[str, Device],
    held: Sequence[tuple[str, str, int]],
    counted: Mapping[str, int | None],
) -> ProcessRow:
    """The row of a process with a sidecar.

    Args:
        state: The sidecar's file.
        named: The devices by the process's names for them.
        held: (device key, model key, bytes) of its models.
        counted: The process's bytes as the driver counts them, by the process's name for the device.
    """
    devices = []
    for memory in devices_named(state):
        if (device := named.get(memory.device)) is None:
            continue
        models = ((key, size) for device_key, key, size in held if device_key == device.key)
        parts = memory_parts(models, [memory], counted.get(memory.device)) if holds_memory(state) else ()
        name = safe_text(memory.device, 40)
        title = name if f"{device.title} ".startswith(f"{name} ") else f"{name} = {device.title}"
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
    """By device key: the processes on a GPU that have no sidecar, most bytes first."""
    attached = {state.pid for state in processes if state.is_local and holds_memory(state)}
    found: dict[str, list[UnattachedRow]] = {}
    for gpu in hardware.gpus:
        rows = [_unattached(pid, used, hardware.running.get(pid)) for pid, used in gpu.processes.items() if pid not in attached]
        found[f"gpu:{gpu.uuid}"] = sorted(rows, key=lambda row: (-(row.used_bytes or 0), row.pid))
    return found


def without_sidecars(unattached: Mapping[str, Sequence[UnattachedRow]], by_key: Mapping[str, Device]) -> list[ProcessRow]:
    """One row per process, with all GPUs that it is on."""
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
    """The command in one line, quoted for a shell; safe to draw."""
    return safe_text(" ".join(map(shlex.quote, command[:200])), LONGEST_COMMAND)


def _unattached(pid: int, used: int | None, process: GpuProcess | None) -> UnattachedRow:
    if process is None:
        return UnattachedRow(f"pid:{pid}", pid, "", "", used, None)
    user = safe_text(process.user or "", 80)
    return UnattachedRow(f"pid:{pid}", pid, shown_command(process.command), user, used, process.started_at_ns)
