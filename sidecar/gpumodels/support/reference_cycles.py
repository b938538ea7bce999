"""Whether an object is garbage that only waits for Python's collector: nothing but a reference cycle of its own holds it.

As the collector does, this counts the references among all that the object leads to. If no object on the way back to it has any
other reference than these, nothing of the host can reach it. What isn't followed counts as a reference from outside: tensors,
global variables, and classes that have a global name. So the answer is yes only where it is certain.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any, Final

from gpumodels.support.instances import mro_of, name_of
from gpumodels.support.weak_table import KeyedRef

_flags_of: Final[Callable[[Any], int]] = type.__dict__["__flags__"].__get__
_class_dict: Final[Callable[[Any], Any]] = type.__dict__["__dict__"].__get__
_HAS_REFERENCES: Final = 1 << 14
_IS_CLASS: Final = 1 << 31


def only_cycles_hold(ref: KeyedRef, limit: int, closed: type) -> bool | None:
    """Whether this object is only held by a reference cycle that it is part of.

    Args:
        ref: the object.
        limit: of how many objects may be inspected.
        closed: a class whose objects aren't followed.

    Returns:
        None if it leads to more objects than that, or is gone.
    """
    objects: dict[int, Any] = {ref.key: ref()}
    if objects[ref.key] is None:
        return None
    references = _references_within(objects, limit, closed)
    if references is None:
        return None
    objects[0] = []  # held as the others are, and by nothing else: what is counted for it is ours
    values = list(objects.values())
    counts = list(map(sys.getrefcount, values))
    del values
    ours = counts.pop()
    del objects[0]
    held = [key for key, count in zip(objects, counts, strict=True) if count - ours > references[key]]
    alive = set(held)
    while held:
        if ref.key in alive:
            return False
        below = {id(one) for one in gc.get_referents(objects[held.pop()])} & objects.keys() - alive
        alive |= below
        held += below
    return ref.key not in alive


def _references_within(objects: dict[int, Any], limit: int, closed: type) -> dict[int, int] | None:
    """Add to `objects` all that it leads to; returns how many references each has from these, or None beyond the limit."""
    references = dict.fromkeys(objects, 0)
    waiting = list(objects)
    while waiting:
        for one in gc.get_referents(objects[waiting.pop()]):
            key = id(one)
            if key in references:
                references[key] += 1
            elif _is_followed(one, closed):
                if len(objects) >= limit:
                    return None
                references[key] = 1
                objects[key] = one
                waiting.append(key)
    return references


def _is_followed(one: Any, closed: type) -> bool:
    kind = type(one)
    flags = _flags_of(kind)
    if not flags & _HAS_REFERENCES or kind is FrameType or kind is ModuleType or closed in mro_of(kind):
        return False
    if kind is dict:
        return not ("__name__" in one and "__spec__" in one)  # the global variables of a module
    return not (flags & _IS_CLASS and _has_global_name(one))


def _has_global_name(kind: type) -> bool:
    name = _class_dict(kind).get("__module__")
    module = sys.modules.get(name) if type(name) is str else None
    return type(module) is not ModuleType or vars(module).get(name_of(kind)) is kind
