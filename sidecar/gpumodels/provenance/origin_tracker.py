"""Which file a tensor's values came from: seen when files are mapped and read, carried on through loads, moves and casts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpumodels.provenance.file_mappings import FileMappings
from gpumodels.provenance.files_read import FilesRead, Stamp
from gpumodels.provenance.host_samples import RawSample, TensorSampler
from gpumodels.provenance.origin import ELSEWHERE, MAPPED, READ, Origin
from gpumodels.provenance.saves import SavedValues
from gpumodels.provenance.tensor_origins import TensorOrigins
from gpumodels.support.resident import resident
from gpumodels.support.weak_table import WeakTable

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage

    from gpumodels.provenance.accelerator_samples import AcceleratorSampler


@resident
class OriginTracker:
    """Told by what observes in the host's threads, asked by the scan."""

    def __init__(self, torch: ModuleType, accelerators: AcceleratorSampler | None = None) -> None:
        """`accelerators` takes samples there; None where nobody asked for it."""
        self._accelerators = accelerators
        self._mappings = FileMappings()
        self.tensors = TensorOrigins(torch)
        self.sampler = TensorSampler(torch)
        self.files_read = FilesRead()
        self.saved = SavedValues()
        self.unseen_loads: WeakTable[tuple[str, ...]] = WeakTable()
        """By module, of whose values nothing was seen when they were loaded: the files that were read just before."""
        self._latest = ELSEWHERE
        self.active = True
        self.version = 0
        """Goes up when values in unchanged storages came from somewhere new: what was read of them before is outdated."""

    def close(self) -> None:
        """Remember nothing from now on, and let go of this process's memory."""
        self.active = False
        self.sampler.close()

    # What observers say.

    def note_mapped(self, storage: UntypedStorage, path: str) -> None:
        """A storage that torch mapped from this file just now."""
        self._mappings.remember(storage, path, self.files_read.add(path))

    def note_read(self, tensor: Tensor, path: str, stamp: Stamp | None) -> None:
        """A tensor as a reader made it from this file; it may still show the file itself: then that says more."""
        storage = self.tensors.storage_of(tensor)
        if self.tensors.origin(storage) is None:
            mapped = self._mapped_origin(tensor, storage)
            self.tensors.put_origin(storage, mapped or self.one_origin(path, READ, stamp))

    def read_for(self, *modules: Any) -> tuple[str, ...] | None:
        """The files that were read just before values were loaded that weren't seen; None where there was no such load."""
        known = [self.unseen_loads.get(module) for module in modules if module is not None]
        return next((read for read in known if read is not None), None)

    # What the scan asks.

    def origin_of(self, tensor: Tensor, storage: UntypedStorage | None) -> Origin | None:
        """Where the tensor's values came from; found by address where that still shows, and remembered from then on."""
        known = self.tensors.origins_by_id.get(id(storage))
        if known is not None:
            origin: Origin = known.value
            return origin
        if not self._mappings.may_tell:
            return None
        found = self._mapped_origin(tensor, storage, asks_kernel=True)
        if found is not None:
            self.tensors.put_origin(storage, found)
        return found

    def sample_of(self, tensor: Tensor) -> RawSample | None:
        """Its first values: now, where they are in host memory; else what they were when they last were."""
        return self.sampler.take_from_aside(tensor) or self.tensors.sample(self.tensors.storage_of(tensor), tensor)

    def sample_accelerators(self, tensors: Iterable[Tensor]) -> None:
        """Take samples of those that no sample is known of, if that was asked for; `sample_of` knows them from then on."""
        if self._accelerators is None:
            return
        unknown = [tensor for tensor in tensors if self.tensors.sample(self.tensors.storage_of(tensor), tensor) is None]
        for tensor, sample in self._accelerators.take(unknown):
            self.tensors.put_sample(self.tensors.storage_of(tensor), tensor, sample)

    @property
    def samples_version(self) -> int:
        """Goes up when samples that couldn't be taken might be now."""
        return self._accelerators.version if self._accelerators is not None else 0

    def read_kernel_mappings(self) -> None:
        """Learn from the kernel which files are mapped right now: what was loaded before the sidecar started."""
        self._mappings.ask_kernel(self.files_read.add_mapped)

    def may_ask_kernel(self) -> None:
        """The same, as soon as somebody asks where values came from of which nothing else is known."""
        self._mappings.may_ask_kernel(self.files_read.add_mapped)

    def forget_kernel_mappings(self) -> None:
        """The kernel's answer holds for the moment only: addresses are reused."""
        self._mappings.forget_kernels()

    def one_origin(self, path: str, source: str, stamp: Stamp | None) -> Origin:
        """One object for all tensors of a file."""
        latest = self._latest
        if latest.path != path or latest.source != source or latest.stamp != stamp:
            self._latest = latest = Origin(path, source, stamp)
        return latest

    def current_origin(self, tensor: Tensor, storage: UntypedStorage | None) -> Origin | None:
        """Where the values of this plain tensor came from, in a thread that is using it; not remembered, as it may die soon."""
        return self.tensors.origin(storage) or self._mapped_origin(tensor, storage)

    def _mapped_origin(self, tensor: Tensor, storage: UntypedStorage | None, asks_kernel: bool = False) -> Origin | None:
        if not self._mappings.may_tell or storage is None or type(tensor) not in self.tensors.plain_types or not tensor.is_cpu:
            return None
        mapped = self._mappings.file_at(storage.data_ptr(), asks_kernel)
        return None if mapped is None else self.one_origin(mapped[0], MAPPED, mapped[1])


def absolute(path: Any) -> str:
    """The user's own name for the file: symlinks stay."""
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100
