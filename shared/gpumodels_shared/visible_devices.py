"""Which GPUs a process means by torch's numbers, as far as CUDA_VISIBLE_DEVICES of the process says so."""

from __future__ import annotations

import re
from typing import Final

from gpumodels_shared.schema import DeviceMemory, ProcessInfo

_UUID_CHARACTERS: Final = 36
_MAX_DIGITS: Final = 5
UNKNOWN_CHOICE: Final = "?"
"""For CUDA_VISIBLE_DEVICES, where a process changed it when CUDA may have read it already: no device is certain."""


def visible_entries(info: ProcessInfo) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES up to the first invalid one, as CUDA reads it; None if it isn't set.

    Numbers are written as CUDA takes them: `1` for ` +01` and for `1st`. Numbers and UUIDs do not mix.
    """
    if info.visible_devices is None:
        return None
    entries: list[str] = []
    for part in info.visible_devices.split(","):
        number, text = _number_in(part.strip()), part.strip()
        if number is None and not text.startswith(("GPU-", "MIG-")):
            break
        if entries and entries[0].isdecimal() != (number is not None):
            break
        entry = text if number is None else number
        if entry in entries:
            return []  # CUDA takes none of a list that has one twice
        entries.append(entry)
    return entries


def _number_in(text: str) -> str | None:
    """The number with which an entry begins; what follows it doesn't matter. None for hexadecimal ones, and those too long."""
    found = re.match(r"\+?0*(\d+)", text, re.ASCII)
    if found is None or len(found[1]) > _MAX_DIGITS or text.lstrip("+").lower().startswith("0x"):
        return None
    return found[1]


def is_rocm(info: ProcessInfo) -> bool:
    """Whether torch's `cuda` devices are AMD's in this process."""
    return info.platform == "hip" or (info.platform is None and "+rocm" in (info.torch_version or ""))


def is_cuda(info: ProcessInfo) -> bool:
    """Whether they are certainly NVIDIA's."""
    return info.platform == "cuda" or (info.platform is None and "+cu" in (info.torch_version or ""))


def rocm_selectors(info: ProcessInfo) -> list[list[str]] | None:
    """What chooses among ROCm's GPUs, one list after the other, as the runtime reads them; None if it isn't certain which do.

    The lower runtime (ROCR) leaves only those of ROCR_VISIBLE_DEVICES, and HIP then numbers those anew, and leaves only those of
    HIP_VISIBLE_DEVICES, for which it also takes CUDA_VISIBLE_DEVICES.
    """
    if info.device_choice.get("GPU_DEVICE_ORDINAL"):
        return None
    lower = info.device_choice.get("ROCR_VISIBLE_DEVICES")
    upper = {said for said in (info.device_choice.get("HIP_VISIBLE_DEVICES"), info.visible_devices) if said is not None}
    if len(upper) > 1:
        return None
    found: list[list[str]] = []
    for said in (lower, *upper):
        if said is not None:
            entries = [part.strip() for part in said.split(",")]
            valid = [entry for entry in entries if entry.isdecimal() or entry.startswith("GPU-")]
            if valid != entries or len(set(valid)) != len(valid):
                return None  # what the runtimes make of the others differs between versions
            found.append(entries)
    return found


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
    if is_rocm(info) or kind != "cuda" or not number.isdecimal() or len(number) > 5:
        return None
    entry = visible_uuid(info, int(number))
    return entry if entry is not None and len(entry.partition("-")[2]) == _UUID_CHARACTERS else None
