"""Notes which modules are called, if the user asked for it: `start(track_use=True)`.

A global forward pre-hook would be torch's own way. Tried with torch 2.13: with one, each call of a compiled module warns, which
ends a host that makes errors of warnings; what was compiled beside it is compiled again once it is removed; and it costs each
module about twice as much, as torch then takes the slower way through `Module.__call__`. So the call itself is observed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.support.never_pickled import never_pickled

CALL: Final = "_wrapped_call_impl"
"""The function that `Module.__call__` is, so since torch 2.1."""
TORCHS: Final = "torch.nn."
"""Where a class's own `__call__` says that it can't be called."""
CALLS: Final = frozenset({"__call__", "_call_impl", CALL})


@never_pickled
class ModuleCalls:
    """The modules that were called since they were last taken, by id. The host's threads add to it."""

    def __init__(self, torch: ModuleType) -> None:
        self._module_type = torch.nn.Module
        self._script_type = torch.jit.ScriptModule
        self._called: set[int] = set()
        self.are_observed = False
        """Whether calls are noted at all: not where functions can't be observed."""

    def observe(self, observers: Observers) -> None:
        """Begin to note calls."""
        call = vars(self._module_type).get(CALL)
        self.are_observed = call is not None and observers.observe(call, "noting a module's call", started=self._module_called)

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """Nothing: `Module` is there."""
        return {}

    def types(self) -> set[type]:
        """Nothing: calls that are over leave nothing to find."""
        return set()

    def add_all(self, found: Iterable[Any]) -> None:
        """Add nothing."""

    def take(self) -> set[int]:
        """The ids of the modules that were called since the last call, at least once each."""
        called = self._called.copy()
        self._called -= called  # a module that is called between the two is among those that were taken
        return called

    def in_progress(self) -> set[int]:
        """The ids of the modules whose calls are not over: of those on the stack of any thread."""
        running: set[int] = set()
        for top in sys._current_frames().values():
            frame: FrameType | None = top
            while frame is not None:
                if frame.f_code.co_name == CALL:
                    running.add(id(frame.f_locals.get("self")))
                frame = frame.f_back
        return running

    def are_seen(self, kind: type) -> bool:
        """Whether a call of such a module is one that is noted.

        A TorchScript module's methods run outside Python; and a class may have a `__call__` of its own that goes past torch's.
        """
        classes = type.__getattribute__(kind, "__mro__")
        if self._script_type in classes:
            return False
        for one in classes:
            if one is self._module_type:
                return True
            own = type.__getattribute__(one, "__dict__")
            call = None if str(own.get("__module__")).startswith(TORCHS) else own.get("__call__")
            if call is not None and not (type(call) is FunctionType and CALLS & {*call.__code__.co_names}):
                return False
        return False

    def _module_called(self, frame: FrameType) -> None:
        self._called.add(id(frame.f_locals["self"]))
