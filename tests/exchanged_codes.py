"""Code that observes calls before Python 3.12, compiled once in a run of tests instead of at each start of the sidecar in it."""

from __future__ import annotations

import inspect
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any, Final

import pytest

from gpumodels.observing import code_exchange

_SOURCES: Final[dict[tuple[str, CodeType], str]] = {}
_COMPILED: Final[dict[tuple[object, ...], CodeType]] = {}
"""With the placeholder for the observer still among their constants, so that nothing of a test's is kept."""
_compile: Final[Any] = vars(code_exchange)["_compiled"]


def compile_once(patch: pytest.MonkeyPatch) -> None:
    """Read a function's source and compile its new code only the first time. The code is exchanged each time, as ever."""
    patch.setattr(code_exchange, "_compiled", _compiled)
    patch.setattr(code_exchange, "inspect", SimpleNamespace(**{**vars(inspect), "getsource": _source}))


def _source(function: FunctionType) -> str:
    key = function.__code__.co_filename, function.__code__
    if key not in _SOURCES:
        _SOURCES[key] = inspect.getsource(function)
    return _SOURCES[key]


def _compiled(source: str, original: CodeType, observation: Any, observer: object, compiling: tuple[object, ...]) -> CodeType:
    observed = observation.started is not None, observation.returned is not None
    key = (source, original.co_filename, original, observed, compiling)
    if key not in _COMPILED:
        _COMPILED[key] = _compile(source, original, observation, code_exchange.PLACEHOLDER, compiling)
    code = _COMPILED[key]
    constants = (observer if type(value) is str and value == code_exchange.PLACEHOLDER else value for value in code.co_consts)
    return code.replace(co_consts=tuple(constants))
