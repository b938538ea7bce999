"""Says in words how one object holds another: by which attribute, item, closure or local variable. Runs none of their code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
    TracebackType,
)
from typing import Any, Final, NamedTuple
from weakref import ReferenceType

from gpumodels.observing.live_frames import named_locals_of
from gpumodels.support.instances import class_attribute, class_dict, mro_of, name_of, package_of, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import BUFFERS, HOOKS, MODULES, PARAMETERS

MAX_ITEMS: Final = 10_000
"""Items of a container that are searched for the one."""
MAX_TEXT: Final = 80
SUSPENDED: Final = {GeneratorType: "gi", CoroutineType: "cr", AsyncGeneratorType: "ag"}
"""What is suspended in the middle of a function, and how its attributes begin."""
MODULE_TABLES: Final = (MODULES, PARAMETERS, BUFFERS)
"""Where torch's modules keep what are their attributes for everybody else."""
_IS_CLASS: Final = 1 << 31
_flags_of: Final = type.__dict__["__flags__"].__get__


@never_pickled
class Step(NamedTuple):
    """One link of a chain."""

    kind: str
    """`global`, `local`, `attribute`, `item`, `closure`, `hook`, `method`, `partial`, `suspended`, `exception`, `class`, `c`."""
    text: str
    """For people: `global pipe in __main__ (app.py)`, `.unet`, `[3]`."""
    variable: tuple[str, str] | None = None
    """Of a global variable: its module's file, and its name."""


UNSAID: Final = Step("attribute", "")
"""What the next step says."""


def described_path(path: Sequence[Any]) -> list[Step]:
    """How each object of a path holds the next.

    Args:
        path: the objects, from the holder to the one that is held.
    """
    steps: list[Step] = []
    for position, (holder, held) in enumerate(pairwise(path)):
        owner = path[position - 1] if position else None
        above = path[position - 2] if position > 1 else None
        step = _through_tables(owner, above, holder, held) if dict in mro_of(type(holder)) else None
        step = step or _described(holder, held, owner)
        if step is not None and step.text:
            steps.append(step)
    return steps


def _through_tables(owner: Any, above: Any, holder: Any, held: Any) -> Step | None:
    """The step by a dictionary that is an object's attributes, a class's namespace, or a table of a torch module."""
    key = next((key for key, value in list(dict.items(holder)) if value is held), None) if len(holder) <= MAX_ITEMS else None
    if type(key) not in (str, int) or owner is None:
        return None
    if _is_class(owner) or state_of(owner) is holder:
        return UNSAID if key in MODULE_TABLES or key in HOOKS else Step("attribute", f".{shortened(str(key))}")
    table = next((name for name, value in list(state_of(above).items()) if value is holder), "") if owner is not None else ""
    module = above
    if not table:  # on Python 3.11 and newer, attributes may be in the object itself
        table = next((name for name, value in list(state_of(owner).items()) if value is holder), "")
        module = owner
    if table in MODULE_TABLES:
        return Step("attribute", f".{shortened(str(key))}")
    if table in HOOKS:
        return Step("hook", f" → {HOOKS[table]} of {class_in_words(type(module))}")
    return None


def _is_class(one: Any) -> bool:
    return bool(_flags_of(type(one)) & _IS_CLASS)


def _described(holder: Any, held: Any, owner: Any) -> Step | None:
    """How the holder holds the other; None where that needs no words, as for a dictionary that is an object's attributes."""
    kind = type(holder)
    if kind in (list, tuple):
        return _in_sequence(holder, held, owner)
    if dict in mro_of(kind):
        return _in_dict(holder, held)
    if tuple in mro_of(kind):
        return _in_named_tuple(holder, held)
    if kind in (set, frozenset):
        return Step("item", " → an element of a set")
    if kind is FunctionType:
        return _in_function(holder, held)
    if kind is CellType or kind is TracebackType or _is_class(holder):
        return None
    if kind is MethodType:
        return Step("method", f" → method {shortened(holder.__func__.__qualname__)}" if holder.__self__ is held else " → method")
    if kind is BuiltinFunctionType:
        return Step("method", f" → method {shortened(holder.__name__)}")
    if kind is partial:
        return Step("partial", " → functools.partial")
    if kind in SUSPENDED:
        return _in_suspended(holder, held)
    if kind is FrameType:
        return Step(
            "local", f" → local variable {_local(holder, held)}of {shortened(holder.f_code.co_name)}() {place_of(holder)}"
        )
    if BaseException in mro_of(kind) and type(held) is TracebackType:
        return Step("exception", f" → the traceback of {shortened(name_of(kind))}")
    return _in_instance(holder, held)


def is_noise(holder: Any, held: Any) -> bool:
    """Whether this reference is no holder of its own: a bound method's or a weak reference's own bookkeeping."""
    return ReferenceType in mro_of(type(holder)) or (type(holder) is MethodType and type(held) is FunctionType)


def place_of(frame: FrameType) -> str:
    """`(app.py:12)`."""
    return f"({shortened(frame.f_code.co_filename.rpartition('/')[2])}:{frame.f_lineno})"


def class_in_words(kind: type) -> str:
    """`StableDiffusionPipeline`, `CacheEntry of execution`: with its package where that isn't the program's own."""
    package = package_of(kind)
    name = shortened(name_of(kind))
    return name if package in (None, "__main__", "builtins") else f"{name} of {shortened(package or '')}"


def _in_sequence(holder: Any, held: Any, owner: Any) -> Step | None:
    if type(owner) is partial:
        return None
    if len(holder) <= MAX_ITEMS:
        for index, one in enumerate(holder):
            if one is held:
                if type(one) is CellType:
                    return None  # the closure says it
                return Step("item", f"[{index}]")
    return Step("item", f" → an item of a {type(holder).__name__}")


def _in_named_tuple(holder: Any, held: Any) -> Step | None:
    """By a field, as `.outputs` of ComfyUI's entries; by its number where it has no name."""
    names = class_attribute(type(holder), "_fields")
    for index, one in enumerate(tuple.__iter__(holder)):
        if one is held:
            name = names[index] if type(names) is tuple and index < len(names) else None
            return Step("attribute", f".{shortened(name)}") if type(name) is str else Step("item", f"[{index}]")
    return _in_instance(holder, held)


def _in_dict(holder: Any, held: Any) -> Step | None:
    if dict.__len__(holder) <= MAX_ITEMS:
        for key, value in list(dict.items(holder)):
            if value is held:
                return Step("item", f"[{key!r}]" if type(key) in (str, int) else f"[{class_in_words(type(key))}]")
            if key is held:
                return Step("item", " → a key of a dictionary")
    return Step("item", f" → an item of a {shortened(name_of(type(holder)))}")


def _in_function(holder: FunctionType, held: Any) -> Step | None:
    name = shortened(holder.__qualname__)
    closure = holder.__closure__ or ()
    if held is closure or type(held) is CellType:
        return Step("closure", f" → closure of {name}() ({_place_of_code(holder)})")
    if held is holder.__defaults__ or held is holder.__kwdefaults__:
        return Step("closure", f" → default argument of {name}() ({_place_of_code(holder)})")
    return Step("attribute", f" → attribute of {name}()")


def _in_instance(holder: Any, held: Any) -> Step | None:
    """By an attribute; a dictionary that is the attributes themselves needs no words of its own."""
    state = state_of(holder)
    if held is state:
        return None
    for name, value in list(state.items()):
        if value is held:
            return UNSAID if name in MODULE_TABLES or name in HOOKS else Step("attribute", f".{shortened(name)}")
    for base in mro_of(type(holder)):
        for name, descriptor in list(class_dict(base).items()):
            if type(descriptor) is MemberDescriptorType and _in_slot(descriptor, holder) is held:
                return Step("attribute", f".{shortened(name)}")
    return Step("attribute", f" → held by {class_in_words(type(holder))}")


def _in_slot(descriptor: MemberDescriptorType, holder: Any) -> Any:
    try:
        return descriptor.__get__(holder)
    except AttributeError:  # it isn't set
        return None


def _in_suspended(holder: Any, held: Any) -> Step:
    """By a generator or coroutine, which waits to be run on."""
    prefix = next(prefix for kind, prefix in SUSPENDED.items() if type(holder) is kind)
    frame = getattr(holder, f"{prefix}_frame")
    where = f" {place_of(frame)}" if frame is not None else ""
    name = _local(frame, held) if frame is not None else ""
    return Step("suspended", f" → local variable {name}of {shortened(holder.__qualname__)}(), suspended{where}")


def _local(frame: FrameType, held: Any) -> str:
    """The name of a local variable, and a space; empty if it can't be told."""
    return next((f"{shortened(name)} " for name, value in named_locals_of(frame).items() if value is held), "")


def _place_of_code(function: FunctionType) -> str:
    code = function.__code__
    return f"{shortened(code.co_filename.rpartition('/')[2])}:{code.co_firstlineno}"


def shortened(text: str) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
