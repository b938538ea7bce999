"""What a caching allocator keeps, by its own list of blocks: what `empty_cache()` would return, and what private pools hold.

Torch makes that list from host memory, under the lock under which its counters are read; no driver is asked. It holds the
interpreter for some microseconds per block, so that it is made only when a viewer asks, and not if there are too many blocks.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from gpumodels.support.accelerators import ASKING_THE_DRIVER, initialised_module
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import cuda_allocator, history_is_recorded

MOST_BLOCKS: Final = 20_000
SMALL_PAGE: Final = 2 * 1024**2
LARGE_PAGE: Final = 20 * 1024**2
"""Expandable segments give memory back in pages of these sizes, of the pools for small and for large blocks."""
DEFAULT_POOL: Final = (0, 0)
INACTIVE: Final = "inactive"
ALLOCATED: Final = "active_allocated"
SLOW_SYMBOLS: Final = "TORCH_SYMBOLIZE_MODE"
"""If set, naming recorded frames of C++ may take long, or run other programs."""
WORKSPACES: Final = (8_519_680, 32 * 1024**2)
"""Bytes of cuBLAS's workspace by default: of Hopper and newer the second (`getChosenWorkspaceSize` in torch's CUDABlas.cpp)."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Block:
    """Memory that is in use."""

    address: int
    size_bytes: int
    made_at: str | None
    """`load (app.py:88)`: the innermost function outside of torch, where its history was recorded."""


@never_pickled
@dataclass(slots=True)
class AllocatorState:
    """What one device's allocator keeps."""

    returnable_bytes: int = 0
    """What `empty_cache()` would return to the driver: whole segments in which nothing is in use."""
    split_bytes: int = 0
    """Free parts of segments of which other parts are in use."""
    waiting_bytes: int = 0
    """Freed, but a stream may still use it."""
    pools: set[tuple[int, ...]] = field(default_factory=set)
    """Private pools, of CUDA graphs or of `MemPool`; nothing of these is in the figures above."""
    pools_reserved_bytes: int = 0
    pools_allocated_bytes: int = 0
    blocks: list[Block] = field(default_factory=list)
    """Those in use, by address."""
    is_exact: bool = True
    """Whether it is by the list of blocks; else by counters, which don't tell private pools apart."""

    def block_at(self, address: int) -> Block | None:
        """The block in use with this address, if there is one."""
        position = bisect_right(self.blocks, address, key=_address_of) - 1
        block = self.blocks[position] if position >= 0 else None
        return block if block is not None and address < block.address + block.size_bytes else None


def allocator_states(torch: ModuleType, kind: str, devices: int = 64) -> dict[str, AllocatorState]:
    """By device, `cuda:0`; empty if the host hasn't initialised this kind, or its allocator tells nothing.

    Args:
        torch: the host's.
        kind: torch's name of a kind of accelerator.
        devices: how many are asked at most.
    """
    module = initialised_module(torch, kind)
    if module is None or (kind == "cuda" and cuda_allocator(torch) in ASKING_THE_DRIVER):
        return {}
    counted: dict[str, Mapping[str, Any]] = {}
    for index in range(devices):
        try:
            stats = module.memory_stats(index)
        except (RuntimeError, AssertionError, IndexError, ValueError):
            break
        if stats.get("reserved_bytes.all.current"):
            counted[f"{kind}:{index}"] = stats
    blocks = sum(int(stats.get(f"{name}.all.current", 0)) for stats in counted.values() for name in ("active", "inactive_split"))
    segments = _segments(torch, module, kind) if blocks <= MOST_BLOCKS else None
    if segments is None:
        return {device: _by_counters(stats) for device, stats in counted.items()}
    found = {device: AllocatorState() for device in counted}
    for segment in segments:
        state = found.get(f"{kind}:{segment['device']}")
        if state is not None:
            _add(segment, state)
    for state in found.values():
        state.blocks.sort(key=_address_of)
    return found


def workspace_sizes() -> frozenset[int]:
    """In bytes, the sizes that cuBLAS's workspaces may have in this process."""
    stated = os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")
    numbers = stated.removeprefix(":").split(":")
    if not stated or len(numbers) % 2 or not all(number.isdecimal() for number in numbers):
        return frozenset(WORKSPACES)
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return frozenset({sum(int(kib) * 1024 * int(count) for kib, count in pairs)})


def _segments(torch: ModuleType, module: Any, kind: str) -> Sequence[Mapping[str, Any]] | None:
    """The allocator's list of segments; None if it doesn't tell, or making it would also convert a recorded history."""
    listed = getattr(module, "memory_snapshot", None)
    code = getattr(listed, "__code__", None)
    if listed is None or code is None:
        return None
    if "include_traces" in code.co_varnames[: code.co_argcount]:
        if SLOW_SYMBOLS in os.environ and history_is_recorded(torch, kind) is not False:
            return None
        return list(listed(include_traces=False))
    return list(listed()) if history_is_recorded(torch, kind) is False else None


def _by_counters(stats: Mapping[str, Any]) -> AllocatorState:
    """As far as counters tell: what is reserved and neither in use nor the free part of a segment in use."""
    reserved, active, split, allocated = (
        int(stats.get(f"{name}.all.current", 0))
        for name in ("reserved_bytes", "active_bytes", "inactive_split_bytes", "allocated_bytes")
    )
    waiting = max(0, active - allocated)
    active = max(active, allocated)
    return AllocatorState(max(0, reserved - active - split), split, waiting, is_exact=False)


def _add(segment: Mapping[str, Any], state: AllocatorState) -> None:
    pool_id = tuple(segment.get("segment_pool_id", DEFAULT_POOL))
    blocks, size = segment["blocks"], segment["total_size"]
    address = segment["address"]
    free = allocated = returnable = waiting = 0
    page = LARGE_PAGE if segment.get("segment_type") == "large" else SMALL_PAGE
    for block in blocks:
        length = block["size"]
        if block["state"] == INACTIVE:
            free += length
            if segment.get("is_expandable"):
                offset = address - segment["address"]
                returnable += max(0, (offset + length) // page * page - -(-offset // page) * page)
        elif block["state"] == ALLOCATED:
            allocated += length
            state.blocks.append(Block(address, length, _made_at(block.get("frames", ()))))
        else:
            waiting += length
        address += length
    if pool_id != DEFAULT_POOL:
        state.pools.add(pool_id)
        state.pools_reserved_bytes += size
        state.pools_allocated_bytes += allocated
        return
    state.waiting_bytes += waiting
    if not segment.get("is_expandable"):
        returnable = free if free == size else 0
    state.returnable_bytes += returnable
    state.split_bytes += free - returnable


def _made_at(frames: Sequence[Mapping[str, Any]]) -> str | None:
    """The innermost Python function of a recorded stack that isn't torch's own."""
    for frame in frames:
        file, name = frame.get("filename"), frame.get("name")
        if type(file) is str and type(name) is str and not _is_of_torch(file):
            return f"{name[:80]} ({file.rpartition('/')[2][:80]}:{frame.get('line')})"
    return None


def _is_of_torch(file: str) -> bool:
    return "/torch/" in file or not (file.endswith((".py", ">")) or "ipykernel" in file)


def _address_of(block: Block) -> int:
    return block.address
