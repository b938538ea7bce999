"""What ComfyUI's own model manager knows: the models that it loaded onto their devices, which "unload models" takes off again.

A node pack may hold a model that the manager has never heard of, or that it heard of but didn't load: nothing but the node pack
takes that one off its device. A model is the manager's by identity alone: it is what a ModelPatcher patches, or a part of that.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import FoundModel
from gpumodels.observing.live_frames import frames_of_threads
from gpumodels.support.accelerator_memory import PagedMemory
from gpumodels.support.failures import Failures
from gpumodels.support.instances import is_a, state_of
from gpumodels.support.module_tables import entries_of, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import KeyedRef

MANAGER: Final = "ComfyUI"
MODULE: Final = "comfy.model_management"
LOADED: Final = "current_loaded_models"
LOADING: Final = "load_models_gpu"
"""The function during which a model is on its device already, but not in the list yet."""
PAGING: Final = "comfy_aimdo.control"
VBARS: Final = "dynamic_vbars"
HOST: Final = "cpu"
PARTS_DEPTH: Final = 3
"""How many levels below a patched model the models in it are searched for, as `grouping` does."""


@never_pickled
class Managed(NamedTuple):
    """What the manager thinks of a model."""

    loaded_bytes: int | None
    """The bytes that it believes to be on the model's device."""


@never_pickled
@dataclass(frozen=True, slots=True)
class _Patched:
    """A module that a ModelPatcher patches. Ids are valid only for the moment."""

    is_loaded: bool
    """Whether it is in the manager's list."""
    loaded_bytes: int | None


@never_pickled
class ComfyManager:
    """Reads the manager's list and the patchers as data; calls nothing of ComfyUI.

    Args:
        patchers: weak references to the live ModelPatchers.
        failures: where what can't be read is counted.
    """

    def __init__(self, patchers: Callable[[], Sequence[KeyedRef]], failures: Failures) -> None:
        self._patchers = patchers
        self._failures = failures
        self.name: str | None = None
        """The manager's name; None where the process has none."""
        self.managed: Mapping[FoundModel, Managed] = {}
        """The models of the last scan that the manager knows."""

    def update(self, models: Sequence[FoundModel]) -> None:
        """Find out which of these models the manager knows."""
        if _management() is None:
            self.name, self.managed = None, {}
            return
        self.name = MANAGER
        patched: dict[int, _Patched] = {}
        with self._failures.guard("reading ComfyUI's model manager"):
            self._read_loaded(patched)
        with self._failures.guard("reading ComfyUI's patchers"):
            self._read_patchers(patched)
        found: dict[FoundModel, Managed] = {}
        for model in models:
            known = _of_model(model, patched)
            if known is not None and (known.is_loaded or self._is_to_be_loaded(model)):
                found[model] = Managed(known.loaded_bytes if model.adapter is None else None)
        self.managed = found

    def paged_memory(self, device: str) -> PagedMemory | None:
        """What dynamic VRAM holds on this device beside torch's allocator; None where it isn't used.

        Called in the host's threads. Asks comfy-aimdo, which counts them itself.
        """
        vbars: dict[int, Any] = {}
        for ref in self._patchers():
            patcher = ref()
            module = state_of(patcher).get("model") if patcher is not None else None
            table = state_of(module).get(VBARS) if module is not None else None
            for place, vbar in list(dict.items(table)) if is_a(table, dict) else ():
                if vbar is not None and str(place) == device:
                    vbars[id(vbar)] = vbar
        if not vbars:
            return None
        if state_of(sys.modules.get(PAGING)).get("lib", True) is None:  # it must not be asked any more
            return PagedMemory(None)
        size = None
        with self._failures.guard("asking how much of a device is paged"):
            size = sum(int(vbar.loaded_size()) for vbar in vbars.values() if state_of(vbar).get("_ptr", True))
        return PagedMemory(size)

    def _read_loaded(self, patched: dict[int, _Patched]) -> None:
        """Add the models in the manager's list."""
        module = _management()
        loaded = module.__dict__.get(LOADED) if module is not None else None
        for entry in list(loaded) if type(loaded) is list else ():
            with self._failures.guard("reading a model that ComfyUI has loaded"):
                model = _model_of(state_of(entry))
                if model is not None:
                    _add(model, True, patched)

    def _read_patchers(self, patched: dict[int, _Patched]) -> None:
        """Add the models that could be loaded at any time, as they have a patcher."""
        for ref in self._patchers():
            patcher = ref()
            model = state_of(patcher).get("model") if patcher is not None else None
            if model is not None and id(model) not in patched:
                _add(model, False, patched)

    def _is_to_be_loaded(self, model: FoundModel) -> bool:
        """Whether a patched model that isn't in the list is where the manager keeps such models, or is being loaded just now."""
        is_off = not any(size and device != HOST for device, size in model.bytes_by_device.items())
        return is_off or _is_loading()


def _management() -> ModuleType | None:
    module = sys.modules.get(MODULE)
    return module if type(module) is ModuleType and type(module.__dict__.get(LOADED)) is list else None


def _model_of(loaded: Mapping[str, Any]) -> Any:
    """The module of a `LoadedModel`: through its patcher, else as it remembers the module itself. Older ones hold the patcher."""
    for name in ("_model", "_parent_model", "model"):
        patcher = loaded.get(name)
        if type(patcher) is weakref.ref:
            patcher = patcher()
        model = state_of(patcher).get("model") if patcher is not None else None
        if model is not None:
            return model
    real = loaded.get("real_model")
    return real() if type(real) is weakref.ref else real


def _add(model: Any, is_loaded: bool, patched: dict[int, _Patched]) -> None:
    """Add the patched module, and the modules in it that may be models of their own."""
    state = state_of(model)
    size = state.get("model_loaded_weight_memory")
    counted = int(size) if (type(size) is int or type(size) is float) and not state.get(VBARS) else None
    loaded_bytes = counted if is_loaded else 0
    patched[id(model)] = _Patched(is_loaded, loaded_bytes)
    below = _Patched(is_loaded, None if is_loaded else 0)  # how much of it is in which part isn't counted
    for key in _parts_of(state):
        patched.setdefault(key, below)


def _parts_of(state: Mapping[str, Any]) -> Iterator[int]:
    level = [state]
    for _ in range(PARTS_DEPTH):
        children = [child for one in level for _, child in entries_of(tables_of(one).modules) if child is not None]
        yield from map(id, children)
        level = [state_of(child) for child in children]


def _of_model(model: FoundModel, patched: Mapping[int, _Patched]) -> _Patched | None:
    """What the manager says of the model, of that in which it is, or of a part of it."""
    if model.part.left_of is not None:
        return None
    for key in (model.core, model.root, *model.part.equal_roots):
        if (known := patched.get(key)) is not None:
            return known
    inside = [patched[key] for key in model.members if key in patched]
    return _Patched(any(one.is_loaded for one in inside), None) if inside else None


def _is_loading() -> bool:
    """Whether a thread is in the middle of loading models by the manager."""
    return any(
        frame.f_code.co_name == LOADING and frame.f_globals.get("__name__") == MODULE
        for _, frame in frames_of_threads(threading.get_ident())
    )
