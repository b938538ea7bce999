"""What a chain of references begins with: a global variable, a running function, a thread, a cache of ComfyUI, an interpreter's
own variable."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

from gpumodels.holders.descriptions import Step, place_of, shortened
from gpumodels.observing.live_frames import frames_of_threads, named_locals_of
from gpumodels.support.instances import class_attribute, mro_of, name_of, state_of
from gpumodels.support.never_pickled import never_pickled

CACHING: Final = "comfy_execution.caching"
"""ComfyUI's module of caches."""
NODE_ATTRIBUTES: Final = ("RETURN_TYPES", "FUNCTION")
"""What every class of a ComfyUI node has."""
CUSTOM_NODES: Final = "custom_nodes"
MAX_PATH: Final = 1024
"""The longest path, with the variable's name, that is passed on."""
_dict_of_module: Final = vars(ModuleType)["__dict__"].__get__
_LAST: Final = frozenset({"last_exc", "last_value", "last_traceback", "last_type"})
_IS_CLASS: Final = 1 << 31
_flags_of: Final = type.__dict__["__flags__"].__get__


@never_pickled
class Starts:
    """What there is at the moment when a search begins. Holds names and numbers, and no object of the host."""

    def __init__(self) -> None:
        self._namespaces = {
            id(_dict_of_module(module)): name
            for name, module in list(sys.modules.items())
            if type(name) is str and ModuleType in mro_of(type(module))
        }
        """By id of their namespace, the modules' names. `__main__` comes first under its own name."""
        main = sys.modules.get("__main__")
        if main is not None and ModuleType in mro_of(type(main)):
            self._namespaces[id(_dict_of_module(main))] = "__main__"
        self._running: dict[int, list[Step]] = {}
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for thread, frame in frames_of_threads(threading.get_ident()):
            code = frame.f_code
            if (
                id(frame.f_globals) in self._namespaces and frame.f_locals is frame.f_globals
                if code.co_name == "<module>"
                else False
            ):
                continue  # its variables are the module's
            for name, value in named_locals_of(frame).items():
                text = f"local variable {shortened(name)} of {shortened(code.co_name)}() {place_of(frame)}"
                text += f", running in thread {shortened(names.get(thread, str(thread)))}"
                self._running.setdefault(id(value), []).append(Step("local", text))

    def running(self, key: int) -> Sequence[Step]:
        """The variables of running functions that refer to the object with this id."""
        return self._running.get(key, ())

    def of(self, holder: Any, path: Sequence[Any]) -> tuple[Step, int] | None:
        """How a chain begins with this holder; None if it goes on behind it.

        Args:
            holder: the object in question.
            path: what it leads to, the next object first, the target last.

        Returns:
            The start, and how many objects of the path it says already.
        """
        kind = type(holder)
        if kind is dict and id(holder) in self._namespaces:
            return self._global(self._namespaces[id(holder)], holder, path)
        if _flags_of(kind) & _IS_CLASS:
            return Step("class", f"class {shortened(_class_name(holder))}"), 0
        if threading.Thread in mro_of(kind) and holder in threading.enumerate():
            return Step("thread", f"thread {shortened(holder.name)}, running"), 0
        if _module_of(kind) == CACHING:
            return _cache(holder, path)
        if all(class_attribute(kind, name) is not None for name in NODE_ATTRIBUTES):
            return Step("node", f"{shortened(name_of(kind))}{_node_pack(kind)}"), 0
        return None

    def _global(self, module: str, namespace: dict[str, Any], path: Sequence[Any]) -> tuple[Step, int]:
        name = next((key for key, value in list(namespace.items()) if value is path[0]), "?")
        if module == "sys" and name in _LAST:
            return Step("exception", f"the last error that nobody caught (sys.{name})"), 1
        if module == "builtins" and name == "_":
            return Step("global", "the last value of the interactive interpreter (_)"), 1
        if module == "__main__" and "In" in namespace and "Out" in namespace:
            if name == "Out" and len(path) > 1:
                key = next((key for key, value in list(path[0].items()) if value is path[1]), "?")
                return Step("global", f"IPython Out[{key}]"), 2
            if name.startswith("_") and name.strip("_").isdecimal():
                return Step("global", f"IPython Out[{name.strip('_')}]"), 1
            if name.strip("_") == "":
                return Step("global", f"IPython's last outputs ({name})"), 1
        file = namespace.get("__file__")
        where = f" ({shortened(file.rpartition('/')[2])})" if type(file) is str else ""
        variable = (file, name) if type(file) is str and type(name) is str and len(file) + len(name) <= MAX_PATH else None
        return Step("global", f"global {shortened(name)} in {shortened(module)}{where}", variable), 1


def _cache(holder: Any, path: Sequence[Any]) -> tuple[Step, int]:
    """An output that ComfyUI keeps for the next prompt, with the node that it is of."""
    state = state_of(holder)
    entries = state.get("cache")
    for position, one in enumerate(path[:-1]):
        if one is entries and type(entries) is dict:
            key = next((key for key, value in list(entries.items()) if value is path[position + 1]), None)
            node = _node_of(state, key)
            return Step("cache", f"ComfyUI's execution cache: output of node {node}" if node else "ComfyUI's execution cache"), (
                position + 2
            )
    return Step("cache", "ComfyUI's execution cache"), 0


def _node_of(state: dict[str, Any], key: Any) -> str:
    """`4 CheckpointLoaderSimple`: the node that the cache keeps under this key; empty if it isn't one of the last prompt."""
    keys = state_of(state.get("cache_key_set")).get("keys")
    if type(keys) is not dict or type(key) not in (tuple, frozenset, str, int):
        return ""
    found = next((node for node, own in list(keys.items()) if own is key or (type(own) is type(key) and own == key)), None)
    if type(found) is not str:
        return ""
    prompt = state_of(state.get("dynprompt"))
    for table in ("ephemeral_prompt", "original_prompt"):
        nodes = prompt.get(table)
        node = nodes.get(found) if type(nodes) is dict else None
        kind = node.get("class_type") if type(node) is dict else None
        if type(kind) is str:
            return f"{shortened(found)} {shortened(kind)}"
    return shortened(found)


def _node_pack(kind: type) -> str:
    module = sys.modules.get(_module_of(kind))
    file = _dict_of_module(module).get("__file__") if ModuleType in mro_of(type(module)) else None
    parts = file.split("/") if type(file) is str else []
    if CUSTOM_NODES in parts[:-1]:
        pack = parts[parts.index(CUSTOM_NODES) + 1]
        return f" (node pack {shortened(pack.removesuffix('.py'))})"
    return " (a node of ComfyUI)"


def _module_of(kind: type) -> str:
    module = class_attribute(kind, "__module__")
    return module if type(module) is str else ""


def _class_name(kind: type) -> str:
    name, module = name_of(kind), _module_of(kind)
    return name if module in ("", "__main__", "builtins") else f"{name} of {module}"
