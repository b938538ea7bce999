"""Tracks which file a tensor's values came from: noted when files are mapped and read, passed on by loads, moves and casts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpumodels.provenance.file_mappings import MODEL_SUFFIXES, FileMappings
from gpumodels.provenance.files_named import FilesNamed
from gpumodels.provenance.files_read import FilesRead, Stamp, stamp_of
from gpumodels.provenance.host_samples import RawSample, TensorPart, TensorSampler
from gpumodels.provenance.origin import MAPPED, NO_OBSERVED_FILE, READ, Origin
from gpumodels.provenance.own_files import OwnFiles
from gpumodels.provenance.saves import SavedValues
from gpumodels.provenance.tensor_origins import TensorOrigins
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import WeakTable

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage

    from gpumodels.provenance.accelerator_samples import AcceleratorSampler


@never_pickled
class OriginTracker:
    """Where tensors' values came from. Hooks report to it in the host's threads; the scan queries it."""

    def __init__(self, torch: ModuleType, accelerators: AcceleratorSampler | None = None) -> None:
        """`accelerators`: takes samples on accelerators; None if the user didn't ask for that."""
        self._accelerators = accelerators
        self._mappings = FileMappings()
        self.tensors = TensorOrigins(torch)
        self.sampler = TensorSampler(torch)
        self.files_read = FilesRead()
        self.files_named = FilesNamed(self.files_read)
        self.saved = SavedValues()
        self.own_files = OwnFiles()
        self.unobserved_loads: WeakTable[tuple[str, ...]] = WeakTable()
        """For modules whose values couldn't be observed while they were loaded: the files that were read just before."""
        self._latest = NO_OBSERVED_FILE
        self.active = True
        """False once closed: hooks then note nothing."""
        self.version = 0
        """Increases when values in unchanged storages got a new origin, so that earlier readings of them are outdated."""

    def close(self) -> None:
        """Stop noting anything, and close /proc/self/mem."""
        self.active = False
        self.sampler.close()

    # Called by hooks, in the host's threads.

    def note_mapped(self, storage: UntypedStorage, path: str) -> None:
        """Note a storage that torch has just mapped from this file."""
        self._mappings.add(storage, path, self.files_read.add(path))

    def note_read(self, tensor: Tensor, path: str, stamp: Stamp | None) -> None:
        """Note a tensor that was just read from this file. If it turns out to be mapped from a file, that origin is noted."""
        storage = self.tensors.storage_of(tensor)
        if self.tensors.origin(storage) is None:
            mapped = self._mapped_origin(tensor, storage)
            self.tensors.put_origin(storage, mapped or self.shared_origin(path, READ, stamp))

    def note_copies_read(self, tensors: Iterable[Tensor], path: str) -> None:
        """Note those of the tensors just read from this file that aren't in host memory: the others are mapped, or compared."""
        (file,) = self.files_read.of([path])
        for tensor in tensors:
            if not tensor.is_cpu:
                self.note_read(tensor, path, file.stamp)

    def note_saved(self, path: str | None, saved: Iterable[Tensor]) -> None:
        """Note tensors that are about to be written to a file; None: to something that isn't a file."""
        tensors = list(saved)
        samples = [self.sampler.take(tensor) for tensor in tensors]
        self.saved.note(sample for sample in samples if sample is not None)
        if path is not None:
            origins = [self.current_origin(tensor, self.tensors.storage_of(tensor)) for tensor in tensors]
            self.own_files.add(path, origins, samples)

    def files_read_before_load(self, *modules: Any) -> tuple[str, ...] | None:
        """The files read just before an unobserved load into the first of these modules that had one; None if none had."""
        known = [self.unobserved_loads.get(module) for module in modules if module is not None]
        return next((read for read in known if read is not None), None)

    # Called by the scan.

    def origin_of(self, tensor: Tensor, storage: UntypedStorage | None) -> Origin | None:
        """Where the tensor's values came from, if known; found by its address if a file is mapped there, and then remembered."""
        known = self.tensors.origins_by_id.get(id(storage))
        if known is not None:
            origin: Origin = known.value
            return origin
        if not self._mappings.may_know:
            return None
        found = self._mapped_origin(tensor, storage, asks_kernel=True)
        if found is not None:
            self.tensors.put_origin(storage, found)
        return found

    def sample_of(self, tensor: Tensor, part: TensorPart | None = None) -> RawSample | None:
        """The first values now of the tensor, or of a part of it, if they are in host memory; otherwise the last sample taken."""
        now = self.sample_now(tensor, part)
        if now is not None or (part is not None and part.offset):
            return now
        last = self.tensors.sample(self.tensors.storage_of(tensor), tensor)
        return last if last is None or part is None else last._replace(shape=part.shape)

    def sample_now(self, tensor: Tensor, part: TensorPart | None = None) -> RawSample | None:
        """The first values now of the tensor, or of a part of it, if they are in host memory."""
        if self.tensors.has_placeholders and self.tensors.is_placeholder(self.tensors.storage_of(tensor)):
            return None
        return self.sampler.take_from_other_thread(tensor, part)

    def note_offloaded(self, tensor: Tensor, path: str) -> None:
        """Note that this tensor on `meta` stands for values that the host reads from a file when it needs them.

        A file of raw values that another process wrote, or this one before the sidecar was there, says nothing of where they are
        from: it is called by the tensor.
        """
        storage = self.tensors.storage_of(tensor)
        if storage is None or self.tensors.origin(storage) is not None:
            return
        own = self.own_files.get(path)
        if own is None:
            if not path.endswith(MODEL_SUFFIXES):
                return
            (file,) = self.files_read.of([path])
            self.tensors.put_origin(storage, self.shared_origin(path, READ, file.stamp or stamp_of(path)))
            return
        if own.origin is not None:
            self.tensors.put_origin(storage, own.origin)
        if own.sample is not None:
            self.tensors.put_sample(storage, tensor, own.sample)

    def sample_accelerators(self, tensors: Iterable[Tensor]) -> None:
        """Sample those of the tensors that have no sample yet, for `sample_of`; nothing unless the user asked for it."""
        if self._accelerators is None:
            return
        without_sample = [tensor for tensor in tensors if not self._has_current_sample(tensor)]
        for tensor, sample in self._accelerators.take(without_sample):
            self.tensors.put_sample(self.tensors.storage_of(tensor), tensor, sample)

    def _has_current_sample(self, tensor: Tensor) -> bool:
        storage = self.tensors.storage_of(tensor)
        return self.tensors.sample(storage, tensor) is not None and not self.tensors.is_outdated(storage)

    @property
    def samples_version(self) -> int:
        """Increases when postponed samples of accelerators can be taken."""
        return self._accelerators.version if self._accelerators is not None else 0

    def read_kernel_mappings(self) -> None:
        """Learn from the kernel which files are mapped right now, for models loaded before the sidecar started."""
        self._mappings.query_kernel(self.files_read.add_mapped)

    def allow_kernel_query(self) -> None:
        """Call `read_kernel_mappings` when `origin_of` first needs it, until `forget_kernel_mappings`."""
        self._mappings.allow_kernel_query(self.files_read.add_mapped)

    def forget_kernel_mappings(self) -> None:
        """Drop what the kernel listed: it is true only at that moment, as addresses are reused."""
        self._mappings.forget_kernel_mappings()

    def shared_origin(self, path: str, source: str, stamp: Stamp | None) -> Origin:
        """An origin, the same object for successive tensors of one file."""
        latest = self._latest
        if latest.path != path or latest.source != source or latest.stamp != stamp:
            self._latest = latest = Origin(path, source, stamp)
        return latest

    def current_origin(self, tensor: Tensor, storage: UntypedStorage | None) -> Origin | None:
        """`origin_of` for a thread that is using this plain tensor; not remembered, as the tensor may be short-lived."""
        return self.tensors.origin(storage) or self._mapped_origin(tensor, storage)

    def _mapped_origin(self, tensor: Tensor, storage: UntypedStorage | None, asks_kernel: bool = False) -> Origin | None:
        if not self._mappings.may_know or storage is None or type(tensor) not in self.tensors.plain_types or not tensor.is_cpu:
            return None
        mapped = self._mappings.file_at(storage.data_ptr(), asks_kernel)
        if mapped is None or mapped[0] in self.own_files.offload_paths:
            return None
        return self.shared_origin(mapped[0], MAPPED, mapped[1])


def absolute(path: Any) -> str:
    """The absolute path, symlinks unresolved: the user's own name for the file."""
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100
