"""The stages that a program names itself, by `with gpumodels.stage("denoise")`: they are noted as ComfyUI's nodes are.

While no sidecar runs, it is only remembered which of them run: a sidecar that starts in the middle of one then knows.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, TypeVar, cast, overload

from gpumodels.hooks.stage_events import StageEvents
from gpumodels.support.failures import Failures
from gpumodels.support.instances import is_a
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import is_compiling
from gpumodels_shared.stage_ids import COUNTED, INNER

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_NAME: Final = 200
NO_NAME: Final = "stage"


@never_pickled
class _Run:
    """A stage that runs."""

    __slots__ = ("children", "id", "name", "number", "outer", "pid", "started_ns", "thread")

    def __init__(self, name: str, outer: _Run | None) -> None:
        self.name = name
        self.outer = outer
        """The run around it, in the same thread or task."""
        self.id = ""
        self.number = 0
        """By which it is noted; 0 if no sidecar ran when it began."""
        self.children = itertools.count(1)
        self.started_ns = time.time_ns()
        self.pid = os.getpid()
        self.thread = threading.get_ident()


_innermost: ContextVar[_Run | None] = ContextVar("gpumodels_stage", default=None)
_running: dict[int, _Run] = {}
_outermost = itertools.count(1)
_events: StageEvents | None = None
_failures = Failures()


def connect(events: StageEvents) -> None:
    """Note stages there from now on, those included that run already."""
    global _events
    with _failures.guard("noting the stages that run"):
        _events = events
        for key, run in list(_running.items()):
            if run.pid != os.getpid():  # of the process that forked
                _running.pop(key, None)
            else:
                run.number = events.adopt(run.id, run.name, run.started_ns)


def disconnect(events: StageEvents) -> None:
    """Note nothing there any more."""
    global _events
    if _events is events:
        _events = None
        for run in list(_running.values()):
            run.number = 0


def _begin(name: str) -> _Run:
    outer = _innermost.get()
    while outer is not None and id(outer) not in _running:  # over, in a context that was copied while it ran
        outer = outer.outer
    run = _Run(name[:MAX_NAME] or NO_NAME, outer)
    events = _events
    node = events.nodes_by_thread.get(run.thread) if events is not None else None
    if outer is not None:
        run.id = f"{outer.id}{INNER}{next(outer.children)}"
    elif node is not None:
        run.id = f"{node[1]}{COUNTED}{next(_outermost)}"
    else:
        run.id = f"{COUNTED}{next(_outermost)}"
    _running[id(run)] = run
    if events is not None:
        run.number = events.begin(run.id, run.name)
    _innermost.set(run)
    return run


def _end(run: _Run) -> None:
    if _innermost.get() is run:
        _innermost.set(run.outer)
    _running.pop(id(run), None)
    if run.number and _events is not None:
        _events.end(run.number)


@never_pickled
class Stage:
    """`with` and `async with` run their body as a stage of this name; as a decorator, each call of the function is one."""

    __slots__ = ("_name", "_runs")

    def __init__(self, name: str) -> None:
        self._name = name
        self._runs: list[_Run] = []
        """Several, where it is used by several threads, or within itself."""

    def __enter__(self) -> Stage:
        if not _is_compiling():
            try:
                self._runs.append(_begin(self._name))
            except Exception as error:  # noqa: BLE001  # as `guard` does, at less cost
                _failures.note("beginning a stage", error)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not _is_compiling():
            try:
                thread = threading.get_ident()
                run = next((one for one in reversed(self._runs) if one.thread == thread), None) or self._runs[-1]
                self._runs.remove(run)
                _end(run)
            except Exception as problem:  # noqa: BLE001
                _failures.note("ending a stage", problem)

    async def __aenter__(self) -> Stage:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Function) -> Function:
        """The function, each call of which is a stage: to its end, where it is a coroutine or a generator."""
        return cast("Function", _decorated(self._name, function))


def _decorated(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with Stage(name):
                return await function(*args, **kwargs)

        return coroutine
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with Stage(name):
                return (yield from function(*args, **kwargs))

        return generator
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def asynchronous_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            with Stage(name):
                inner = function(*args, **kwargs)
                try:
                    item = await inner.__anext__()
                    while True:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            raise
                        except BaseException as error:  # noqa: BLE001  # thrown in: the function's to handle
                            item = await inner.athrow(error)
                        else:
                            item = await inner.asend(sent)
                except StopAsyncIteration:
                    return
                finally:
                    await inner.aclose()

        return asynchronous_generator

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with Stage(name):
            return function(*args, **kwargs)

    return call


@overload
def stage(name: str) -> Stage: ...
@overload
def stage(name: Function) -> Function: ...
def stage(name: str | Function) -> Stage | Function:
    """A part of this program's work, with a name, for `gpumodels-tui` to show with what it did to memory. Never raises.

        with gpumodels.stage("denoise"):      # also: async with
            …

        @gpumodels.stage("load")              # also: @gpumodels.stage, named after the function
        def load(): …

    Stages may be nested and run in several threads and tasks at once. Without a running sidecar, this does nothing.

    Args:
        name: for people; of another type than `str`, its text is used where that is a number's.
    """
    if type(name) is str:  # first, as Dynamo traces no more than this
        return Stage(name)
    if callable(name) and not is_a(name, str):
        return cast("Function", _decorated(_text(getattr(name, "__qualname__", None)), name))
    return Stage(_text(name))


def _text(name: object) -> str:
    if is_a(name, str):
        return str.__str__(name)
    return repr(name) if type(name) in (int, float) else NO_NAME


_compiling: Callable[[], bool] | None = None


def _is_compiling() -> bool:
    """Whether Dynamo traces this call, which then is none: what it compiles would begin and end no stage when it runs."""
    global _compiling
    if _compiling is not None:
        return _compiling()
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "nn"):
        return False
    _compiling = is_compiling(torch)
    return _compiling()
