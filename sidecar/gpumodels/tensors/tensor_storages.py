"""Finds the storages behind a tensor, each with device, dtype and size. Subclasses are taken apart; nothing is computed.

A tensor without a readable storage is counted by its number of elements; if that is unknown as well, it counts as unread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.provenance.origin import MAPPED, Origin
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.support.instances import mro_of, name_of, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import storage_identity, tensor_identity, without_overrides
from gpumodels.support.weak_table import KeyedRef
from gpumodels.tensors.extra_tensors import ExtraTensorFinder
from gpumodels.tensors.packed_parameters import stated_elements
from gpumodels.tensors.paged_modules import is_from_file

META: Final = "meta"
UNREADABLE: Final = (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError)
"""What torch raises if a tensor has no storage, or lacks another property."""
MAX_DEPTH: Final = 4
"""How deep tensors that consist of other tensors are taken apart."""

BLOCK_TYPE_ATTRIBUTES: Final = ("tensor_type", "quant_type")
"""Attributes in which a tensor that holds a GGUF file's blocks keeps their type: of ComfyUI's node packs and of diffusers."""
BLOCK_TYPE: Final = "GGMLQuantizationType"
TORCH_DTYPES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""torch's names of those types of GGUF that are none of quantized blocks."""

_COMPRESSED_ROWS: Final = ("crow_indices", "col_indices", "values")
_COMPRESSED_COLUMNS: Final = ("ccol_indices", "row_indices", "values")
SPARSE: Final = {
    "sparse_coo": ("_indices", "_values"),
    "sparse_csr": _COMPRESSED_ROWS,
    "sparse_bsr": _COMPRESSED_ROWS,
    "sparse_csc": _COMPRESSED_COLUMNS,
    "sparse_bsc": _COMPRESSED_COLUMNS,
}
"""By layout, the methods that return the tensors which hold the memory."""


@never_pickled
class TensorStorage(NamedTuple):
    """A storage that a tensor keeps alive."""

    key: tuple[str, int]
    """Device and the storage's identity, equal for all tensors that share it. The identity is negative if there is no storage."""
    dtype: str
    size_bytes: int
    """The size of the entire storage, since even a small view keeps all of it alive; on `meta`, the size that it would have."""
    origin: Origin | None
    """Where its values came from, if that is known."""
    tensor: str
    """The name under which the module holds the tensor."""


@never_pickled
class MemoryAddress(NamedTuple):
    """Where a storage is."""

    key: tuple[str, int]
    """Device and identity, as of a TensorStorage."""
    dtype: str
    size_bytes: int
    address: int


@never_pickled
class TensorReader:
    """Reads tensors of any class by torch's own descriptors, so that a subclass's overrides aren't called."""

    def __init__(self, torch: ModuleType, origin_tracker: OriginTracker, failures: Failures) -> None:
        self.torch = torch
        self.failures = failures
        self._origin_tracker = origin_tracker
        self.plain_types = frozenset({torch.Tensor, torch.nn.Parameter})
        self.patchers: Mapping[int, KeyedRef] = {}
        """By id of a module, ComfyUI's patcher that keeps the weights which it replaced in the module."""
        """Tensor classes whose attributes can be read directly; subclasses may run their own code."""
        self.tensor_type = torch.Tensor
        self.attributes = ExtraTensorFinder(torch)
        self._device_names: dict[Any, str] = {}
        self._dtype_names: dict[Any, str] = {}
        self._guard = failures.guard("reading a tensor")
        # Tensor subclasses run their own __torch_function__ at every attribute access unless it is disabled.
        self._without_overrides = without_overrides(torch)
        self._without_gradients: Any = torch.no_grad
        self._strided = torch.strided
        self._sparse = {getattr(torch, name): methods for name, methods in SPARSE.items() if hasattr(torch, name)}
        tensor = torch.Tensor
        self._layout_of, self._device_of, self._dtype_of = tensor.layout.__get__, tensor.device.__get__, tensor.dtype.__get__
        self._untyped_storage: Any = tensor.untyped_storage
        self._is_meta, self._identity_of = tensor.is_meta.__get__, tensor_identity(torch)
        self.identity_of_storage = storage_identity(torch)

    def is_on_disk(self, tensor: Any, storage: TensorStorage) -> bool:
        """Whether this storage of the tensor is mapped from a file, or in no memory."""
        if storage.key[0] == META or (storage.origin is not None and storage.origin.source == MAPPED):
            return True
        for one in [tensor] if type(tensor) in self.plain_types else self.attributes.tensors_on(tensor):
            with suppress(RuntimeError, NotImplementedError, TypeError):
                of_one = self.tensor_type.untyped_storage(one)
                if self.identity_of_storage(of_one) == storage.key[1]:
                    return is_from_file(of_one)
        return False

    def add_storages(self, tensor: Any, storages: list[TensorStorage], name: str = "") -> int:
        """Add the storages behind a tensor; one that consists of others (DTensor, torchao's, sparse) is taken apart.

        Args:
            tensor: a tensor of any class.
            storages: the list to add to.
            name: the tensor's name in its module.

        Returns:
            How many tensors had an unknown size.
        """
        unread = 1
        with self._guard:
            if type(tensor) in self.plain_types and tensor.layout is self._strided and not tensor.__dict__:
                inner_tensors = [tensor]
            else:
                with self._without_overrides():
                    inner_tensors = self._inner_tensors(tensor)
            unread = 0
            for inner in inner_tensors:
                try:
                    storages.append(self._storage_of(inner, tensor, name))
                except UNREADABLE:
                    unread += 1
        return unread

    def elements(self, tensor: Any) -> int:
        """The tensor's number of elements; of a packed tensor, or a DeepSpeed partition, that of the original if stated."""
        if type(tensor) in self.plain_types and not tensor.__dict__:
            return int(tensor.numel())
        with self._without_overrides():
            try:
                count = int(self.tensor_type.numel(tensor))
            except UNREADABLE:
                return 0
            stated = stated_elements(state_of(tensor))
            return count if stated is None else stated

    def is_meta(self, tensor: Any) -> bool:
        """Whether the tensor is on the `meta` device, which has no memory."""
        with self._without_overrides():
            return bool(self._is_meta(tensor))

    def note_offloaded(self, tensor: Any, path: str) -> None:
        """Note that this tensor on `meta` stands for values in this file."""
        if type(tensor) in self.plain_types:
            self._origin_tracker.note_offloaded(tensor, path)

    def gradient(self, parameter: Any) -> Any:
        """The parameter's gradient, if any; None for tensors that aren't leaves, for which torch would warn."""
        if type(parameter) in self.plain_types:
            return parameter.grad if parameter.is_leaf else None
        if parameter is None:
            return None
        with self._without_overrides():
            return self.tensor_type.grad.__get__(parameter) if self.tensor_type.is_leaf.__get__(parameter) else None

    def stamp(self, tensor: Any) -> tuple[Any, ...]:
        """Devices, identities and sizes of the storages behind a tensor of any class, to be compared with an earlier stamp."""
        found: list[Any] = []
        with self.failures.guard("checking a tensor for changes"), self._without_overrides():
            for inner in self._inner_tensors(tensor):
                try:
                    storage = self._untyped_storage(inner)
                    found += (self._device_of(inner), self.identity_of_storage(storage), storage.nbytes())
                except UNREADABLE:
                    found.append(id(inner))
        return tuple(found)

    def addresses(self, tensor: Any, address_of: Callable[[Any], int]) -> list[MemoryAddress]:
        """Where the storages behind a tensor of any class are; those that don't tell are left out.

        Args:
            tensor: a tensor.
            address_of: gives a storage's address.
        """
        found: list[MemoryAddress] = []
        with self.failures.guard("reading where a tensor is"), self._without_overrides():
            for inner in self._inner_tensors(tensor):
                with suppress(*UNREADABLE):
                    storage = self._untyped_storage(inner)
                    device = self._name_of_device(self._device_of(inner))
                    dtype = _type_of_blocks(state_of(inner)) or self._name_of_dtype(self._dtype_of(inner))
                    key = device, self.identity_of_storage(storage)
                    found.append(MemoryAddress(key, dtype, storage.nbytes(), address_of(storage)))
        return found

    def _inner_tensors(self, tensor: Any, depth: int = 0) -> list[Any]:
        """The tensors that hold the memory: those that it consists of, or itself and the tensors in its attributes."""
        layout = self._layout_of(tensor)
        if layout is not self._strided:
            methods = self._sparse.get(layout)
            if methods is not None:
                with self._without_gradients():
                    return [getattr(self.tensor_type, method)(tensor) for method in methods]
            if type(tensor) in self.plain_types:
                return [tensor]
        parts: list[Any] = []
        if depth < MAX_DEPTH and not _is_fake(state_of(tensor)):
            parts = [inner for inner in self.attributes.tensors_on(tensor) if inner is not tensor]
            if not parts and type(tensor) not in self.plain_types:
                parts = self._flattened(tensor)
        if not parts:
            return [tensor]
        found = [] if self._is_nominal(tensor) else [tensor]
        for inner in parts:
            found += self._inner_tensors(inner, depth + 1)
        return found

    def _flattened(self, tensor: Any) -> list[Any]:
        """The parts that the class's `__tensor_flatten__` names, for classes that don't keep them in plain attributes."""
        flatten = getattr(type(tensor), "__tensor_flatten__", None)
        if flatten is None:
            return []
        parts = [getattr(tensor, name) for name in flatten(tensor)[0]]
        return [part for part in parts if self.tensor_type in mro_of(type(part))]

    def _is_nominal(self, tensor: Any) -> bool:
        """Whether its storage has a size but no memory, as a wrapper subclass's."""
        if type(tensor) in self.plain_types:
            return False
        try:
            storage = self._untyped_storage(tensor)
            return storage.data_ptr() == 0 and storage.nbytes() > 0 and not self._is_meta(tensor)
        except UNREADABLE:
            return True

    def _storage_of(self, tensor: Any, named: Any, name: str) -> TensorStorage:
        """The tensor's storage; `named` is the tensor that the module holds: `tensor` itself, or one that consists of it."""
        if type(tensor) in self.plain_types and tensor is named:
            return self._storage(tensor, named, name)
        with self._without_overrides():
            return self._storage(tensor, named, name)

    def plain_storage(self, tensor: Any, storage: Any, device: Any, identity: int, size_bytes: int, name: str) -> TensorStorage:
        """The storage of a strided tensor of torch's own class without attributes, as nearly all tensors are."""
        dtype = tensor.dtype
        return TensorStorage(
            (self._device_names.get(device) or self._name_of_device(device), identity),
            self._dtype_names.get(dtype) or self._name_of_dtype(dtype),
            size_bytes,
            self._origin_tracker.origin_of(tensor, storage),
            name,
        )

    def _name_of_device(self, device: Any) -> str:
        return self._device_names.setdefault(device, str(device))

    def _name_of_dtype(self, dtype: Any) -> str:
        return self._dtype_names.setdefault(dtype, str(dtype).removeprefix("torch."))

    def _storage(self, tensor: Any, named: Any, name: str) -> TensorStorage:
        device_name = self._name_of_device(self._device_of(tensor))
        dtype_name = _type_of_blocks(state_of(tensor)) or self._name_of_dtype(self._dtype_of(tensor))
        try:
            storage = self._untyped_storage(tensor)
        except UNREADABLE:
            size = self.tensor_type.numel(tensor) * self.tensor_type.element_size(tensor)
            return TensorStorage((device_name, -self._identity_of(tensor)), dtype_name, size, None, name)
        origin = None
        if tensor is named or self._layout_of(named) is self._strided:  # others have no storage of their own
            tracker = self._origin_tracker
            origin = tracker.origin_of(named, storage if named is tensor else tracker.tensors.storage_of(named))
        return TensorStorage((device_name, self.identity_of_storage(storage)), dtype_name, storage.nbytes(), origin, name)


def _type_of_blocks(state: dict[str, Any]) -> str | None:
    """`Q8_0`: the type of the blocks that a tensor of bytes holds; None if it states none.

    Args:
        state: the tensor's instance dictionary.
    """
    for attribute in BLOCK_TYPE_ATTRIBUTES:
        stated = state.get(attribute)
        if name_of(type(stated)) == BLOCK_TYPE:
            name = state_of(stated).get("_name_")  # where an enumeration's member keeps its name
            return TORCH_DTYPES.get(name, name) if type(name) is str else None
    return None


def _is_fake(state: dict[str, Any]) -> bool:
    """Whether it is a FakeTensor, which has no memory; its attributes only describe the tensor that it imitates."""
    return "fake_mode" in state
