"""Tensors that a module keeps beside parameters and buffers: plain attributes, lists and dicts of them, and libraries' copies.

Nothing foreign runs: instance dictionaries are read, and only of classes that are named here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from gpumodels.resident import resident

Kept = tuple[str, Any, bool]
"""Attribute's name, tensor, and whether it is a cache: made while the model runs, not part of it."""

MAX_ITEMS: Final = 10_000
"""Of one list or dict; more is data that happens to lie there."""

MAX_DEPTH: Final = 6

HOLDERS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("bitsandbytes", "QuantState"): ("absmax", "code", "offset", "state2"),
    ("bitsandbytes", "MatmulLtState"): ("CB", "SB", "SCB", "SBt", "CBt", "CxB", "CxBt", "subB", "idx"),
    ("diffusers", "HookRegistry"): ("hooks",),
    ("diffusers", "GroupOffloadingHook"): ("group",),
    ("diffusers", "ModuleGroup"): ("cpu_param_dict",),
}
"""(package, class) to the attributes in which a library keeps tensors for a module: quantization state, copies in host memory."""

CACHE_MODULE: Final = "transformers.cache_utils"
"""Every class of it, caches and their layers, keeps tensors in its attributes."""

_SIMPLE: Final = frozenset({int, float, str, bool, bytes, type(None), type(lambda: None), type})


_CONTAINERS: Final = frozenset({list, tuple, dict})


@resident
class Attributes:
    """Finds them in a module's instance dictionary."""

    def __init__(self, tensor_type: type, own_names: frozenset[str]) -> None:
        """`own_names` is what every module's dictionary begins with: torch's own."""
        self._tensor_type = tensor_type
        self._own_names = own_names

    def of(self, state: Mapping[str, Any]) -> list[Kept]:
        """What the module's dictionary holds beside its parameters, buffers and modules."""
        if len(state) == len(self._own_names):
            return []
        found: list[Kept] = []
        for name, value in islice(state.items(), len(self._own_names), None):
            kind = type(value)
            if kind in _SIMPLE or name in self._own_names:
                continue
            if self._tensor_type in kind.__mro__:
                found.append((name, value, _names_a_cache(name)))
            elif kind in _CONTAINERS or _holder(kind) is not None:
                is_cache = _names_a_cache(name) or kind.__module__ == CACHE_MODULE
                found += [(name, tensor, is_cache) for tensor in self.within(value)]
        return found

    def within(self, value: Any) -> Iterator[Any]:
        """The tensors in a list, tuple or dict, one level down, and all that a library's object keeps."""
        if type(value) in _CONTAINERS:
            for item in _items(value):
                if type(item) not in _CONTAINERS:
                    yield from self.all_in(item)
        else:
            yield from self.all_in(value)

    def all_in(self, value: Any, depth: int = 0) -> Iterator[Any]:
        """The tensors in a library's object, however deep it keeps them."""
        kind = type(value)
        if kind in _SIMPLE or depth > MAX_DEPTH:
            return
        if self._tensor_type in kind.__mro__:
            yield value
        elif kind in _CONTAINERS:
            for item in _items(value):
                yield from self.all_in(item, depth + 1)
        elif (names := _holder(kind)) is not None:
            inside: dict[str, Any] = value.__dict__
            for name in names or tuple(inside):
                yield from self.all_in(inside.get(name), depth + 1)

    def beside(self, tensor: Any) -> Iterator[Any]:
        """What a library keeps on a parameter of a class of its own: scales, codebooks."""
        if type(tensor).__module__.partition(".")[0] in _PACKAGES:
            for value in tensor.__dict__.values():
                yield from self.all_in(value)


def offloaded_copy(state: Mapping[str, Any], name: str) -> Any:
    """The copy in host memory that accelerate keeps for a parameter that is on `meta` now; None where there is none."""
    hook = state.get("_hf_hook")
    waiting = [hook]
    while waiting:
        hook = waiting.pop()
        inside = getattr(hook, "__dict__", {})
        waiting += inside.get("hooks", ()) if type(hook).__name__ == "SequentialHook" else ()
        place: Any = inside.get("weights_map")
        key = name
        while type(place).__name__ in ("PrefixedDataset", "OffloadedWeightsLoader"):
            if type(place).__name__ == "PrefixedDataset":
                place, key = place.dataset, f"{place.prefix}{key}"
            else:
                place = place.state_dict
        if isinstance(place, dict) and key in place:
            return place[key]
    return None


_PACKAGES: Final = frozenset({package for package, _ in HOLDERS} | {"hqq", "torchao"})


def _items(container: Any) -> list[Any]:
    return list(islice(container.values() if type(container) is dict else container, MAX_ITEMS))


def _holder(kind: type) -> tuple[str, ...] | None:
    """The attributes to look into, empty for all of them; None for a class that is none of ours to look into."""
    if kind.__module__ == CACHE_MODULE:
        return ()
    package = kind.__module__.partition(".")[0]
    return HOLDERS.get((package, kind.__name__)) if package in _PACKAGES else None


def _names_a_cache(name: str) -> bool:
    return "cache" in name or name.startswith("past_key")
