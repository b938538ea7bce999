"""The first values of a tensor in host memory, as raw bytes: no torch operation, nothing computed, nothing synchronised."""

from __future__ import annotations

import ctypes
import os
from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.support.descriptors import OwnDescriptor
from gpumodels.support.resident import resident
from gpumodels.support.torch_private import without_overrides
from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.floats import ITEM_BYTES

RAW_BLOCKS: Final = frozenset({"GGUFParameter", "GGMLTensor"})
"""Subclasses of torch's tensors, by name, that hold a file's quantized blocks as they are."""
OWN_MEMORY: Final = "/proc/self/mem"


@resident
class RawSample(NamedTuple):
    """What `schema.TensorSample` says of a tensor, without its key."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@resident
class _Place(NamedTuple):
    """Where a tensor's sample stands in host memory."""

    dtype: str
    shape: tuple[int, ...]
    address: int
    bytes: int
    """Of the sample."""


@resident
class TensorSampler:
    """Takes samples of plain tensors and of raw blocks, of no others. One per process: a forked child needs its own."""

    def __init__(self, torch: ModuleType) -> None:
        self._plain_types = frozenset({torch.Tensor, torch.nn.Parameter})
        self._strided = torch.strided
        self._without_overrides = without_overrides(torch)
        self._dtypes = {getattr(torch, name): (name, size * VALUES) for name, size in ITEM_BYTES.items() if hasattr(torch, name)}
        try:
            self._memory: OwnDescriptor | None = OwnDescriptor(OWN_MEMORY, os.O_RDONLY)
        except OSError:  # no Linux, or a hardened one
            self._memory = None

    def close(self) -> None:
        """Let go of this process's memory: what lies there can't be read from aside any more."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()

    def take(self, tensor: Any) -> RawSample | None:
        """Its sample, in a thread that is using the tensor: nobody frees its memory meanwhile.

        None on an accelerator, for few elements, for dtypes that aren't compared, or where they don't lie in a row.
        """
        found = self._place(tensor)
        return None if found is None else RawSample(found.dtype, found.shape, ctypes.string_at(found.address, found.bytes))

    def take_from_aside(self, tensor: Any) -> RawSample | None:
        """The same in another thread. The memory may be freed between two steps, so the kernel reads it: no SIGSEGV, an error."""
        found = self._place(tensor) if self._memory is not None else None
        if found is None:
            return None
        data = self.read_again(found.address, found.bytes)
        return RawSample(found.dtype, found.shape, data) if len(data) == found.bytes else None

    def address_of(self, tensor: Any) -> int:
        """Where its sample stands; 0 where it has none."""
        found = self._place(tensor)
        return 0 if found is None else found.address

    def read_again(self, address: int, length: int) -> bytes:
        """What stands at this address now, whosever it is; empty where nothing can be read."""
        memory = self._memory
        try:
            return memory.read(length, address) if memory is not None else b""
        except OSError:
            return b""

    def _place(self, tensor: Any) -> _Place | None:
        """Of what can be sampled."""
        if type(tensor) in self._plain_types:
            return self._place_of_plain(tensor)
        if type(tensor).__name__ not in RAW_BLOCKS:
            return None
        with self._without_overrides():
            return self._place_of_plain(tensor)

    def _place_of_plain(self, tensor: Any) -> _Place | None:
        if not tensor.is_cpu or tensor.layout is not self._strided:
            return None
        known = self._dtypes.get(tensor.dtype)
        if known is None or tensor.numel() < VALUES or not tensor.is_contiguous():
            return None
        name, length = known
        start = tensor.storage_offset() * (length // VALUES)
        if tensor.untyped_storage().nbytes() < start + length:  # FSDP and others shrink storages to nothing
            return None
        pointer = tensor.data_ptr()
        return _Place(name, tuple(tensor.shape), pointer, length) if pointer else None
