"""Finds the tensors that no model holds, with their storages' sizes, by asking Python's collector once for each few classes.

Every object refers to its class, so that the collector finds the objects of a class in one pass, several times shorter than going
through a list of all objects. It holds the interpreter meanwhile. What was found is read at once and let go of: numbers and names
are kept, no object of the host. No value is read, and no driver is asked.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gpumodels.models.training_state import StorageKey
from gpumodels.support.instances import state_of
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.last_references import give_back
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import data_address
from gpumodels.support.tracked_objects import TrackedObjects
from gpumodels.tensors.tensor_storages import META, UNREADABLE, TensorReader, TensorStorage

HOST: Final = "cpu"
CLASSES_TOGETHER: Final = 8
"""Classes of one question: each reference in the process is compared with all of them."""
MOST_CLASSES: Final = 64
"""Subclasses of torch's tensor beyond these are left out, and the search counts as incomplete."""
LEAST_MAPPED_BYTES: Final = 1024**2
"""Of smaller tensors it doesn't matter whether a file is mapped there."""
GRADIENT: Final = "gradient"
AUTOGRAD: Final = "autograd"
PARAMETER: Final = "parameter"
MAPPED: Final = "mapped"
PLAIN: Final = "tensor"


@never_pickled
@dataclass(slots=True)
class LooseTensor:
    """A storage that no model, gradient, optimizer or cache accounts for, and the largest tensor that it is the memory of."""

    key: StorageKey
    dtype: str
    shape: tuple[int, ...]
    """In elements; of the tensor that has most."""
    size_bytes: int
    """Of the storage."""
    kind: str
    """`gradient`: of a tensor that is in no model. `autograd`: made by operations that are recorded for backward.
    `parameter`: a parameter of no module that is left. `mapped`: from a file, which takes no memory by itself. Else `tensor`."""
    elements: int = 0
    address: int = 0
    """Where it begins; 0 in host memory, where nobody asks."""


@never_pickled
class LooseTensors:
    """One search.

    Args:
        reader: reads tensors of any class.
        is_known: whether this storage is accounted for.
        pause: called between two questions; lets the host run, and may raise to end the search.
        clock: seconds.
    """

    def __init__(
        self,
        reader: TensorReader,
        is_known: Callable[[StorageKey], bool],
        pause: Callable[[], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._reader = reader
        self._is_known = is_known
        self._pause = pause
        self._clock = clock
        self._address_of = data_address(reader.torch)
        self._device_of = reader.tensor_type.device.__get__
        self._layout_of = reader.tensor_type.layout.__get__
        self._names: dict[Any, str] = {}
        self._gradients: set[StorageKey] = set()
        self.found: dict[StorageKey, LooseTensor] = {}
        self.addresses: set[int] = set()
        """Where all tensors on accelerators begin, loose or not, as far as they tell."""
        self.seen = 0
        """How many tensors there are."""
        one = reader.torch.empty(0, device=META)
        self.is_complete = any(held is type(one) for held in gc.get_referents(one))
        """Whether all can be found. Not where this torch hides from the collector to which class a tensor belongs."""
        self.longest_hold_seconds = 0.0

    def run(self) -> None:
        """Search; whatever happens, nothing of the host is held afterwards."""
        for kinds in self._questions():
            self._pause()
            self._ask(kinds)
        for key in self._gradients & self.found.keys():
            self.found[key].kind = GRADIENT

    def tensor_of(self, key: StorageKey) -> Any:
        """The largest tensor of this storage, found again; None if it is gone."""
        found = self._objects_of(tuple(self._reader.plain_types))
        largest = None
        try:
            for tensor in found:
                try:
                    is_of = self._reader.identity_of_storage(tensor.untyped_storage()) == key[1]
                except UNREADABLE:
                    continue
                if is_of and self._name_of(self._device_of(tensor)) == key[0]:
                    largest = tensor if largest is None or tensor.numel() > largest.numel() else largest
                    if key in self.found and largest.numel() >= self.found[key].elements:
                        break
            tensor = None
        finally:
            _let_go(found)
        return largest

    def _questions(self) -> Iterator[tuple[type, ...]]:
        plain = self._reader.plain_types
        yield tuple(plain)
        others = [kind for kind in all_subclasses(self._reader.tensor_type) if kind not in plain]
        self.is_complete = self.is_complete and len(others) <= MOST_CLASSES
        for start in range(0, min(len(others), MOST_CLASSES), CLASSES_TOGETHER):
            yield tuple(others[start : min(start + CLASSES_TOGETHER, MOST_CLASSES)])

    def _ask(self, kinds: tuple[type, ...]) -> None:
        found = self._objects_of(kinds)
        try:
            self.seen += len(found)
            read = self._read_plain if self._reader.plain_types.issuperset(kinds) else self._read_other
            read(found)
        finally:
            _let_go(found)

    def _objects_of(self, kinds: tuple[type, ...]) -> list[Any]:
        """The objects of exactly these classes; those that refer to a class otherwise are left out."""
        began = self._clock()
        found = TrackedObjects(gc.get_referrers, kinds, arguments=kinds).found
        self.longest_hold_seconds = max(self.longest_hold_seconds, self._clock() - began)
        return found

    def _read_plain(self, tensors: Sequence[Any]) -> None:
        """Read tensors of torch's own classes; these may be many."""
        reader = self._reader
        with self._reader.failures.guard("reading tensors that no model holds"):
            for tensor, layout in zip(tensors, map(self._layout_of, tensors), strict=True):
                try:
                    if layout is not reader.torch.strided:
                        self._add_parts(tensor)
                        continue
                    storage = tensor.untyped_storage()
                    self._add(tensor, storage, (self._name_of(self._device_of(tensor)), reader.identity_of_storage(storage)))
                except UNREADABLE:
                    continue

    def _add(self, tensor: Any, storage: Any, key: StorageKey) -> None:
        if key[0] == META:
            return
        address = 0
        if key[0] != HOST:
            address = self._address_of(tensor)
            self.addresses.add(address)
        if self._is_known(key):
            return
        size = storage.nbytes()
        if not size:
            return
        known, elements, kind = self.found.get(key), tensor.numel(), self._kind_of(tensor, size)
        if known is None or known.elements < elements:
            kind = known.kind if known is not None and kind == PLAIN else kind
            self.found[key] = LooseTensor(key, self._name_of(tensor.dtype), tuple(tensor.shape), size, kind, elements, address)
        elif known.kind == PLAIN:
            known.kind = kind

    def _kind_of(self, tensor: Any, size_bytes: int) -> str:
        if not tensor.requires_grad:
            return MAPPED if size_bytes >= LEAST_MAPPED_BYTES and tensor.is_cpu and self._is_mapped(tensor) else PLAIN
        if not tensor.is_leaf:
            return AUTOGRAD
        gradient = self._reader.gradient(tensor)  # no object of Python's until somebody asks for it
        if gradient is not None:
            self._gradients.update(self._add_parts(gradient))
        return PLAIN if type(tensor) is self._reader.tensor_type else PARAMETER

    def _is_mapped(self, tensor: Any) -> bool:
        storages: list[TensorStorage] = []
        self._reader.add_storages(tensor, storages)
        return any(self._reader.is_on_disk(tensor, storage) for storage in storages)

    def _read_other(self, tensors: Sequence[Any]) -> None:
        """Read tensors of other classes. Most only wrap tensors that are found by themselves."""
        for tensor in tensors:
            if "fake_mode" not in state_of(tensor):  # which has no memory
                self._add_parts(tensor)

    def _add_parts(self, tensor: Any) -> list[StorageKey]:
        """Add the storages that a tensor of any class consists of, and return which these are."""
        storages: list[TensorStorage] = []
        self._reader.add_storages(tensor, storages)
        is_plain = type(tensor) in self._reader.plain_types
        shape = tuple(tensor.shape) if is_plain else ()
        for key, dtype, size, *_ in storages:
            if key[0] != META and size and not self._is_known(key) and key not in self.found:
                address = self._address_of(tensor) if is_plain and len(storages) == 1 and key[0] != HOST else 0
                self.found[key] = LooseTensor(key, dtype, shape, size, PLAIN, address=address)
        return [storage.key for storage in storages]

    def _name_of(self, thing: Any) -> str:
        """The name of a device or dtype."""
        name = self._names.get(thing)
        if name is None:
            name = self._names[thing] = str(thing).removeprefix("torch.")
        return name


def _let_go(found: list[Any]) -> None:
    """Empty the list; what the host dropped meanwhile is freed in its own thread."""
    while found:
        give_back([found.pop()])
