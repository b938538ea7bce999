"""Records whatever something that ran in a process may have left in it, so that two such walks can be compared."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

WATCHED: Final = ("torch", "safetensors", "importlib", "threading", "os", "io", "builtins", "mmap", "pickle", "copyreg", "gguf")
"""Packages whose modules, functions and classes are walked."""
CHUNK: Final = 2000
CONTAINERS: Final = (dict, list, tuple, set, frozenset, types.CellType, types.MappingProxyType)
OWN: Final = ("gpumodels", "gpumodels_shared")


def walk(identities: bool = True) -> dict[str, Any]:
    """Walk through this process's state. Without identities, the walk can be compared with another process's."""
    gc.collect()
    package = _package()
    tables = vars(sys.modules["torch.nn.modules.module"])
    return {
        "functions": dict(_functions(identities)),
        "hook tables": {
            name: len(table) for name, table in tables.items() if name.startswith("_global_") and isinstance(table, dict)
        },
        "meta path": [repr(type(each)) + repr(getattr(each, "__name__", "")) for each in sys.meta_path],
        "path hooks": [getattr(each, "__qualname__", repr(type(each))) for each in sys.path_hooks],
        "loaders": dict(_loaders()),
        "threads": sorted(each.name for each in threading.enumerate()),
        "descriptors": sorted(_descriptors()),
        "mapped": sorted({line.split()[5] for line in Path("/proc/self/maps").read_text().splitlines() if ".gpm" in line}),
        "collector": [getattr(each, "__qualname__", "") for each in gc.callbacks],
        "monitoring": _monitoring(),
        "held by atexit": sys.getrefcount(sys.modules["gpumodels"].stop),
        "signals": [
            getattr(signal.getsignal(each), "__qualname__", str(signal.getsignal(each)))
            for each in sorted(signal.valid_signals())
        ],
        "tracing": [repr(sys.gettrace()), repr(sys.getprofile()), sys.excepthook is sys.__excepthook__],
        "instances": dict(_instances(package)),
        "held by others": dict(Counter(_holders(package))),
        "weakly referenced": _weak_references(),
    }


def _functions(identities: bool) -> Iterator[tuple[str, Any]]:
    """Each function and method, with the identities of it, its code and its closure."""
    for module_name, module in sorted(sys.modules.items()):
        if module_name.partition(".")[0] in WATCHED and type(module) is types.ModuleType:
            for name, value in list(vars(module).items()):
                where = f"{module_name}.{name}"
                if issubclass(type(value), type):
                    if value.__module__ == module_name:
                        for inner, attribute in list(vars(value).items()):
                            if (seen := _seen(attribute, identities)) is not None:
                                yield f"{where}.{inner}", seen
                elif (seen := _seen(value, identities)) is not None:
                    yield where, seen


def _seen(value: Any, identities: bool) -> Any:
    kind = type(value)
    inner = value.__func__ if kind in (staticmethod, classmethod) else value
    if type(inner) is types.FunctionType:
        code = inner.__code__
        told = [kind.__name__, code.co_filename, code.co_firstlineno, len(code.co_code), sorted(inner.__dict__)]
        return [*told, id(value), id(inner), id(code), id(inner.__defaults__)] if identities else told
    if type(inner) in (types.BuiltinFunctionType, types.MethodDescriptorType, property):
        return [kind.__name__, id(value)] if identities else kind.__name__
    return None


def _loaders() -> Iterator[tuple[str, Any]]:
    for name, module in sorted(sys.modules.items()):
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if name.partition(".")[0] in WATCHED and hasattr(loader, "__dict__") and not isinstance(loader, type):
            yield name, [type(loader).__name__, sorted(vars(loader))]


def _descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        path = Path(f"/proc/self/fd/{name}")
        if path.is_symlink() and not (target := str(path.readlink())).endswith("/fd"):
            yield target.partition(":[")[0]


def _monitoring() -> Any:
    monitoring: Any = getattr(sys, "monitoring", None)  # Python 3.12
    if monitoring is None:
        return None
    return [[name, monitoring.get_events(tool) if name else 0] for tool in range(6) for name in [monitoring.get_tool(tool)]]


def _is_own(name: Any) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in OWN


def _package() -> dict[int, Any]:
    """The imported package, purged copies included: its modules, and all that their and their classes' dictionaries hold."""
    found: dict[int, Any] = {}
    waiting: list[Any] = [
        each
        for each in gc.get_objects()
        if (type(each) is dict and "__builtins__" in each and _is_own(each.get("__name__")))
        # On Python 3.10 a dataclass with slots keeps the class that it was made from, which no module has.
        or (type(each) is type and _is_own(each.__module__))
    ]
    while waiting:
        thing = waiting.pop()
        kind = type(thing)
        if id(thing) in found:
            continue
        found[id(thing)] = thing
        if kind in CONTAINERS:
            waiting += gc.get_referents(thing)
        elif issubclass(kind, type) or kind is types.FunctionType:
            if _is_own(thing.__module__):
                waiting += gc.get_referents(thing)
        elif kind is types.ModuleType:
            if _is_own(thing.__name__):
                waiting.append(vars(thing))
        elif kind in (staticmethod, classmethod, property, functools.partial, functools._lru_cache_wrapper) or _is_own(
            kind.__module__
        ):
            waiting += gc.get_referents(thing)
    return found


def _instances(package: dict[int, Any]) -> Iterator[tuple[str, int]]:
    """How many instances of the package's classes live, and functions made by it, apart from the package itself."""
    counted: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if kind is types.FunctionType or kind is types.MethodType:
            function = thing if kind is types.FunctionType else thing.__func__
            if id(thing) not in package and _is_own(function.__module__):
                counted[f"{kind.__name__} {function.__module__}.{function.__qualname__}"] += 1
        elif _is_own(type.__getattribute__(kind, "__module__")) and id(thing) not in package:
            counted[f"{kind.__module__}.{kind.__qualname__}"] += 1
    yield from sorted(counted.items())


def _holders(package: dict[int, Any]) -> Iterator[str]:
    """Containers outside the package that hold a function of ours, by which the host could find us."""
    functions = {key: thing for key, thing in package.items() if type(thing) is types.FunctionType and _is_own(thing.__module__)}
    containers = [each for each in gc.get_objects() if type(each) in CONTAINERS]
    foreign = [each for each in containers if id(each) not in package and each is not functions and each is not package]
    for start in range(0, len(foreign), CHUNK):
        chunk = foreign[start : start + CHUNK]
        if functions.keys().isdisjoint(map(id, gc.get_referents(*chunk))):
            continue
        for holder in chunk:
            for held in gc.get_referents(holder):
                if id(held) in functions:
                    yield f"{type(holder).__name__} holds {held.__module__}.{held.__qualname__}"


def _weak_references() -> list[int]:
    """The numbers of weak references to each live tensor and storage, sorted."""
    import weakref

    torch = sys.modules.get("torch")
    if torch is None:
        return []
    kept = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter, torch.UntypedStorage)]
    return sorted(weakref.getweakrefcount(each) for each in kept)
