"""Samples tensors in host memory: the first values, as raw bytes, without any torch operation or synchronisation."""

from __future__ import annotations

import ctypes
import math
import os
from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.support.descriptors import OwnDescriptor
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import without_overrides
from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.floats import ITEM_BYTES

RAW_BLOCKS: Final = frozenset({"GGUFParameter", "GGMLTensor"})
"""Names of tensor subclasses that hold a file's quantized blocks unchanged."""
OWN_MEMORY: Final = "/proc/self/mem"


@never_pickled
class RawSample(NamedTuple):
    """A tensor's dtype, shape and first values: a `schema.TensorSample` without its key."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@never_pickled
class TensorPart(NamedTuple):
    """A part of a tensor that is compared by itself, as if it were a tensor: an expert's matrix in a stack of them."""

    offset: int
    """Its first element, counted from the tensor's."""
    shape: tuple[int, ...]


@never_pickled
class _SampleLocation(NamedTuple):
    """Where a tensor's sample lies in host memory."""

    dtype: str
    shape: tuple[int, ...]
    address: int
    length: int
    """The sample's length in bytes."""


@never_pickled
class TensorSampler:
    """Takes samples of plain tensors and of raw blocks, not of other classes. One per process: a forked child needs its own."""

    def __init__(self, torch: ModuleType) -> None:
        self._plain_types = frozenset({torch.Tensor, torch.nn.Parameter})
        self._strided = torch.strided
        self._shape_of: Any = torch.Tensor.shape.__get__
        """torch's own: a class for quantized blocks may define a `shape` that is the original tensor's."""
        self._without_overrides = without_overrides(torch)
        self._dtypes = {getattr(torch, name): (name, size * VALUES) for name, size in ITEM_BYTES.items() if hasattr(torch, name)}
        try:
            self._memory: OwnDescriptor | None = OwnDescriptor(OWN_MEMORY, os.O_RDONLY)
        except OSError:  # not Linux, or /proc is restricted
            self._memory = None

    def close(self) -> None:
        """Close /proc/self/mem: `take_from_other_thread` and `read_memory` return nothing from then on."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()

    def take(self, tensor: Any) -> RawSample | None:
        """The tensor's sample. Call it in a thread that is using the tensor, so that its memory isn't freed meanwhile.

        None on an accelerator, for fewer than VALUES elements, for dtypes that aren't compared, or if it isn't contiguous.
        """
        found = self._location(tensor)
        return None if found is None else RawSample(found.dtype, found.shape, ctypes.string_at(found.address, found.length))

    def take_from_other_thread(self, tensor: Any, part: TensorPart | None = None) -> RawSample | None:
        """The sample of the tensor, or of a part of it, for a thread that isn't using the tensor.

        Its memory may be freed meanwhile, so it is read through the kernel: then that is an error, not a SIGSEGV.
        """
        found = self._location(tensor, part) if self._memory is not None else None
        if found is None:
            return None
        data = self.read_memory(found.address, found.length)
        return RawSample(found.dtype, found.shape, data) if len(data) == found.length else None

    def address_of(self, tensor: Any, part: TensorPart | None = None) -> int:
        """The address of the sample of the tensor, or of a part of it; 0 if it can't be sampled."""
        found = self._location(tensor, part)
        return 0 if found is None else found.address

    def read_memory(self, address: int, length: int) -> bytes:
        """The bytes at this address now, whatever they belong to; empty if they can't be read."""
        memory = self._memory
        try:
            return memory.read(length, address) if memory is not None else b""
        except OSError:
            return b""

    def _location(self, tensor: Any, part: TensorPart | None = None) -> _SampleLocation | None:
        if type(tensor) in self._plain_types:
            return self._location_in_plain(tensor, part)
        if type(tensor).__name__ not in RAW_BLOCKS:
            return None
        with self._without_overrides():
            return self._location_in_plain(tensor, part)

    def _location_in_plain(self, tensor: Any, part: TensorPart | None) -> _SampleLocation | None:
        if not tensor.is_cpu or tensor.layout is not self._strided:
            return None
        dtype = self._dtypes.get(tensor.dtype)
        offset, shape = part if part is not None else (0, tuple(self._shape_of(tensor)))
        if dtype is None or math.prod(shape) < VALUES or tensor.numel() < offset + VALUES or not tensor.is_contiguous():
            return None
        name, length = dtype
        item = length // VALUES
        start = (tensor.storage_offset() + offset) * item
        if tensor.untyped_storage().nbytes() < start + length:  # FSDP and others resize storages to 0
            return None
        pointer = tensor.data_ptr()
        return _SampleLocation(name, shape, pointer + offset * item, length) if pointer else None
