"""Finds what a module keeps in plain attributes, unregistered with torch: tensors, modules and packed weights.

They may be the attribute's value itself, or lie in nested lists and dicts or in objects. No foreign code runs: see `instances`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import container_of, is_a, items_of, mro_of, name_of, package_of, state_of, values_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import packed_type
from gpumodels.tensors.packed_parameters import is_tensor_of_a_kernel
from gpumodels.tensors.paged_modules import NOTED_BESIDE, notes_paging

MAX_ITEMS: Final = 10_000
"""The most items visited in a list or dict, and from one attribute on in total; anything larger is data, not weights."""

FEW_ITEMS: Final = 16
"""What has no more is looked through at once."""

MAX_DEPTH: Final = 6

MAX_OBJECTS: Final = 2
"""The most objects of unknown classes on the path from a module to a module that it holds; to a tensor it is one."""

HOLDING_ATTRIBUTES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("bitsandbytes", "QuantState"): ("absmax", "code", "offset", "state2"),
    ("bitsandbytes", "MatmulLtState"): ("CB", "SB", "SCB", "SBt", "CBt", "CxB", "CxBt", "subB", "idx"),
    ("comfy", "ModelPatcher"): ("backup",),
    ("comfy", "ModelPatcherDynamic"): (),
    ("comfy", "LowVramPatch"): (),
    ("diffusers", "HookRegistry"): ("hooks",),
    ("diffusers", "GroupOffloadingHook"): ("group",),
    ("diffusers", "ModuleGroup"): ("cpu_param_dict",),
}
"""By (package, class): the attributes in which a library keeps a module's tensors, such as quantization state or host copies.

With dynamic VRAM, a patcher's backup is of what is on the device: small weights, whose originals are mapped from their file.
"""

CACHE_MODULE: Final = "transformers.cache_utils"
"""All classes of this module, caches and their layers, keep tensors in their attributes."""

_LIBRARIES: Final = """
accelerate deepspeed diffusers lightning lightning_fabric numpy pandas PIL pytorch_lightning safetensors tokenizers torch
transformers
"""
CLOSED_PACKAGES: Final = (frozenset(sys.stdlib_module_names) - {"argparse"}) | frozenset(_LIBRARIES.split())
"""Packages whose objects are not inspected: they lead from one model to others (trainers, offloading hooks), or to none."""

CLOSED_CLASSES: Final = frozenset({"BaseException", "Dataset", "DataLoader", "LRScheduler", "Optimizer", "Trainer"})
"""Objects are not inspected either if their class or one of its bases has one of these names."""

OPTIMIZER_SUFFIXES: Final = ("Optimizer", "Optim")
"""Nor if one of these names ends so: libraries wrap torch's optimizers in classes that keep master weights beside them."""

NO_WEIGHTS: Final = ("patches", "optim", "grad", "main_", "exp_avg", "momentum")
"""Parts of attribute names that mean no weights: LoRAs (which are counted separately), optimizer state, gradients."""


@never_pickled
class ExtraTensors(NamedTuple):
    """What was found in a module's plain attributes."""

    tensors: list[tuple[str, Any, bool]]
    """The attribute's name, the tensor, and whether it belongs to a cache: made while the model runs, not part of it."""
    modules: list[tuple[str, Any, bool]]
    """The dotted path to the module, the module, and whether the path leads through an object that isn't a module."""
    packed: list[tuple[str, Any]]
    """The attribute's name, and a TorchScript object with packed weights."""


NO_EXTRA_TENSORS: Final = ExtraTensors([], [], [])


@never_pickled
class ExtraTensorFinder:
    """Finds extra tensors in instance dictionaries of modules, and in other objects."""

    def __init__(self, torch: ModuleType) -> None:
        self._tensor_type: type = torch.Tensor
        self._module_type: type = torch.nn.Module
        self._packed_type: type | None = packed_type(torch)
        first_names = tuple(torch.nn.Module().__dict__)
        self._other_names = frozenset(first_names) | {"forward"}
        """Attributes that `torch.nn.Module.__init__` sets; and what replaces `forward`, into which `forward_holders` looks."""
        self._count, self._last = len(first_names), first_names[-1]
        self._simple = _SIMPLE | {torch.dtype, torch.device, torch.Size, torch.layout, torch.Generator}
        """Types that can't hold tensors."""
        self._empty: set[int] = set()
        """Ids of objects found empty during this scan: most modules of a model share one configuration object."""

    def begin_scan(self) -> None:
        """Forget which objects were empty: they may have changed, and their ids may have been reused."""
        self._empty.clear()

    def of(self, state: Mapping[str, Any]) -> ExtraTensors:
        """What a module's instance dictionary holds besides its registered parameters, buffers and modules."""
        if len(state) == self._count:
            return NO_EXTRA_TENSORS
        # Torch's own names come first, except in modules pickled by another version of torch or made by TorchScript.
        items = list(islice(state.items(), self._count - 1, None))
        if not items or items[0][0] != self._last:
            items = list(state.items())
        found: ExtraTensors | None = None
        simple, other_names = self._simple, self._other_names
        for name, value in items:
            kind = type(value)
            if kind in simple or name in other_names:
                continue
            if (kind is tuple or kind is list) and len(value) <= FEW_ITEMS and simple.issuperset(map(type, value)):
                continue  # most attributes of most layers: sizes, and in ComfyUI empty lists of functions
            if name in NOTED_BESIDE and notes_paging(state, name, value):
                continue
            if found is None:
                found = ExtraTensors([], [], [])
            _AttributeWalk(self, found, name).visit(value, name)
        return NO_EXTRA_TENSORS if found is None else found

    def tensors_inside(self, value: Any) -> Iterator[Any]:
        """The tensors in a library's object, such as a cache or an optimizer's state, at any depth up to MAX_DEPTH."""
        found = ExtraTensors([], [], [])
        _AttributeWalk(self, found, "", max_objects=0).visit(value, "")
        return (tensor for _, tensor, _ in found.tensors)

    def tensors_on(self, tensor: Any) -> list[Any]:
        """The tensors in a tensor's own attributes: the parts of a wrapper, scales, codebooks, a partition of it."""
        found = ExtraTensors([], [], [])
        for name, value in values_of(tensor):
            if type(value) not in self._simple and not any(part in name for part in NO_WEIGHTS):
                _AttributeWalk(self, found, name).visit(value, name)
        return [inner for _, inner, _ in found.tensors]


@never_pickled
class _AttributeWalk:
    """Visits everything that an attribute leads to, and adds what it finds to `found`."""

    __slots__ = ("_finder", "_found", "_is_cache", "_left", "_max_objects", "_name")

    def __init__(self, finder: ExtraTensorFinder, found: ExtraTensors, name: str, max_objects: int = MAX_OBJECTS) -> None:
        self._finder = finder
        self._found = found
        self._name = name
        self._is_cache = _names_a_cache(name)
        self._max_objects = max_objects
        self._left = MAX_ITEMS

    def visit(self, value: Any, path: str, depth: int = 0, objects: int = 0, is_cache: bool = False) -> None:
        """Add this value, or what it leads to.

        Args:
            value: the value.
            path: its dotted path from the module.
            depth: how many containers and objects are on the path.
            objects: how many objects of unknown classes are on the path.
            is_cache: whether the path leads through a cache.
        """
        finder = self._finder
        kind = type(value)
        if kind in finder._simple:
            return
        mro = mro_of(kind)
        if finder._tensor_type in mro:
            if objects < 2:
                self._found.tensors.append((self._name, value, is_cache or self._is_cache))
        elif finder._module_type in mro:
            self._found.modules.append((path, value, objects > 0))
        elif kind is finder._packed_type:
            self._found.packed.append((self._name, value))
        elif depth <= MAX_DEPTH and self._left > 0:
            if (container := container_of(mro)) is not None:
                self._visit_items(value, container, path, depth, objects, is_cache)
            else:
                self._visit_object(value, kind, mro, path, depth, objects, is_cache)

    def _visit_items(self, value: Any, container: type, path: str, depth: int, objects: int, is_cache: bool) -> None:
        keys, values = items_of(value, container, self._left)
        simple = self._finder._simple
        self._left -= len(values)
        if simple.issuperset(map(type, values)):
            return
        for position, item in enumerate(values):
            if type(item) not in simple:
                name = str(position)
                if keys is not None and type(keys[position]) in (str, int):
                    name = str(keys[position])
                in_cache = keys is not None and _names_a_cache(name)
                self.visit(item, f"{path}.{name}", depth + 1, objects, is_cache or in_cache)

    def _visit_object(
        self, value: Any, kind: type, mro: tuple[type, ...], path: str, depth: int, objects: int, is_cache: bool
    ) -> None:
        holding_attributes = _holding_attributes(kind)
        if holding_attributes is not None:
            state = state_of(value)
            is_cache = is_cache or kind.__module__ == CACHE_MODULE
            for name in tuple(state) if holding_attributes is _ALL else holding_attributes:
                self.visit(state.get(name), f"{path}.{name}", depth + 1, objects, is_cache)
            return
        if is_tensor_of_a_kernel(state := state_of(value)):
            self._visit_tensor_of_a_kernel(state["storage"], path, depth, objects, is_cache)
            return
        empty = self._finder._empty
        if objects >= self._max_objects or id(value) in empty or is_closed(kind, mro):
            return
        found = self._found
        before = len(found.tensors) + len(found.modules) + len(found.packed)
        is_cache = is_cache or "Cache" in name_of(kind)
        for name, item in values_of(value):
            self._left -= 1
            if type(item) not in self._finder._simple and not any(part in name for part in NO_WEIGHTS):
                self.visit(item, f"{path}.{name}", depth + 1, objects + 1, is_cache or _names_a_cache(name))
        if objects == 0 and len(found.tensors) + len(found.modules) + len(found.packed) == before:
            empty.add(id(value))

    def _visit_tensor_of_a_kernel(self, storage: Any, path: str, depth: int, objects: int, is_cache: bool) -> None:
        """Add the tensor in which a kernel's own kind of tensor keeps its values, perhaps inside an object with their layout."""
        self.visit(state_of(storage).get("data", storage), path, depth + 1, objects, is_cache)


def offloaded_copy(state: Mapping[str, Any], name: str) -> Any:
    """The host-memory copy that accelerate keeps of a parameter that is on `meta` now; None if there is none.

    Args:
        state: the module's instance dictionary.
        name: the parameter's name in the module.
    """
    for key, loader in _offloaded_weights(state, name):
        weights = state_of(loader).get("state_dict") if type(loader).__name__ == "OffloadedWeightsLoader" else loader
        if is_a(weights, dict) and dict.__contains__(weights, key):
            return dict.__getitem__(weights, key)
    return None


def offloaded_file(state: Mapping[str, Any], name: str) -> str | None:
    """The file from which accelerate reads a parameter that is on `meta` now; None if there is none.

    Args:
        state: the module's instance dictionary.
        name: the parameter's name in the module.
    """
    for key, loader in _offloaded_weights(state, name):
        loader_state = state_of(loader) if type(loader).__name__ == "OffloadedWeightsLoader" else {}
        index, folder = loader_state.get("index"), loader_state.get("save_folder")
        entry = dict.get(index, key) if is_a(index, dict) else None
        if not is_a(entry, dict):
            continue
        file = dict.get(entry, "safetensors_file")
        if file is None and type(folder) in (str, type(Path())):
            file = f"{folder}/{key}.dat"
        if type(file) is str:
            return os.path.abspath(file)  # noqa: PTH100  # symlinks stay
    return None


def _offloaded_weights(state: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """The parameter's key, and what accelerate's hooks on the module restore it from by this key."""
    hook = state.get("_hf_hook")
    waiting = [hook]
    while waiting:
        hook = waiting.pop()
        hook_state = state_of(hook)
        waiting += hook_state.get("hooks", ()) if type(hook).__name__ == "SequentialHook" else ()
        weights: Any = hook_state.get("weights_map")
        key = name
        while type(weights).__name__ == "PrefixedDataset":
            weights, key = weights.dataset, f"{weights.prefix}{key}"
        if weights is not None:
            yield key, weights


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

_ALL: Final = ("*",)
"""Stands for all attributes of an object."""

_PACKAGES: Final = frozenset(package for package, _ in HOLDING_ATTRIBUTES)


def is_closed(kind: type, mro: tuple[type, ...]) -> bool:
    """Whether objects of this class are not inspected."""
    if kind is SimpleNamespace:
        return False
    package = package_of(kind)
    if package is None or package in CLOSED_PACKAGES or Enum in mro or type in mro:
        return True
    return any(name_of(base) in CLOSED_CLASSES or name_of(base).endswith(OPTIMIZER_SUFFIXES) for base in mro)


def _holding_attributes(kind: type) -> tuple[str, ...] | None:
    """The attributes in which objects of this class keep tensors, or _ALL; None for an unknown class."""
    package = package_of(kind)
    if package == "transformers" and kind.__module__ == CACHE_MODULE:
        return _ALL
    return HOLDING_ATTRIBUTES.get((package, name_of(kind))) if package in _PACKAGES else None


def _names_a_cache(name: str) -> bool:
    return "cache" in name or name.startswith("past_key")
