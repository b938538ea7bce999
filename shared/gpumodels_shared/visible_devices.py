"""Which GPUs a process means by torch's numbers, as far as CUDA_VISIBLE_DEVICES of the process says so."""

from __future__ import annotations

from typing import Final

from gpumodels_shared.schema import DeviceMemory, ProcessInfo

_UUID_CHARACTERS: Final = 36


def visible_entries(info: ProcessInfo) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES up to the first invalid one, as CUDA reads it; None if it isn't set."""
    if info.visible_devices is None:
        return None
    entries: list[str] = []
    for entry in (part.strip() for part in info.visible_devices.split(",")):
        if not (entry.isdecimal() or entry.startswith(("GPU-", "MIG-"))):
            break
        entries.append(entry)
    return entries


def visible_uuid(info: ProcessInfo, number: int) -> str | None:
    """The UUID, or its beginning, of the process's device of this number, if CUDA_VISIBLE_DEVICES gives one."""
    entries = visible_entries(info)
    if entries is None or number >= len(entries) or entries[number].isdecimal():
        return None
    return entries[number]


def normal_uuid(uuid: str) -> str:
    """The UUID in NVML's form: torch leaves out the prefix `GPU-`."""
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def stated_uuid(info: ProcessInfo, memory: DeviceMemory) -> str | None:
    """The UUID of the GPU that this device is, in NVML's form, as far as the process itself says it."""
    if memory.simulated:
        return memory.uuid
    if memory.uuid:
        return normal_uuid(memory.uuid)
    kind, _, number = memory.device.partition(":")
    if kind != "cuda" or not number.isdecimal() or len(number) > 5:
        return None
    entry = visible_uuid(info, int(number))
    return entry if entry is not None and len(entry.partition("-")[2]) == _UUID_CHARACTERS else None
