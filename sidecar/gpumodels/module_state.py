"""The one way in which the host's objects are looked into: their instance dictionary, with nothing of theirs run.

`object.__getattribute__(one, "__dict__")` would run a property of that name in the object's class; the descriptor that Python
made for the dictionary itself does not.
"""

from __future__ import annotations

from types import GetSetDescriptorType
from typing import Any, Final

_MRO: Final[Any] = type.__dict__["__mro__"].__get__
_NAMESPACE: Final[Any] = type.__dict__["__dict__"].__get__


def module_dict(one: Any) -> dict[str, Any]:
    """The instance dictionary of a module, or of any other object; empty where it has none."""
    for base in _MRO(type(one)):
        descriptor = _NAMESPACE(base).get("__dict__")
        if type(descriptor) is GetSetDescriptorType:
            found: dict[str, Any] = descriptor.__get__(one)
            return found
    return {}
