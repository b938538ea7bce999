"""What a module keeps beside its parameters, buffers and modules: tensors, modules and packed weights in plain attributes.

They lie there as they are, in lists and dicts of any depth, or in objects. Nothing foreign runs: see `instances`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import container_of, is_a, items_of, mro_of, name_of, package_of, state_of, values_of
from gpumodels.support.resident import resident

MAX_ITEMS: Final = 10_000
"""Of one list or dict, and of all that one attribute leads to; more is data that happens to lie there."""

MAX_DEPTH: Final = 6

MAX_OBJECTS: Final = 2
"""How many objects of unknown classes lie between a module and a module that it holds; tensors: one."""

HOLDERS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("bitsandbytes", "QuantState"): ("absmax", "code", "offset", "state2"),
    ("bitsandbytes", "MatmulLtState"): ("CB", "SB", "SCB", "SBt", "CBt", "CxB", "CxBt", "subB", "idx"),
    ("comfy", "ModelPatcher"): ("backup",),
    ("comfy", "ModelPatcherDynamic"): ("backup",),
    ("diffusers", "HookRegistry"): ("hooks",),
    ("diffusers", "GroupOffloadingHook"): ("group",),
    ("diffusers", "ModuleGroup"): ("cpu_param_dict",),
}
"""(package, class) to the attributes in which a library keeps tensors for a module: quantization state, copies in host memory."""

CACHE_MODULE: Final = "transformers.cache_utils"
"""Every class of it, caches and their layers, keeps tensors in its attributes."""

_LIBRARIES: Final = """
accelerate diffusers lightning lightning_fabric numpy pandas PIL pytorch_lightning safetensors tokenizers torch transformers
"""
CLOSED_PACKAGES: Final = (frozenset(sys.stdlib_module_names) - {"argparse"}) | frozenset(_LIBRARIES.split())
"""Whose objects are not looked into: they lead from one model to others (trainers, offloading hooks), or to no model at all."""

CLOSED_CLASSES: Final = frozenset({"BaseException", "Dataset", "DataLoader", "LRScheduler", "Optimizer", "Trainer"})
"""The same by the name of the class or one of its bases."""

NO_WEIGHTS: Final = ("patches", "optim", "grad", "main_", "exp_avg", "momentum")
"""In names of what is kept on a tensor: LoRAs that are counted as such, optimizer state, gradients."""


@resident
class Held(NamedTuple):
    """What is found in a module's attributes."""

    tensors: list[tuple[str, Any, bool]]
    """The attribute's name, the tensor, and whether it is a cache: made while the model runs, not part of it."""
    modules: list[tuple[str, Any, bool]]
    """The dotted path to the module, the module, and whether the path leads through an object that is no module."""
    packed: list[tuple[str, Any]]
    """The attribute's name and an object of TorchScript: packed weights."""


NOTHING: Final = Held([], [], [])


@resident
class Attributes:
    """Finds them in a module's instance dictionary."""

    def __init__(self, torch: ModuleType) -> None:
        self._tensor_type: type = torch.Tensor
        self._module_type: type = torch.nn.Module
        self._packed_type: type | None = getattr(torch._C, "ScriptObject", None)
        first_names = tuple(torch.nn.Module().__dict__)
        self._own_names = frozenset(first_names)
        self._count, self._last = len(first_names), first_names[-1]
        self._simple = _SIMPLE | {torch.dtype, torch.device, torch.Size, torch.layout, torch.Generator}
        self._empty: set[int] = set()
        """Objects in which nothing was found in this look: most modules of a model share one configuration."""

    def look_again(self) -> None:
        """A new look begins: an object may hold something by now, or be another one."""
        self._empty.clear()

    def of(self, state: Mapping[str, Any]) -> Held:
        """What the module's dictionary holds beside its parameters, buffers and modules."""
        if len(state) == self._count:
            return NOTHING
        # Torch's own names come first, but for modules that another torch pickled, or TorchScript made.
        items = list(islice(state.items(), self._count - 1, None))
        if not items or items[0][0] != self._last:
            items = list(state.items())
        found: Held | None = None
        simple, own_names = self._simple, self._own_names
        for name, value in items:
            if type(value) in simple or name in own_names:
                continue
            if found is None:
                found = Held([], [], [])
            _Walk(self, found, name).visit(value, name)
        return NOTHING if found is None else found

    def all_in(self, value: Any) -> Iterator[Any]:
        """The tensors in a library's object, a cache or an optimizer's state, however deep it keeps them."""
        found = Held([], [], [])
        _Walk(self, found, "", objects=0).visit(value, "")
        return (tensor for _, tensor, _ in found.tensors)

    def on_tensor(self, tensor: Any) -> list[Any]:
        """The tensors in a tensor's own attributes: what a wrapper is made of, scales, codebooks, a partition of it."""
        found = Held([], [], [])
        for name, value in values_of(tensor):
            if type(value) not in self._simple and not any(part in name for part in NO_WEIGHTS):
                _Walk(self, found, name).visit(value, name)
        return [inner for _, inner, _ in found.tensors]


@resident
class _Walk:
    """From one attribute to all that it leads to."""

    __slots__ = ("_attributes", "_found", "_is_cache", "_left", "_name", "_objects")

    def __init__(self, attributes: Attributes, found: Held, name: str, objects: int = MAX_OBJECTS) -> None:
        self._attributes = attributes
        self._found = found
        self._name = name
        self._is_cache = _names_a_cache(name)
        self._objects = objects
        self._left = MAX_ITEMS

    def visit(self, value: Any, path: str, depth: int = 0, objects: int = 0, is_cache: bool = False) -> None:
        """Add this value, or what it leads to; `objects` of unknown classes were passed on the way."""
        of = self._attributes
        kind = type(value)
        if kind in of._simple:
            return
        mro = mro_of(kind)
        if of._tensor_type in mro:
            if objects < 2:
                self._found.tensors.append((self._name, value, is_cache or self._is_cache))
        elif of._module_type in mro:
            self._found.modules.append((path, value, objects > 0))
        elif kind is of._packed_type:
            self._found.packed.append((self._name, value))
        elif depth <= MAX_DEPTH and self._left > 0:
            if (container := container_of(mro)) is not None:
                self._visit_items(value, container, path, depth, objects, is_cache)
            else:
                self._visit_object(value, kind, mro, path, depth, objects, is_cache)

    def _visit_items(self, value: Any, container: type, path: str, depth: int, objects: int, is_cache: bool) -> None:
        keys, values = items_of(value, container, self._left)
        simple = self._attributes._simple
        self._left -= len(values)
        if simple.issuperset(map(type, values)):
            return
        for position, item in enumerate(values):
            if type(item) not in simple:
                name = str(position)
                if keys is not None and type(keys[position]) in (str, int):
                    name = str(keys[position])
                is_other = keys is not None and _names_a_cache(name)
                self.visit(item, f"{path}.{name}", depth + 1, objects, is_cache or is_other)

    def _visit_object(
        self, value: Any, kind: type, mro: tuple[type, ...], path: str, depth: int, objects: int, is_cache: bool
    ) -> None:
        known = _holder(kind)
        if known is not None:
            inside = state_of(value)
            is_cache = is_cache or kind.__module__ == CACHE_MODULE
            for name in known or tuple(inside):
                self.visit(inside.get(name), f"{path}.{name}", depth + 1, objects, is_cache)
            return
        empty = self._attributes._empty
        if objects >= self._objects or id(value) in empty or _is_closed(kind, mro):
            return
        found = self._found
        before = len(found.tensors) + len(found.modules) + len(found.packed)
        is_cache = is_cache or "Cache" in name_of(kind)
        for name, item in values_of(value):
            self._left -= 1
            if type(item) not in self._attributes._simple and not any(part in name for part in NO_WEIGHTS):
                self.visit(item, f"{path}.{name}", depth + 1, objects + 1, is_cache or _names_a_cache(name))
        if objects == 0 and len(found.tensors) + len(found.modules) + len(found.packed) == before:
            empty.add(id(value))


def offloaded_copy(state: Mapping[str, Any], name: str) -> Any:
    """The copy in host memory that accelerate keeps for a parameter that is on `meta` now; None where there is none."""
    hook = state.get("_hf_hook")
    waiting = [hook]
    while waiting:
        hook = waiting.pop()
        inside = state_of(hook)
        waiting += inside.get("hooks", ()) if type(hook).__name__ == "SequentialHook" else ()
        place: Any = inside.get("weights_map")
        key = name
        while type(place).__name__ in ("PrefixedDataset", "OffloadedWeightsLoader"):
            if type(place).__name__ == "PrefixedDataset":
                place, key = place.dataset, f"{place.prefix}{key}"
            else:
                place = place.state_dict
        if is_a(place, dict) and dict.__contains__(place, key):
            return place[key]
    return None


_SIMPLE: Final = frozenset(
    {
        int,
        float,
        complex,
        str,
        bytes,
        bool,
        type(None),
        type,
        range,
        slice,
        partial,
        FunctionType,
        BuiltinFunctionType,
        MethodType,
    }
    | {ModuleType, type(Ellipsis)}
)

_PACKAGES: Final = frozenset(package for package, _ in HOLDERS)


def _is_closed(kind: type, mro: tuple[type, ...]) -> bool:
    """Whether objects of this class are not looked into."""
    if kind is SimpleNamespace:
        return False
    package = package_of(kind)
    if package is None or package in CLOSED_PACKAGES or Enum in mro or type in mro:
        return True
    return any(name_of(base) in CLOSED_CLASSES for base in mro)


def _holder(kind: type) -> tuple[str, ...] | None:
    """The attributes to look into, empty for all of them; None for a class that no library is known to use for it."""
    package = package_of(kind)
    if package == "transformers" and kind.__module__ == CACHE_MODULE:
        return ()
    return HOLDERS.get((package, name_of(kind))) if package in _PACKAGES else None


def _names_a_cache(name: str) -> bool:
    return "cache" in name or name.startswith("past_key")
