"""The local variables of the functions that the host's threads are running, read without leaving a trace in them."""

from __future__ import annotations

import dis
import gc
import sys
import threading
from collections.abc import Iterator
from inspect import CO_NEWLOCALS
from types import CodeType, FrameType
from typing import Any, Final

MAX_FRAMES: Final = 200
"""Frames of one thread, the innermost first, that are read."""

PYTHON: Final[tuple[int, ...]] = sys.version_info[:2]

_BUILTIN_READERS: Final = frozenset({"locals", "vars", "dir", "eval", "exec"})
_READERS_OF_LOCALS: Final = frozenset({"f_locals", "_getframe", "currentframe", "stack", "settrace", "setprofile"})
"""A function that uses one of these names may keep its dictionary of local variables: nobody else may then touch it. The first
ones are functions; an attribute of such a name, as `eval` of a torch module, is none of them."""
_LOADS_NAME: Final = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"})


def frames_of_threads(own_thread: int) -> Iterator[tuple[int, FrameType]]:
    """Each running frame with its thread, of all threads but this one. A frame is to be dropped before the host goes on."""
    for thread in sys._current_frames():
        if thread != own_thread:
            for frame in frames_of_thread(thread):
                yield thread, frame


def threads_with_frames(own_thread: int) -> list[int]:
    """The threads that run Python, but for this one; the main thread first."""
    main = threading.main_thread().ident
    return sorted((thread for thread in sys._current_frames() if thread != own_thread), key=lambda thread: thread != main)


def frames_of_thread(thread: int) -> Iterator[FrameType]:
    """The thread's running frames, the innermost first; none if it ended. A frame is to be dropped before the host goes on."""
    frame: FrameType | None = sys._current_frames().get(thread)
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        yield frame
        frame = frame.f_back


def locals_of(frame: FrameType) -> list[Any]:
    """The values of a running frame's local variables; empty where reading them could change them.

    From Python 3.13 on `f_locals` only shows the variables, and the collector knows those of Python 3.10. In between, `f_locals`
    is a dictionary that stays with the frame and keeps all that was in it alive: it is emptied again at once. A debugger or
    profiler written in Python copies this dictionary back into the frame, so beside one nothing is read.
    """
    if not frame.f_code.co_flags & CO_NEWLOCALS:
        return [frame.f_locals]  # the namespace of a module or a class
    if PYTHON >= (3, 13):
        return [*frame.f_locals.values()]
    if PYTHON < (3, 11):
        return [held for held in gc.get_referents(frame) if held is not frame.f_globals and type(held) is not FrameType]
    if _may_read_locals(frame.f_code) or _is_traced(frame):
        return []
    namespace = frame.f_locals
    values = [*namespace.values()]
    if sys.getrefcount(namespace) <= _REFERENCES:
        namespace.clear()
    return values


def _may_read_locals(code: CodeType) -> bool:
    names = {*code.co_names, *code.co_freevars}
    if not _READERS_OF_LOCALS.isdisjoint(names):
        return True
    if _BUILTIN_READERS.isdisjoint(names):
        return False
    return any(one.opname in _LOADS_NAME and one.argval in _BUILTIN_READERS for one in dis.get_instructions(code))


def _is_traced(frame: FrameType) -> bool:
    """Whether a function written in Python traces or profiles this frame, as far as that shows."""
    if threading.gettrace() is not None or threading.getprofile() is not None:
        return True
    return frame.f_trace is not None or "event" in frame.f_code.co_varnames[:3]


_REFERENCES: Final = 3
"""To a frame's dictionary of local variables: the frame's, ours, and the argument of `getrefcount`."""


def named_locals_of(frame: FrameType) -> dict[str, Any]:
    """The local variables of a running frame by name; empty where reading them could change them, as for `locals_of`."""
    if not frame.f_code.co_flags & CO_NEWLOCALS or PYTHON >= (3, 13):
        return dict(frame.f_locals)
    if _may_read_locals(frame.f_code) or _is_traced(frame):
        return {}
    namespace = frame.f_locals
    values = dict(namespace)
    if sys.getrefcount(namespace) <= _REFERENCES:
        namespace.clear()
    return values
