"""Observes calls of the host's functions without replacing any function by another object.

On Python 3.12 and newer this uses `sys.monitoring`, for the requested code objects only; before, the code object is exchanged in
place (`code_exchange`). Either way the function keeps its identity, name, signature, source and pickle, and calls through
references that were imported earlier are observed as well. Callbacks run in the host's thread, at the start of a call or at its
return, and are given the call's frame. They are never called while torch compiles or exports.
"""

from __future__ import annotations

import inspect
import sys
from types import FunctionType, ModuleType
from typing import Any

from gpumodels.observing.mechanism import Mechanism, Observation, Returned, Started
from gpumodels.support import last_references
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import can_keep_from_compiler, keep_from_compiler
from gpumodels.support.weak_table import WeakTable


@never_pickled
class Observers:
    """The observed functions, and the mechanism for this version of Python."""

    def __init__(self, torch: ModuleType, failures: Failures) -> None:
        self._failures = failures
        self._mechanism = self._choose_mechanism(torch)
        with failures.guard("excluding the sidecar's code from compilation"):
            keep_from_compiler(torch, (*WeakTable.entries(), *last_references.entries()))
            if self._mechanism is not None:
                keep_from_compiler(torch, self._mechanism.entries())

    def observe(self, function: Any, what: str, started: Started | None = None, returned: Returned | None = None) -> bool:
        """Call `started(frame)` and `returned(frame, result)` at every call of the function from now on.

        Args:
            function: a Python function, or one that is bound, static or decorated.
            what: what the callbacks do, for the log.
            started: called before the function's first statement; the function's arguments are the frame's local variables.
            returned: called when the function returns, not when it raises.

        Returns:
            Whether the function can be observed.
        """
        plain = inspect.unwrap(getattr(function, "__func__", function))
        if self._mechanism is None or not isinstance(plain, FunctionType):
            return False
        try:
            self._mechanism.observe(plain, Observation(what, started, returned))
        except ValueError as error:
            LOGGER.info("%s.%s is not observed: %s", plain.__module__, plain.__qualname__, error)
            return False
        except Exception as error:  # noqa: BLE001  # an unusual function of the host must never make it fail
            self._failures.note(f"observing {plain.__module__}.{plain.__qualname__}", error)
            return False
        return True

    def remove(self) -> None:
        """Stop observing, and leave every function as it was."""
        if self._mechanism is not None:
            with self._failures.guard("ending observation"):
                self._mechanism.remove()

    def _choose_mechanism(self, torch: ModuleType) -> Mechanism | None:
        if not can_keep_from_compiler(torch):
            LOGGER.info("calls can't be observed in torch %s; models are named by values and mapped files", torch.__version__)
            return None
        if sys.version_info >= (3, 12):
            from gpumodels.observing.code_monitoring import CodeMonitoring

            return CodeMonitoring.begin(self._failures)
        from gpumodels.observing.code_exchange import CodeExchange

        return CodeExchange(torch, self._failures)
