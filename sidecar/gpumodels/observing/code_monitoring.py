"""Observing by `sys.monitoring`, Python 3.12 and newer: local events on the observed code objects; nothing else is slowed."""

from __future__ import annotations

import sys
from types import CodeType, FunctionType
from typing import Any, Final

from gpumodels.observing.mechanism import Observation
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.resident import resident

monitoring: Any = getattr(sys, "monitoring", None)
TOOL_NAME: Final = "gpumodels"
TOOL_IDS: Final = (4, 3, 5, 2, 1, 0)
"""Those without a meaning first: 0 is for debuggers, 1 for coverage, 2 for profilers, 5 for optimisers."""


@resident
class CodeMonitoring:
    """One tool of `sys.monitoring`'s six."""

    def __init__(self, tool: int, failures: Failures) -> None:
        self._tool = tool
        self._failures = failures
        self._observed: dict[int, tuple[CodeType, Observation]] = {}
        """By the code object's id: code objects are equal, and hashed, by what is in them."""
        events = monitoring.events
        monitoring.register_callback(tool, events.PY_START, self._started)
        monitoring.register_callback(tool, events.PY_RETURN, self._returned)

    @classmethod
    def begin(cls, failures: Failures) -> CodeMonitoring | None:
        """With a tool's id of its own; None where others have them all."""
        for tool in TOOL_IDS:
            if monitoring.get_tool(tool) is None:
                try:
                    monitoring.use_tool_id(tool, TOOL_NAME)
                except ValueError:
                    continue  # another thread was quicker
                return cls(tool, failures)
        LOGGER.warning("all ids of sys.monitoring are taken by other tools; names rest on values alone")
        return None

    def observe(self, function: FunctionType, observation: Observation) -> None:
        """From now on."""
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
        """Give the id back, with no event left: free_tool_id alone leaves them set."""
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
        """The code by which calls come in here."""
        return CodeMonitoring._started.__code__, CodeMonitoring._returned.__code__

    def _started(self, code: CodeType, _offset: int) -> None:
        known = self._observed.get(id(code))
        if known is None:
            return
        observation = known[1]
        try:
            observation.started(sys._getframe(1))  # type: ignore[misc]  # only set with this event
        except Exception as error:  # noqa: BLE001  # as in a guard, which would be two calls more
            self._failures.note(observation.what, error)

    def _returned(self, code: CodeType, _offset: int, result: Any) -> None:
        known = self._observed.get(id(code))
        if known is None:
            return
        observation = known[1]
        try:
            observation.returned(sys._getframe(1), result)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001
            self._failures.note(observation.what, error)
