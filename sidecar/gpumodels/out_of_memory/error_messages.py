"""What the message of a failed allocation tells: how much was asked for, on which device, and what was there.

The wordings of torch 2.1 to 2.14 for CUDA, ROCm, XPU and MPS, of its allocator for host memory, of NumPy, and of the CUDA runtime
are known. A message that isn't known tells nothing.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gpumodels.support.never_pickled import never_pickled

MAX_LENGTH: Final = 2000
"""Nothing is searched for behind this many characters."""
_UNITS: Final = {
    "bytes": 1,
    "B": 1,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "KB": 2**10,
    "MB": 2**20,
    "GB": 2**30,
}
_SIZE: Final = r"([0-9]+(?:\.[0-9]+)?) ?(bytes|B|[KMGT]iB|[KMG]B)\b"
_KINDS: Final = {"CUDA": "cuda", "HIP": "cuda", "XPU": "xpu", "NPU": "npu", "MPS": "mps"}
"""torch calls ROCm's devices `cuda`, too."""
_ON_DEVICE: Final = re.compile(r"\b(CUDA|HIP|XPU|NPU|MPS)\b[a-z ]* out of memory\b|\b(CUDA|HIP) error: out of memory\b")
_ALLOC_FAILED: Final = re.compile(r"\b(?:CU|HIP|ROC)[A-Z]*_STATUS_ALLOC_FAILED\b")
_IN_HOST: Final = re.compile(
    r"can't allocate memory: you tried to allocate|\bUnable to allocate\b|\bnot enough memory: you tried"
)
_INDEX: Final = re.compile(r"\b(?:GPU|NPU) ([0-9]{1,3})\b")
_REQUESTED: Final = re.compile(r"\b(?:[Tt]ried to|Unable to) allocate " + _SIZE)
_TOTAL: Final = (re.compile(r"\bcapaci?ty of " + _SIZE), re.compile(_SIZE + r" total capacity"))
_FREE: Final = (re.compile(r"\bof which " + _SIZE + r" is free"), re.compile(_SIZE + r" free;"))
_ALLOCATED: Final = (re.compile(_SIZE + r" is allocated by PyTorch"), re.compile(_SIZE + r" already allocated"))
_UNALLOCATED: Final = re.compile(_SIZE + r" is reserved by PyTorch but unallocated")
_RESERVED: Final = re.compile(_SIZE + r" reserved in total by PyTorch")


@never_pickled
class Told(NamedTuple):
    """What a message tells. What it doesn't is None."""

    message: str
    """Its first line."""
    device: str | None
    """torch's name; without an index where the message names none; `cpu` for host memory."""
    requested_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    free_bytes: int | None = None
    total_bytes: int | None = None


def read_message(text: str, is_memory_error: bool) -> Told | None:
    """What the message tells; None if it is of another kind of error.

    Args:
        text: the message.
        is_memory_error: whether the exception's class says already that memory ran out.
    """
    text = text[:MAX_LENGTH]
    device = _device(text)
    if device is None and not is_memory_error:
        return None
    allocated = _first(text, *_ALLOCATED)
    unallocated = _first(text, _UNALLOCATED)
    kept = allocated + unallocated if allocated is not None and unallocated is not None else None
    return Told(
        message=text.strip().partition("\n")[0],
        device=device,
        requested_bytes=_first(text, _REQUESTED),
        allocated_bytes=allocated,
        reserved_bytes=kept if kept is not None else _first(text, _RESERVED),
        free_bytes=_first(text, *_FREE),
        total_bytes=_first(text, *_TOTAL),
    )


def _device(text: str) -> str | None:
    found = _ON_DEVICE.search(text)
    if found is not None:
        kind = _KINDS[found[1] or found[2]]
        index = _INDEX.search(text)
        return f"{kind}:{int(index[1])}" if index is not None else kind
    if _ALLOC_FAILED.search(text):
        return "cuda"
    return "cpu" if _IN_HOST.search(text) else None


def _first(text: str, *patterns: re.Pattern[str]) -> int | None:
    for pattern in patterns:
        if (found := pattern.search(text)) is not None:
            return round(float(found[1]) * _UNITS[found[2]])
    return None
