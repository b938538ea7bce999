"""Observing calls of the host's functions, with not one of them replaced by another object.

Python 3.12 and newer: `sys.monitoring`, for the code objects that are asked for and no others. Before: the code object is
exchanged in place (`code_exchange`). Either way the function keeps its identity, name, signature, source and pickle, and whoever
imported it early is seen as well. What observes runs in the host's thread, right at the start of a call or at its return, and is
given the call's frame. It is never called while torch compiles or exports.
"""

from __future__ import annotations

import inspect
import sys
from types import FunctionType, ModuleType
from typing import Any

from gpumodels.observing.mechanism import Mechanism, Observation, Returned, Started
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.resident import resident
from gpumodels.support.torch_private import can_keep_from_compiler, keep_from_compiler
from gpumodels.support.weak_table import WeakTable


@resident
class Observers:
    """What is observed, by whichever mechanism this Python has."""

    def __init__(self, torch: ModuleType, failures: Failures) -> None:
        self._failures = failures
        self._mechanism = self._chosen(torch)
        with failures.guard("keeping out of compiled code"):
            keep_from_compiler(torch, WeakTable.entries())
            if self._mechanism is not None:
                keep_from_compiler(torch, self._mechanism.entries())

    def observe(self, function: Any, what: str, started: Started | None = None, returned: Returned | None = None) -> bool:
        """Call `started(frame)` and `returned(frame, result)` from now on; whether that is possible.

        Args:
            function: a Python function, or something around one: a bound, static or decorated one.
            what: what is done with it, for the log.
            started: called before the function's first line; its arguments are the frame's variables.
            returned: called when it returns, not when it raises.
        """
        plain = inspect.unwrap(getattr(function, "__func__", function))
        if self._mechanism is None or not isinstance(plain, FunctionType):
            return False
        try:
            self._mechanism.observe(plain, Observation(what, started, returned))
        except ValueError as error:
            LOGGER.info("%s.%s is not observed: %s", plain.__module__, plain.__qualname__, error)
            return False
        except Exception as error:  # noqa: BLE001  # whatever is odd about a function of somebody's, the host goes on
            self._failures.note(f"observing {plain.__module__}.{plain.__qualname__}", error)
            return False
        return True

    def remove(self) -> None:
        """Leave all as it was."""
        if self._mechanism is not None:
            with self._failures.guard("ending observation"):
                self._mechanism.remove()

    def _chosen(self, torch: ModuleType) -> Mechanism | None:
        if not can_keep_from_compiler(torch):
            LOGGER.info("calls can't be observed in torch %s; names rest on values and mapped files", torch.__version__)
            return None
        if sys.version_info >= (3, 12):
            from gpumodels.observing.code_monitoring import CodeMonitoring

            return CodeMonitoring.begin(self._failures)
        from gpumodels.observing.code_exchange import CodeExchange

        return CodeExchange(torch, self._failures)
