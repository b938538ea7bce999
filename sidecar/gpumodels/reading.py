"""One module's own state as plain data: its children and the storages of its tensors. No strong reference leaves this room."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.failures import Failures
from gpumodels.provenance import Origin, Provenance

META: Final = "meta"


class StorageReading(NamedTuple):
    """A storage that a module's parameter or buffer keeps alive."""

    key: tuple[str, int]
    """Device and the storage's identity: equal for all views, and for all who share it."""
    dtype: str
    size_bytes: int
    """Of the whole storage, since a small view pins all of it; on `meta` what it would take."""
    origin: Origin | None


class ModuleReading(NamedTuple):
    """What one module itself holds."""

    class_name: str
    children: tuple[tuple[str, int], ...]
    """Names and ids of the modules below."""
    storages: tuple[StorageReading, ...]
    parameters: tuple[tuple[int, int], ...]
    """Its own parameters: identity and elements."""
    tensor_names: tuple[str, ...]


class ModuleReader:
    """Reads modules without running their code: instance dictionaries only, no attribute look-ups on modules."""

    def __init__(self, torch: ModuleType, provenance: Provenance, failures: Failures) -> None:
        self._provenance = provenance
        self._failures = failures
        self._plain_types = {torch.Tensor, torch.nn.Parameter}
        self._tensor_type = torch.Tensor
        self._device_names: dict[Any, str] = {}
        self._dtype_names: dict[Any, str] = {}
        # Tensor subclasses run their own __torch_function__ at every attribute access unless it is disabled.
        self._without_overrides: Any = getattr(torch._C, "DisableTorchFunctionSubclass", None) or torch._C.DisableTorchFunction

    def read(self, ref: weakref.ref[Any], add: Callable[[Any], None]) -> ModuleReading | None:
        """The module's state; None if it died or is not initialised yet.

        Args:
            ref: the module.
            add: given each child: a module that registered with no hook is known from then on.
        """
        module = ref()
        if module is None:
            return None
        state = module.__dict__
        if "_modules" not in state or "_parameters" not in state or "_buffers" not in state:
            return None  # its __init__ hasn't run yet
        children: list[tuple[str, int]] = []
        for name, child in list(state["_modules"].items()):
            if child is not None:
                children.append((name, id(child)))
                add(child)
        storages: list[StorageReading] = []
        names: list[str] = []
        parameters: list[tuple[int, int]] = []
        for name, tensor in list(state["_parameters"].items()):
            if tensor is None:
                continue
            names.append(name)
            parameters.append((id(tensor), self._elements(tensor)))
            self._read_tensor(tensor, storages)
        for name, tensor in list(state["_buffers"].items()):
            if tensor is not None:
                names.append(name)
                self._read_tensor(tensor, storages)
        return ModuleReading(type(module).__name__, tuple(children), tuple(storages), tuple(parameters), tuple(names))

    def _elements(self, tensor: Any) -> int:
        if type(tensor) in self._plain_types:
            return int(tensor.numel())
        with self._without_overrides():
            return int(tensor.numel())

    def _read_tensor(self, tensor: Any, storages: list[StorageReading]) -> None:
        """Add the storages behind a tensor; a subclass that is made of others (DTensor, torchao's) is taken apart."""
        with self._failures.guard("reading a tensor"):
            if type(tensor) in self._plain_types:
                storages.append(self._storage_of(tensor))
                return
            with self._without_overrides():
                flatten = getattr(type(tensor), "__tensor_flatten__", None)
                if flatten is None:
                    storages.append(self._storage_of(tensor))
                    return
                for name in flatten(tensor)[0]:
                    inner = getattr(tensor, name)
                    if isinstance(inner, self._tensor_type):
                        self._read_tensor(inner, storages)

    def _storage_of(self, tensor: Any) -> StorageReading:
        device = tensor.device
        device_name = self._device_names.get(device)
        if device_name is None:
            device_name = self._device_names[device] = str(device)
        dtype = tensor.dtype
        dtype_name = self._dtype_names.get(dtype)
        if dtype_name is None:
            dtype_name = self._dtype_names[dtype] = str(dtype).removeprefix("torch.")
        storage = tensor.untyped_storage()
        return StorageReading((device_name, storage._cdata), dtype_name, storage.nbytes(), self._provenance.origin_of(tensor))
