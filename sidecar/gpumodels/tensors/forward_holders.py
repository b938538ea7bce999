"""Finds what the functions hold that replace a module's `forward` or are called around it: closures, partials, hook objects.

Loaders that apply a LoRA without merging it keep its tensors there, in no attribute of any module. Whether something is a LoRA is
judged by the names that lead to it. No foreign code runs: see `instances`.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import container_of, items_of, mro_of, name_of, state_getter, values_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.tensors.extra_tensors import CLOSED_PACKAGES, is_closed

HELD_BY_FORWARD: Final = "forward()"
"""Begins the paths of what is held so: no attribute has such a name."""
HOOKS: Final = ("_forward_pre_hooks", "_forward_hooks")
MAX_DEPTH: Final = 8
MAX_VISITED: Final = 500
"""Objects for one module."""

_CLOSED: Final = CLOSED_PACKAGES | {"colossalai", "deepspeed", "fairscale", "megatron"}
"""Packages whose functions hold no adapters, but all of a model."""
_ADAPTER: Final = re.compile(r"lora|loha|lokr|locon|lycoris|hada_|dora_|(^|[._])(oft|boft|ia3)([._]|$)", re.IGNORECASE)
_PAIR: Final = (frozenset({"down", "up"}), frozenset({"lora_a", "lora_b"}), frozenset({"w_down", "w_up"}))
"""Names of the two halves of a LoRA's layer, beside each other."""


@never_pickled
class Held(NamedTuple):
    """A tensor or a module that such a function holds."""

    path: str
    """Names of variables and attributes and classes of objects on the way to it."""
    holder: str
    """The name of the function, or of the class of the object, that holds it."""
    value: Any
    is_adapter: bool
    """Whether the names on the way say that it is part of a LoRA or the like."""


@never_pickled
class ForwardHolders:
    """Looks into such functions."""

    def __init__(self, torch: ModuleType) -> None:
        self._tensor_type: type = torch.Tensor
        self._module_type: type = torch.nn.Module
        self._state_of = state_getter(self._module_type)

    def held(self, state: Mapping[str, Any]) -> tuple[list[Held], list[Held]]:
        """The tensors and the other modules that are held so, by the functions of the module with this instance dictionary."""
        tensors: list[Held] = []
        modules: list[Held] = []
        met: set[int] = set()
        waiting = [(function, "", "", 0, False) for function in _functions_around(state)]
        while waiting and len(met) < MAX_VISITED:
            value, path, holder, depth, is_half = waiting.pop()
            if id(value) in met:
                continue
            met.add(id(value))
            mro = mro_of(type(value))
            if self._tensor_type in mro or self._module_type in mro:
                if self._module_type in mro and self._state_of(value) is state:
                    continue
                words = f"{path}.{name_of(type(value))}" if self._module_type in mro else path
                is_adapter = is_half or _ADAPTER.search(words) is not None
                (tensors if self._tensor_type in mro else modules).append(Held(path, holder, value, is_adapter))
                continue
            if depth >= MAX_DEPTH:
                continue
            own_name, named = _contents(value, mro)
            holder, inner = own_name or holder, f"{path}.{own_name}" if own_name else path
            names = {name.lower() for name, _ in named}
            halves = {name for pair in _PAIR if pair <= names for name in pair}
            waiting += [
                (one, f"{inner}.{name}", holder, depth + 1, is_half or name.lower() in halves)
                for name, one in named
                if type(one) not in _SIMPLE
            ]
        return tensors, modules


def _functions_around(state: Mapping[str, Any]) -> Iterator[Any]:
    """What replaces the module's `forward`, and its forward hooks."""
    if "forward" in state:
        yield state["forward"]
    for name in HOOKS:
        hooks = state.get(name)
        if hooks and container_of(mro_of(type(hooks))) is dict:
            yield from list(dict.values(hooks))


def _contents(value: Any, mro: tuple[type, ...]) -> tuple[str, list[tuple[str, Any]]]:
    """The name of a function or of an object's class, empty for what only passes on, and names and values of what it holds."""
    if FunctionType in mro:
        return _of_function(value)
    if MethodType in mro:
        return "", [("", value.__self__), ("", value.__func__)]
    if partial in mro:
        return _of_partial(value)
    if CellType in mro:
        return "", [("", one) for one in gc.get_referents(value)]
    if (container := container_of(mro)) is not None:
        keys, values = items_of(value, container, MAX_VISITED)
        return "", [(key if type(key) is str else "", one) for key, one in zip(keys or values, values, strict=True)]
    return ("", []) if is_closed(type(value), mro) else (name_of(type(value)), [*values_of(value)])


def _of_partial(value: Any) -> tuple[str, list[tuple[str, Any]]]:
    function, arguments = _PARTIAL["func"].__get__(value), _PARTIAL["args"].__get__(value)
    keywords: dict[str, Any] = _PARTIAL["keywords"].__get__(value)
    name, names = "", ()
    if FunctionType in mro_of(type(function)):
        name, names = _name_of_function(function), function.__code__.co_varnames
    named = [(names[position] if position < len(names) else "", one) for position, one in enumerate(arguments)]
    return name, [("", function), *named, *((str(key), one) for key, one in dict.items(keywords))]


def _of_function(function: Any) -> tuple[str, list[tuple[str, Any]]]:
    # `functools.wraps` gives a function the module and the name of the one that it wraps, so its own are read elsewhere.
    module = dict.get(function.__globals__, "__name__")
    if type(module) is not str or module.partition(".")[0] in _CLOSED:
        return "", [("", function.__dict__.get("__wrapped__"))]
    named = [*zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)]
    defaults = function.__defaults__ or ()
    code = function.__code__
    named += [*zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=False)]
    named += [*(function.__kwdefaults__ or {}).items()]
    return _name_of_function(function), named


def _name_of_function(function: Any) -> str:
    name: str = function.__code__.co_name
    qualified: str = function.__qualname__
    return qualified if qualified.rpartition(".")[2] == name else name


_PARTIAL: Final[Mapping[str, Any]] = vars(partial)
_SIMPLE: Final = frozenset({int, float, complex, str, bytes, bool, type(None), type})
