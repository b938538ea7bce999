"""Rows for the processes, with or without a sidecar, and for the parts of their memory on each device."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.sources.gpus import GpuProcess, HardwareState
from gpumodels_tui.view.device_names import Device, Devices, devices_named, holds_memory, process_title
from gpumodels_tui.view.memory_parts import MemoryPart, memory_parts
from gpumodels_tui.view.outside_models import ShownModel, ShownModels
from gpumodels_tui.view.outside_torch import missing_from_device

NOT_ATTACHED: Final = "not attached"
OUTSIDE_CONTAINER: Final = "a process outside this container"
UNNAMED: Final = "a process that the driver does not name"
SHORTER: Final = {OUTSIDE_CONTAINER: "outside container", UNNAMED: "unnamed process"}
"""The same for narrow columns."""
LONGEST_COMMAND: Final = 400
NO_FILES: Final = CatalogueState()


class ProcessDevice(Record):
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
    missing_bytes: int = 0
    """What torch has reserved by its own account, but the driver doesn't count."""


class ProcessRow(Record):
    """One process, with or without a sidecar."""

    key: str
    """The path of the sidecar's file, or `pid:4711` without a sidecar."""
    title: str
    """Label and pid, `ComfyUI/main.py 4711`."""
    pid: int | None
    """None if the driver's number names nobody here."""
    user: str
    command: str
    """Quoted for a shell; empty if it can't be read. Safe to draw."""
    started_at_ns: int | None
    state: ProcessState | None
    """None without a sidecar."""
    devices: tuple[ProcessDevice, ...]
    without_sidecar: UnattachedRow | None = None
    """What is known of it without a sidecar, on the first of its GPUs."""


class UnattachedRow(Record):
    """A process without a sidecar, on one GPU."""

    key: str
    pid: int | None
    """None if the driver's number names nobody here."""
    command: str
    user: str
    used_bytes: int | None
    """As the driver counts; None if it doesn't report them."""
    started_at_ns: int | None
    program: str = ""
    """What runs, in a word, where models are known: `llama-server`. Safe to draw."""
    models: tuple[ShownModel, ...] = ()
    """What is known of its models from outside, the most certain first."""
    unread: str = ""
    """Why its files could not be seen; empty if they could."""
    not_said: str = ""
    """Why its server told nothing although it was asked; empty otherwise. Safe to draw."""


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
        missing = missing_from_device(memory, counted.get(memory.device)) if holds_memory(state) else 0
        devices.append(ProcessDevice(device.key, memory.device, title, parts, device.total_bytes, missing))
    info = state.snapshot.process if state.snapshot is not None else None
    return ProcessRow(
        key=state.key,
        title=process_title(state),
        pid=state.shown_pid,
        user=safe_text(state.user, 80),
        command=shown_command(info.command) if info is not None else "",
        started_at_ns=None if info is None else info.started_at_ns,
        state=state,
        devices=tuple(devices),
    )


def unattached_rows(
    processes: Sequence[ProcessState],
    hardware: HardwareState,
    joined: Devices | None = None,
    catalogue: CatalogueState = NO_FILES,
    shown: ShownModels | None = None,
) -> dict[str, list[UnattachedRow]]:
    """By device key: the processes on a GPU that have no sidecar, most bytes first.

    Args:
        processes: Those with a sidecar.
        hardware: The GPUs with the processes that the driver reports on each.
        joined: Which GPUs the processes mean by their names, as far as that is known.
        catalogue: What is known of model files.
        shown: What was shown before, which is kept.
    """
    shown = ShownModels() if shown is None else shown
    shown.keep(hardware.running)
    attached = {state.driver_pid for state in processes if holds_memory(state)}
    found: dict[str, list[UnattachedRow]] = {}
    for gpu in hardware.gpus:
        key = f"gpu:{gpu.key}"
        rows = [
            _unattached(pid, used, hardware.running.get(pid), catalogue, shown)
            for pid, used in gpu.processes.items()
            if pid not in attached
        ]
        others = [state for state in processes if state.driver_pid not in gpu.processes]
        own = _reserved_on(key, others, joined) if joined is not None and gpu.nameless else []
        words = OUTSIDE_CONTAINER if not hardware.pids_are_ours else UNNAMED
        rows += [_nameless(pid, used, words) for pid, used in _not_of(own, gpu.nameless)]
        found[key] = sorted(rows, key=lambda row: (-(row.used_bytes or 0), row.pid or 0, row.key))
    return found


def _reserved_on(key: str, processes: Sequence[ProcessState], joined: Devices) -> list[int]:
    """What each process with a sidecar that isn't known to the driver by its pid holds on this GPU, by its own account."""
    held: list[int] = []
    for state in processes:
        if holds_memory(state) and state.snapshot is not None:
            sizes = [
                memory.reserved_bytes or memory.allocated_bytes or memory.models_bytes
                for memory in state.snapshot.devices
                if joined.keys.get((state.key, memory.device)) == key
            ]
            held += [sum(sizes)] if sum(sizes) else []
    return sorted(held, reverse=True)


def _not_of(own: Sequence[int], nameless: Mapping[int, int | None]) -> list[tuple[int, int | None]]:
    """Those of the driver's nameless processes that are certainly none of the `own`, whose bytes stand in rows of their own.

    The driver lists every process on the GPU, those with a sidecar included, with at least the bytes that their allocators
    reserved. So as many of its entries are left out as there are such processes: for each the smallest that it fits into.
    """
    left = sorted(nameless.items(), key=lambda one: (one[1] is None, one[1] or 0, one[0]))
    for size in own:
        fitting = next((one for one in left if one[1] is not None and one[1] >= size), None)
        fitting = fitting or next((one for one in left if one[1] is None), None)
        if fitting is not None:
            left.remove(fitting)
    return left


def without_sidecars(unattached: Mapping[str, Sequence[UnattachedRow]], by_key: Mapping[str, Device]) -> list[ProcessRow]:
    """One row per process, with all GPUs that it is on."""
    first: dict[str, UnattachedRow] = {}
    devices: dict[str, list[ProcessDevice]] = {}
    for key, rows in unattached.items():
        for row in rows:
            first.setdefault(row.key, row)
            parts = memory_parts([], [], row.used_bytes)
            device = by_key[key]
            devices.setdefault(row.key, []).append(ProcessDevice(key, None, device.title, parts, device.total_bytes))
    return [
        ProcessRow(
            key,
            row.command if row.pid is None else f"{row.command} {row.pid}",
            row.pid,
            row.user,
            row.command,
            row.started_at_ns,
            None,
            tuple(devices[key]),
            row,
        )
        for key, row in sorted(first.items(), key=lambda one: (one[1].pid is None, one[1].pid or 0, one[0]))
    ]


def shown_command(command: Sequence[str]) -> str:
    """The command in one line, quoted for a shell; safe to draw."""
    return safe_text(" ".join(map(shlex.quote, command[:200])), LONGEST_COMMAND)


def _unattached(
    pid: int, used: int | None, process: GpuProcess | None, catalogue: CatalogueState, shown: ShownModels
) -> UnattachedRow:
    if process is None:
        return UnattachedRow(f"pid:{pid}", pid, "", "", used, None)
    user = safe_text(process.user or "", 80)
    outside = process.outside
    models = shown.of(pid, outside, catalogue)
    return UnattachedRow(
        f"pid:{pid}",
        pid,
        shown_command(process.command),
        user,
        used,
        process.started_at_ns,
        _program(process.command) if models else "",
        models,
        safe_text(outside.unread, 200),
        safe_text(outside.not_said, 200),
    )


@lru_cache(maxsize=256)
def _program(command: tuple[str, ...]) -> str:
    from gpumodels_tui.outside.arguments import program_of  # not needed where every process has a sidecar

    return safe_text(program_of(command), 80)


def _nameless(number: int, used: int | None, words: str) -> UnattachedRow:
    """A process of which nothing is known but its bytes. The driver's number tells it from others, and is shown to nobody."""
    return UnattachedRow(f"nameless:{number}", None, words, "", used, None)
