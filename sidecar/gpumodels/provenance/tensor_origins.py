"""What is known of values by the storage that they lie in: where they came from, and what they were when they were last seen.

Kept by storage, never by tensor: a storage is where values live, whatever tensors come and go around it, and torch itself takes
no notice of who refers to it weakly (it refuses to swap tensors that anybody refers to so). A storage on another device, or
another one put in its place, is another storage: of that nothing is known until it is told.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import Origin
from gpumodels.support.brief_lock import BriefLock
from gpumodels.support.resident import resident
from gpumodels.support.torch_private import storages_can_be_referred_to, without_overrides
from gpumodels.support.weak_table import WeakTable

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage


@resident
class TensorOrigins:
    """Origins and samples by storage. Written to in the host's threads, read by the scan."""

    def __init__(self, torch: ModuleType) -> None:
        self.plain_types = (torch.Tensor, torch.nn.Parameter)
        """Tensors whose attributes can be read as they are; subclasses may run code of their own."""
        self._tensor_type: Any = torch.Tensor
        self._without_overrides = without_overrides(torch)
        self._is_possible = storages_can_be_referred_to(torch)
        self._origins: WeakTable[Origin] = WeakTable()
        self.origins_by_id = self._origins.by_id
        """By the storage's id, for who looks up too many to call a method; to look into only."""
        self._lock = BriefLock()
        self._samples: WeakTable[dict[int, RawSample]] = WeakTable()
        """By storage, and by where in it the tensor begins."""

    def __len__(self) -> int:
        """Of how many storages the origin is known."""
        return len(self._origins)

    def storage_of(self, tensor: Tensor) -> UntypedStorage | None:
        """The tensor's storage; None where it has none, as opaque tensors do."""
        try:
            if type(tensor) in self.plain_types:
                return tensor.untyped_storage()
            with self._without_overrides():
                storage: UntypedStorage = self._tensor_type.untyped_storage(tensor)  # a subclass may have a look-up of its own
                return storage
        except (NotImplementedError, RuntimeError):
            return None

    def origin(self, storage: UntypedStorage | None) -> Origin | None:
        """Where its values came from."""
        return None if storage is None else self._origins.get(storage)

    def put_origin(self, storage: UntypedStorage | None, origin: Origin) -> None:
        """Its values came from there."""
        if storage is not None and self._is_possible:
            self._origins.put(storage, origin)

    def sample(self, storage: UntypedStorage | None, tensor: Any) -> RawSample | None:
        """The tensor's first values when they were last seen."""
        by_offset = None if storage is None else self._samples.get(storage)
        if by_offset is None:
            return None
        with self._without_overrides():
            return by_offset.get(self._tensor_type.storage_offset(tensor))

    def put_sample(self, storage: UntypedStorage | None, tensor: Any, sample: RawSample) -> None:
        """These were the tensor's first values just now."""
        if storage is None or not self._is_possible:
            return
        by_offset = self._samples.get(storage)
        if by_offset is None:
            with self._lock:
                by_offset = self._samples.get(storage)
                if by_offset is None:
                    by_offset = {}
                    self._samples.put(storage, by_offset)
        with self._without_overrides():
            by_offset[self._tensor_type.storage_offset(tensor)] = sample

    def forget_samples(self, storage: UntypedStorage | None) -> None:
        """Other values were written there, unseen."""
        if storage is not None:
            self._samples.take(storage)
