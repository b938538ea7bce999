"""What is in memory beside models, gradients, optimizer states and caches, and what the allocator keeps, if a viewer asks."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Final

from gpumodels.holders.allocator_blocks import AllocatorState, Block, allocator_states, workspace_sizes
from gpumodels.holders.loose_tensors import GRADIENT, HOST, LooseTensor, LooseTensors
from gpumodels.holders.search import OWN_FROZEN, HolderSearch
from gpumodels.models.training_state import StorageKey
from gpumodels.support.accelerators import counted_accelerators
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.tensors.tensor_storages import TensorReader
from gpumodels_shared.schema import DeviceMemory

MAX_SECONDS: Final = 2.0
SIZE_CLASSES: Final = (1024**3, 64 * 1024**2, 1024**2, 0)
"""Tensors are counted by how large they are; each class begins with so many bytes."""
MOST_GROUPS: Final = 24
MOST_LARGEST: Final = 5
"""Tensors of each device that are told one by one."""
MOST_SEARCHES: Final = 3
LEAST_SEARCHED_BYTES: Final = 1024**2
"""Who holds a smaller tensor isn't asked."""
MOST_DEVICES: Final = 16
MOST_DIMENSIONS: Final = 8
ALLOCATION_BYTES: Final = 512
"""The allocator's unit: a tensor takes a multiple of it."""
AGREEMENT: Final = 0.05
"""Blocks without a tensor are told only if their sum is about what the counters leave unexplained."""

Document = dict[str, Any]


@never_pickled
@dataclass(frozen=True, slots=True)
class Accounted:
    """What the sidecar has accounted for at the moment of the question."""

    reader: TensorReader
    is_known: Callable[[StorageKey], bool]
    """Whether this storage is a model's, or one of a gradient, optimizer state or cache."""
    devices: Sequence[DeviceMemory]


@never_pickled
class OtherMemory:
    """One inquiry.

    Args:
        accounted: what is known already.
        pause: called between two questions; lets the host run, and may raise to end the inquiry.
        failures: counts our own errors.
        clock: seconds.
    """

    def __init__(
        self,
        accounted: Accounted,
        pause: Callable[[], None],
        failures: Failures,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._accounted = accounted
        self._pause = pause
        self._failures = failures
        self._clock = clock
        self._tensors = LooseTensors(accounted.reader, accounted.is_known, pause, clock)
        self._longest_hold = 0.0
        self._holders: dict[StorageKey, str] = {}

    def run(self) -> Document:
        """Find out; plain data, nothing of the host."""
        began = self._clock()
        self._tensors.run()
        states = self._allocator_states(self._accounted.reader.torch)
        by_device: dict[str, list[LooseTensor]] = {}
        for tensor in self._tensors.found.values():
            by_device.setdefault(tensor.key[0], []).append(tensor)
        for tensors in by_device.values():
            tensors.sort(key=lambda tensor: -tensor.size_bytes)
        self._search_holders(by_device, began)
        hidden = gc.get_freeze_count()
        memories = {memory.device: memory for memory in self._accounted.devices}
        devices = sorted(memories.keys() | by_device.keys() | states.keys(), key=lambda device: (device == HOST, device))
        return {
            "devices": [
                self._device(device, memories.get(device), by_device.get(device, []), states.get(device))
                for device in devices[:MOST_DEVICES]
            ],
            "tensors": self._tensors.seen,
            "hidden_objects": hidden if hidden > OWN_FROZEN else 0,
            "is_complete": self._tensors.is_complete,
            "longest_hold_seconds": round(max(self._longest_hold, self._tensors.longest_hold_seconds), 4),
            "seconds": round(self._clock() - began, 3),
        }

    def _allocator_states(self, torch: ModuleType) -> dict[str, AllocatorState]:
        found: dict[str, AllocatorState] = {}
        for kind in counted_accelerators(torch):
            self._pause()
            before = self._clock()
            with self._failures.guard("reading the allocator's blocks"):
                found.update(allocator_states(torch, kind))
            self._longest_hold = max(self._longest_hold, self._clock() - before)
        return found

    def _search_holders(self, by_device: Mapping[str, Sequence[LooseTensor]], began: float) -> None:
        """Ask who holds the largest tensors, those on accelerators first, as long as there is time."""
        candidates = [one for tensors in by_device.values() for one in _largest(tensors)]
        candidates.sort(key=lambda one: (one.key[0] == HOST, -one.size_bytes))
        candidates = [one for one in candidates if one.size_bytes >= LEAST_SEARCHED_BYTES and one.kind != GRADIENT]
        for one in candidates[:MOST_SEARCHES]:
            left = MAX_SECONDS - (self._clock() - began)
            if left <= 0:
                return
            self._pause()
            found = HolderSearch(partial(self._tensors.tensor_of, one.key), self._pause, self._clock, left).run()
            self._longest_hold = max(self._longest_hold, found.longest_hold_seconds)
            if found.chains:
                self._holders[one.key] = found.chains[0].text[:400]
            elif found.is_garbage and found.visited:
                self._holders[one.key] = "only a reference cycle: Python's garbage collector will free it"
            elif found.by_c_code:
                self._holders[one.key] = "C code, such as autograd's graph"

    def _device(
        self, device: str, memory: DeviceMemory | None, tensors: Sequence[LooseTensor], state: AllocatorState | None
    ) -> Document:
        taken = sum(_taken(tensor.size_bytes) if device != HOST else tensor.size_bytes for tensor in tensors)
        other = memory.other_bytes if memory is not None else None
        unseen = max(0, other - taken) if other is not None else None
        made_at = {tensor.key: block.made_at for tensor in tensors if (block := _block_of(tensor, state)) is not None}
        document: Document = {
            "device": device,
            "tensors": len(tensors),
            "tensors_bytes": taken,
            "unseen_bytes": unseen,
            "groups": _groups(tensors),
            "largest": [
                {
                    "dtype": tensor.dtype,
                    "shape": list(tensor.shape[:MOST_DIMENSIONS]),
                    "size_bytes": tensor.size_bytes,
                    "kind": tensor.kind,
                    "held_by": self._holders.get(tensor.key),
                    "made_at": made_at.get(tensor.key),
                }
                for tensor in _largest(tensors)
            ],
        }
        if memory is not None:
            document |= {
                name: getattr(memory, name)
                for name in (
                    "uuid",
                    "allocated_bytes",
                    "reserved_bytes",
                    "models_bytes",
                    "gradients_bytes",
                    "optimizer_bytes",
                    "cache_bytes",
                    "other_bytes",
                )
            }
        if state is not None:
            document["allocator"] = {
                "is_exact": state.is_exact,
                "returnable_bytes": state.returnable_bytes,
                "split_bytes": state.split_bytes,
                "waiting_bytes": state.waiting_bytes,
                "pools": len(state.pools),
                "pools_reserved_bytes": state.pools_reserved_bytes,
                "pools_allocated_bytes": state.pools_allocated_bytes,
            }
            document["unseen"] = _unseen_blocks(state, self._tensors.addresses, unseen)
        return document


def _largest(tensors: Iterable[LooseTensor]) -> list[LooseTensor]:
    """The first ones of those sorted by size; of tensors of the same dtype, shape and kind, such as a list of them, only one."""
    found: dict[tuple[str, tuple[int, ...], str], LooseTensor] = {}
    for tensor in tensors:
        if len(found) == MOST_LARGEST:
            break
        found.setdefault((tensor.dtype, tensor.shape, tensor.kind), tensor)
    return list(found.values())


def _block_of(tensor: LooseTensor, state: AllocatorState | None) -> Block | None:
    return state.block_at(tensor.address) if state is not None and tensor.address else None


def _taken(size_bytes: int) -> int:
    """What the allocator counts for a tensor of this size."""
    return -(-size_bytes // ALLOCATION_BYTES) * ALLOCATION_BYTES


def _groups(tensors: Iterable[LooseTensor]) -> list[Document]:
    """Counts and bytes by dtype, class of size and kind, the most bytes first."""
    sums: dict[tuple[str, int, str], list[int]] = {}
    for tensor in tensors:
        least = next(least for least in SIZE_CLASSES if tensor.size_bytes >= least)
        group = sums.setdefault((tensor.dtype, least, tensor.kind), [0, 0])
        group[0] += 1
        group[1] += tensor.size_bytes
    ranked = sorted(sums.items(), key=lambda item: -item[1][1])
    return [
        {"dtype": dtype, "at_least_bytes": least, "kind": kind, "count": count, "size_bytes": size}
        for (dtype, least, kind), (count, size) in ranked[:MOST_GROUPS]
    ]


def _unseen_blocks(state: AllocatorState, addresses: Iterable[int], unseen_bytes: int | None) -> Document | None:
    """Blocks in use that no tensor of Python's is in, if they are what is left unexplained; None else."""
    if not state.is_exact or unseen_bytes is None:
        return None
    owned = {block.address for address in addresses if (block := state.block_at(address)) is not None}
    blocks = sorted((block for block in state.blocks if block.address not in owned), key=lambda block: -block.size_bytes)
    total = sum(block.size_bytes for block in blocks)
    if abs(total - unseen_bytes) > max(AGREEMENT * unseen_bytes, LEAST_SEARCHED_BYTES):
        return None
    sizes = workspace_sizes()
    workspaces = [block for block in blocks if block.size_bytes in sizes]
    return {
        "blocks": len(blocks),
        "blocks_bytes": total,
        "workspaces": len(workspaces),
        "workspaces_bytes": sum(block.size_bytes for block in workspaces),
        "largest": [{"size_bytes": block.size_bytes, "made_at": block.made_at} for block in blocks[:MOST_LARGEST]],
    }
