"""Which file a tensor's values came from: seen when files are mapped and read, carried on through loads, moves and casts.

What is remembered about the host's tensors is kept in weak side tables; an attribute on them would end up in the host's
own checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gpumodels.failures import Failures
from gpumodels.files_read import FilesRead, Stamp
from gpumodels.loads import Loads
from gpumodels.mappings import FileMappings
from gpumodels.origins import ELSEWHERE, MAPPED, READ, Origin
from gpumodels.sampling import RawSample, TensorSampler
from gpumodels.saves import SavedValues
from gpumodels.weak_table import WeakTable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpumodels.accelerator import AcceleratorSampler


class _Placed(NamedTuple):
    """A tensor's origin."""

    origin: Origin
    storage: int
    """Where the values lay then: `tensor.data = …` puts others in their place, and tells nobody. 0 where they just moved,
    and of what is no plain tensor."""


_Known = tuple[dict[str, Any], str, int, "Origin | None", "RawSample | None"]
"""A module's table of tensors, a name in it, and what is known of the tensor there: its id, its origin, its values."""


class Provenance:
    """Written to by wrapped functions in the host's threads, read by the scan."""

    def __init__(self, torch: ModuleType, failures: Failures, accelerators: AcceleratorSampler | None = None) -> None:
        """`accelerators` takes samples there; None where nobody asked for it."""
        self._torch = torch
        self._accelerators = accelerators
        self._failures = failures
        self._mappings = FileMappings()
        self.sampler = TensorSampler(torch)
        self.files_read = FilesRead()
        self.saved = SavedValues()
        self._origins: WeakTable[_Placed] = WeakTable()
        self._samples: WeakTable[RawSample] = WeakTable()
        self._latest = ELSEWHERE
        self.by_storage: dict[int, int] = {}
        """Storages of tensors whose origin is known, to the tensors' ids: state dicts hold other tensors of the same storages."""
        self.plain_types = (torch.Tensor, torch.nn.Parameter)
        self.loads = Loads(torch, self, failures)
        self.active = True
        self.version = 0
        """Goes up when values in unchanged tensors came from somewhere new: what was read of them before is outdated."""

    # What the wrapped functions do.

    def around_from_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`UntypedStorage.from_file`: every safetensors file that torch maps, and `torch.load(mmap=True)`, come by here."""

        def from_file(*arguments: Any, **options: Any) -> Any:
            storage = original(*arguments, **options)
            if self.active:
                with self._failures.guard("remembering a mapped file"):
                    path = absolute(arguments[0] if arguments else options["filename"])
                    self._mappings.remember(storage, path, self.files_read.add(path))
            return storage

        return from_file

    def around_apply(self, original: Callable[..., Any], touched: Callable[[], None]) -> Callable[..., Any]:
        """`Module._apply`, which `.to()`, `.cuda()` and `.half()` go through: the values move, the mapping stays behind."""

        before, after = self._failures.guard("noting origins before a move"), self._failures.guard("noting origins after a move")

        def _apply(module: nn.Module, *arguments: Any, **options: Any) -> Any:
            state = module.__dict__
            known: list[_Known] | None = None
            # It is called for every module of the tree, most of which hold no tensors themselves.
            if (state.get("_parameters") or state.get("_buffers")) and self.active:
                touched()
                with before:
                    known = self._known_of(state)
            result = original(module, *arguments, **options)
            if known:
                with after:
                    self._carry_over(state, known)
                touched()
            return result

        return _apply

    def around_swap_tensors(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.utils.swap_tensors`, which refuses tensors that anybody refers to weakly: so we let go of them meanwhile."""

        def swap_tensors(one: Tensor, other: Tensor) -> Any:
            if not self.active:
                return original(one, other)
            known = [(self._taken(tensor), self._samples.take(tensor)) for tensor in (one, other)]
            try:
                result = original(one, other)
                if known[1][0] is not None:
                    known.reverse()  # else `other` is `one` after a move or a cast: the values are the same
                return result
            finally:
                with self._failures.guard("noting origins after a swap"):
                    for tensor, (origin, sample) in zip((one, other), known, strict=True):
                        self.put(tensor, origin, sample)

        return swap_tensors

    # What readers and the scan say and ask.

    def note_read(self, tensor: Tensor, path: str, stamp: Stamp | None) -> None:
        """A tensor as a reader made it from this file."""
        if tensor not in self._origins:
            self.put(tensor, self.origin(path, READ, stamp), None)

    def note_copied(self, tensor: Tensor, path: str, stamp: Stamp | None) -> None:
        """The same of a tensor that may still show the file itself: then that says more, and as long as it does."""
        if self.mapped_origin(tensor) is None:
            self.note_read(tensor, path, stamp)

    def note_registered(self, tensor: Tensor) -> None:
        """A tensor that becomes a module's: often a new object around what a reader made."""
        if self.by_storage and tensor not in self._origins and type(tensor) in self.plain_types:
            origin = self.origin_of_storage(tensor.untyped_storage()._cdata)
            if origin is not None:
                self.put(tensor, origin, None)

    def origin_of(self, tensor: Tensor) -> Origin | None:
        """Where the tensor's values came from; found by address where that still shows, and remembered from then on."""
        known = self.known(tensor)
        if known is not None:
            self._note_place(tensor)
            return known
        found = self.mapped_origin(tensor)
        if found is not None:
            self.put(tensor, found, None)
        return found

    def sample_of(self, tensor: Tensor) -> RawSample | None:
        """Its first values: now, where they are in host memory; else what they were when they last were."""
        return self.sampler.take_from_aside(tensor) or self._samples.get(tensor)

    def sample_accelerators(self, tensors: Iterable[Tensor]) -> None:
        """Take samples of those that no sample is known of, if that was asked for; `sample_of` knows them from then on."""
        if self._accelerators is not None:
            for tensor, sample in self._accelerators.take([tensor for tensor in tensors if tensor not in self._samples]):
                self._samples.put(tensor, sample)

    @property
    def samples_version(self) -> int:
        """Goes up when samples that couldn't be taken might be now."""
        return self._accelerators.version if self._accelerators is not None else 0

    def read_kernel_mappings(self) -> None:
        """Learn from the kernel which files are mapped right now: what was loaded before the sidecar started."""
        self._mappings.ask_kernel(self.files_read.add_mapped)

    def forget_kernel_mappings(self) -> None:
        """The kernel's answer holds for the moment only: addresses are reused."""
        self._mappings.forget_kernels()

    # How it is done.

    def mapped_origin(self, tensor: Tensor) -> Origin | None:
        if not self._mappings or type(tensor) not in self.plain_types or not tensor.is_cpu:
            return None
        mapped = self._mappings.file_at(tensor.untyped_storage().data_ptr())
        return None if mapped is None else self.origin(mapped[0], MAPPED, mapped[1])

    def known(self, tensor: Tensor) -> Origin | None:
        """What is remembered of the tensor, if its values are still where they were."""
        ref = self._origins.ref(id(tensor))
        if ref is None:
            return None
        placed: _Placed = ref.value
        if placed.storage and (storage := tensor.untyped_storage()._cdata) != placed.storage:
            self._origins.take(tensor)
            return self.origin_of_storage(storage)
        return placed.origin

    def _note_place(self, tensor: Tensor) -> None:
        """Where the values lie after a move."""
        ref = self._origins.ref(id(tensor))
        if ref is not None and not ref.value.storage and type(tensor) in self.plain_types:
            storage = tensor.untyped_storage()._cdata
            ref.value = _Placed(ref.value.origin, storage)
            self.by_storage[storage] = ref.key

    def _moved(self, tensor: Tensor, origin: Origin) -> None:
        """The same object, its values elsewhere: where, the next look will see."""
        ref = self._origins.ref(id(tensor))
        if ref is None:
            self.put(tensor, origin, None)
        elif ref.value.storage:
            ref.value = _Placed(origin, 0)

    def _taken(self, tensor: Tensor) -> Origin | None:
        """What is remembered of the tensor, forgotten with this."""
        placed = self._origins.take(tensor)
        return None if placed is None else placed.origin

    def origin(self, path: str, source: str, stamp: Stamp | None) -> Origin:
        """One object for all tensors of a file."""
        latest = self._latest
        if latest.path != path or latest.source != source or latest.stamp != stamp:
            self._latest = latest = Origin(path, source, stamp)
        return latest

    def put(self, tensor: Tensor, origin: Origin | None, sample: RawSample | None) -> None:
        if sample is not None:
            self._samples.put(tensor, sample)
        if origin is None:
            return
        storage = tensor.untyped_storage()._cdata if type(tensor) in self.plain_types else 0
        self._origins.put(tensor, _Placed(origin, storage))
        if storage:
            if len(self.by_storage) > 2 * len(self._origins) + 1000:
                living = self._origins
                for key, one in self.by_storage.copy().items():
                    if living.ref(one) is None:
                        self.by_storage.pop(key, None)
            self.by_storage[storage] = id(tensor)

    def origin_of_storage(self, storage: int) -> Origin | None:
        known = self.by_storage.get(storage)
        ref = None if known is None else self._origins.ref(known)
        tensor = None if ref is None else ref()
        if tensor is None or type(tensor) not in self.plain_types or tensor.untyped_storage()._cdata != storage:
            return None  # it died, or moved: the address is somebody else's now
        placed = self._origins.get(tensor)
        return None if placed is None else placed.origin

    def _known_of(self, state: Mapping[str, Any]) -> list[_Known]:
        """What is known of a module's own tensors. Weights from nowhere are sampled if there are files to compare them with."""
        known: list[_Known] = []
        samples = self._samples
        keeps_values = self.files_read.version > 0  # else there is nothing to compare them with
        for table in (state["_parameters"], state["_buffers"]):
            for name, tensor in table.items():
                if tensor is None:
                    continue
                origin = self.known(tensor) or self.origin_of(tensor)
                sample = None
                if origin is None or origin is ELSEWHERE:
                    sample = samples.get(tensor)
                    if sample is None and keeps_values and tensor.dim() > 1 and (sample := self.sampler.take(tensor)) is not None:
                        samples.put(tensor, sample)
                    if sample is None and origin is None:
                        continue
                known.append((table, name, id(tensor), origin, sample))
        return known

    def _carry_over(self, state: Mapping[str, Any], known: list[_Known]) -> None:
        """Buffers, and now and then parameters, are other objects after a move; what they are known by has changed for all."""
        for table, name, identity, origin, sample in known:
            tensor = table.get(name)
            if tensor is None:
                continue
            if id(tensor) != identity:
                self.put(
                    tensor,
                    origin if origin is not None and tensor not in self._origins else None,
                    sample if sample is not None and tensor not in self._samples else None,
                )
            elif origin is not None and type(tensor) in self.plain_types:
                self._moved(tensor, origin)


def absolute(path: Any) -> str:
    """The user's own name for the file: symlinks stay."""
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100
