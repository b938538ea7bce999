"""Observes calls on Python 3.12 and newer by `sys.monitoring` events local to the observed code; no other code is slowed down."""

from __future__ import annotations

import sys
from types import CodeType, FunctionType
from typing import Any, Final

from gpumodels.observing.mechanism import Observation
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.never_pickled import never_pickled

monitoring: Any = getattr(sys, "monitoring", None)
TOOL_NAME: Final = "gpumodels"
TOOL_IDS: Final = (4, 3, 5, 2, 1, 0)
"""Tool ids in the order in which they are tried: those without a reserved meaning first, then 5 (optimisers), 2 (profilers),
1 (coverage) and 0 (debuggers)."""


@never_pickled
class CodeMonitoring:
    """The sidecar as one of the six tools that `sys.monitoring` allows."""

    def __init__(self, tool: int, failures: Failures) -> None:
        self._tool = tool
        self._failures = failures
        self._observed: dict[int, tuple[CodeType, Observation]] = {}
        """By the code object's id, since code objects compare and hash by their contents."""
        events = monitoring.events
        monitoring.register_callback(tool, events.PY_START, self._started)
        monitoring.register_callback(tool, events.PY_RETURN, self._returned)

    @classmethod
    def begin(cls, failures: Failures) -> CodeMonitoring | None:
        """Claim a tool id; None if other tools have taken all of them."""
        for tool in TOOL_IDS:
            if monitoring.get_tool(tool) is None:
                try:
                    monitoring.use_tool_id(tool, TOOL_NAME)
                except ValueError:
                    continue  # another thread claimed it first
                return cls(tool, failures)
        LOGGER.warning("other tools have taken all tool ids of sys.monitoring; models are named by their values alone")
        return None

    def observe(self, function: FunctionType, observation: Observation) -> None:
        """Set the events for the function's code that the observation needs."""
        code = function.__code__
        events = monitoring.events
        wanted = 0
        if observation.started is not None:
            wanted |= events.PY_START
        if observation.returned is not None:
            wanted |= events.PY_RETURN
        self._observed[id(code)] = code, observation
        monitoring.set_local_events(self._tool, code, wanted)

    def remove(self) -> None:
        """Clear all events and callbacks, and give the tool id back; `free_tool_id` alone leaves events set."""
        if monitoring.get_tool(self._tool) != TOOL_NAME:
            return
        while self._observed:
            code, _ = self._observed.popitem()[1]
            monitoring.set_local_events(self._tool, code, 0)
        for event in (monitoring.events.PY_START, monitoring.events.PY_RETURN):
            monitoring.register_callback(self._tool, event, None)
        monitoring.free_tool_id(self._tool)

    @staticmethod
    def entries() -> tuple[CodeType, ...]:
        """The code objects of our callbacks."""
        return CodeMonitoring._started.__code__, CodeMonitoring._returned.__code__

    def _started(self, code: CodeType, _offset: int) -> None:
        entry = self._observed.get(id(code))
        if entry is None:
            return
        observation = entry[1]
        try:
            observation.started(sys._getframe(1))  # type: ignore[misc]  # the event is only set if it isn't None
        except Exception as error:  # noqa: BLE001  # as `guard` does, without its two extra calls
            self._failures.note(observation.what, error)

    def _returned(self, code: CodeType, _offset: int, result: Any) -> None:
        entry = self._observed.get(id(code))
        if entry is None:
            return
        observation = entry[1]
        try:
            observation.returned(sys._getframe(1), result)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001
            self._failures.note(observation.what, error)
