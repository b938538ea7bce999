"""Origins and samples of tensors, kept by storage: where the values came from, and what they were when last sampled.

They are kept by storage, not by tensor, because a storage holds the values whichever tensors refer to it, and because torch
ignores weak references to storages, while it refuses to swap tensors that are weakly referenced. After a move to another device
or a replacement the storage is a new one, of which nothing is known until a hook reports it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import Origin
from gpumodels.support.brief_lock import BriefLock
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import storages_can_be_referred_to, without_overrides, writes_of
from gpumodels.support.weak_table import WeakTable

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage


@never_pickled
class TensorOrigins:
    """Origins and samples by storage. Written to in the host's threads, read by the scan."""

    def __init__(self, torch: ModuleType) -> None:
        self.plain_types = (torch.Tensor, torch.nn.Parameter)
        """Tensor classes whose attributes can be read directly; subclasses may run their own code."""
        self._tensor_type: Any = torch.Tensor
        self._without_overrides = without_overrides(torch)
        self._is_possible = storages_can_be_referred_to(torch)
        self._origins: WeakTable[Origin] = WeakTable()
        self.origins_by_id = self._origins.by_id
        """By the storage's id, for look-ups too frequent to pay for a method call; read-only."""
        self._lock = BriefLock()
        self._samples: WeakTable[dict[int, RawSample]] = WeakTable()
        """By storage, then by the tensor's offset in it, in elements."""
        self._outdated: WeakTable[int | None] = WeakTable()
        """Storages whose samples were taken elsewhere before they were copied here, and `writes_of` their tensors then."""
        self._filled: WeakTable[int | None] = WeakTable()
        """Storages on accelerators that were seen to be filled, and `writes_of` their tensors then."""
        self._placeholders: WeakTable[None] = WeakTable()
        """Storages in which a library left nothing in particular while the values are in a file."""

    def __len__(self) -> int:
        """The number of storages whose origin is known."""
        return len(self._origins)

    def storage_of(self, tensor: Tensor) -> UntypedStorage | None:
        """The tensor's storage; None if it has none, as opaque tensors."""
        try:
            if type(tensor) in self.plain_types:
                return tensor.untyped_storage()
            with self._without_overrides():
                storage: UntypedStorage = self._tensor_type.untyped_storage(tensor)  # a subclass may define __getattribute__
                return storage
        except (NotImplementedError, RuntimeError):
            return None

    def origin(self, storage: UntypedStorage | None) -> Origin | None:
        """Where the storage's values came from; None if that isn't known."""
        return None if storage is None else self._origins.get(storage)

    def put_origin(self, storage: UntypedStorage | None, origin: Origin) -> None:
        """Set where the storage's values came from."""
        if storage is not None and self._is_possible:
            self._origins.put(storage, origin)

    def sample(self, storage: UntypedStorage | None, tensor: Any) -> RawSample | None:
        """The tensor's first values when they were last sampled; None if they never were."""
        by_offset = None if storage is None else self._samples.get(storage)
        if by_offset is None:
            return None
        with self._without_overrides():
            return by_offset.get(self._tensor_type.storage_offset(tensor))

    def put_sample(self, storage: UntypedStorage | None, tensor: Any, sample: RawSample) -> None:
        """Set the sample just taken of the tensor's first values."""
        if storage is None or not self._is_possible:
            return
        self._outdated.take(storage)
        by_offset = self._samples.get(storage)
        if by_offset is None:
            with self._lock:
                by_offset = self._samples.get(storage)
                if by_offset is None:
                    by_offset = {}
                    self._samples.put(storage, by_offset)
        with self._without_overrides():
            by_offset[self._tensor_type.storage_offset(tensor)] = sample

    def put_sample_of_copied(self, storage: UntypedStorage | None, tensor: Any, sample: RawSample) -> None:
        """Set the sample that was taken elsewhere of what was copied here: it may have been written over since, unnoticed."""
        self.put_sample(storage, tensor, sample)
        if storage is not None and self._is_possible and type(tensor) in self.plain_types:
            self._outdated.put(storage, writes_of(tensor))

    def note_filled(self, storage: UntypedStorage | None, tensor: Any) -> None:
        """Note that the tensor just got its values, if they are out of reach from now on: writes are counted from here."""
        if storage is not None and self._is_possible and type(tensor) in self.plain_types and not tensor.is_cpu:
            self._filled.put(storage, writes_of(tensor))

    def was_overwritten(self, storage: UntypedStorage | None, tensor: Any) -> bool:
        """Whether the tensor was written to since it was last seen to be filled, as far as writes are counted."""
        return storage is not None and storage in self._filled and self._filled.get(storage) != writes_of(tensor)

    def is_outdated(self, storage: UntypedStorage | None) -> bool:
        """Whether the storage's samples were taken before its values were copied there."""
        return storage is not None and storage in self._outdated

    def was_written(self, storage: UntypedStorage | None, tensor: Any) -> bool:
        """Whether the tensor was written to since its values were copied there, as far as writes are counted."""
        return storage is not None and self.is_outdated(storage) and self._outdated.get(storage) != writes_of(tensor)

    @property
    def has_placeholders(self) -> bool:
        """Whether `is_placeholder` is true of any storage."""
        return len(self._placeholders) > 0

    def is_placeholder(self, storage: UntypedStorage | None) -> bool:
        """Whether what the storage holds are not the tensor's values, because these are in a file."""
        return storage is not None and storage in self._placeholders

    def put_placeholder(self, storage: UntypedStorage) -> None:
        """Note that what the storage holds are not the tensor's values."""
        if self._is_possible:
            self._placeholders.put(storage, None)

    def forget_samples(self, storage: UntypedStorage | None) -> None:
        """Drop the storage's samples, because its values were overwritten unobserved."""
        if storage is not None:
            self._samples.take(storage)
            self._outdated.take(storage)
