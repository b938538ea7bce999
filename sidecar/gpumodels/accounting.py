"""A tensor's bytes: the storages behind it, each with device, dtype and size. Subclasses are taken apart; nothing is computed."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.attributes import Attributes
from gpumodels.failures import Failures
from gpumodels.origins import Origin
from gpumodels.provenance import Provenance
from gpumodels.resident import resident

META: Final = "meta"


@resident
class StorageReading(NamedTuple):
    """A storage that a tensor keeps alive."""

    key: tuple[str, int]
    """Device and the storage's identity: equal for all views, and for all who share it."""
    dtype: str
    size_bytes: int
    """Of the whole storage, since a small view pins all of it; on `meta` what it would take."""
    origin: Origin | None
    tensor: str
    """The name under which its module holds it."""


@resident
class TensorAccounts:
    """Reads tensors of any class."""

    def __init__(self, torch: ModuleType, provenance: Provenance, failures: Failures) -> None:
        self._provenance = provenance
        self._failures = failures
        self.plain_types = frozenset({torch.Tensor, torch.nn.Parameter})
        """Tensors whose attributes can be read as they are; subclasses may run code of their own."""
        self.tensor_type = torch.Tensor
        self.attributes = Attributes(torch.Tensor, frozenset(torch.nn.Module().__dict__))
        self._device_names: dict[Any, str] = {}
        self._dtype_names: dict[Any, str] = {}
        self._guard = failures.guard("reading a tensor")
        # Tensor subclasses run their own __torch_function__ at every attribute access unless it is disabled.
        self._without_overrides: Any = getattr(torch._C, "DisableTorchFunctionSubclass", None) or torch._C.DisableTorchFunction

    def add_storages(self, tensor: Any, storages: list[StorageReading], name: str = "") -> None:
        """Add the storages behind a tensor; one that is made of others (DTensor, torchao's) is taken apart."""
        with self._guard:
            if type(tensor) in self.plain_types:
                storages.append(self._storage_of(tensor, tensor, name))
            else:
                with self._without_overrides():
                    storages.extend(self._storage_of(inner, tensor, name) for inner in self._inner_tensors(tensor))

    def elements(self, tensor: Any) -> int:
        """How many numbers the tensor stands for."""
        if type(tensor) in self.plain_types:
            return int(tensor.numel())
        with self._without_overrides():
            return int(tensor.numel())

    def gradient(self, parameter: Any) -> Any:
        """Its gradient, if it has one; None for what can have none, where asking would warn."""
        if type(parameter) in self.plain_types:
            return parameter.grad if parameter.is_leaf else None
        if parameter is None:
            return None
        with self._without_overrides():
            return parameter.grad if parameter.is_leaf else None

    def stamp(self, tensor: Any) -> tuple[Any, ...]:
        """Devices, identities and sizes of the storages behind a tensor that is no plain one."""
        found: list[Any] = []
        with self._failures.guard("looking at a tensor"), self._without_overrides():
            for inner in self._inner_tensors(tensor):
                storage = inner.untyped_storage()
                found += (inner.device, storage._cdata, storage.nbytes())
        return tuple(found)

    def _inner_tensors(self, tensor: Any) -> list[Any]:
        """The tensors that hold the memory: those it is made of, or itself and what its library keeps beside it."""
        flatten = getattr(type(tensor), "__tensor_flatten__", None)
        if flatten is None:
            return [tensor, *self.attributes.beside(tensor)]
        found: list[Any] = []
        for name in flatten(tensor)[0]:
            inner = getattr(tensor, name)
            if isinstance(inner, self.tensor_type):
                found += self._inner_tensors(inner)
        return found

    def _storage_of(self, tensor: Any, named: Any, name: str) -> StorageReading:
        """The tensor's storage; `named` is the tensor that the host knows it by."""
        device = tensor.device
        device_name = self._device_names.get(device)
        if device_name is None:
            device_name = self._device_names[device] = str(device)
        dtype = tensor.dtype
        dtype_name = self._dtype_names.get(dtype)
        if dtype_name is None:
            dtype_name = self._dtype_names[dtype] = str(dtype).removeprefix("torch.")
        storage = tensor.untyped_storage()
        origin = self._provenance.origin_of(named)
        return StorageReading((device_name, storage._cdata), dtype_name, storage.nbytes(), origin, name)
