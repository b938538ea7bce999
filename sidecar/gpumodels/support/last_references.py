"""Gives back an object of the host that our thread is the last to hold, to be freed in a thread of the host's.

An object that we hold for a moment may be dropped by the host just then. What frees it is foreign code, such as calls of a GPU's
driver, which isn't to run in the sidecar's thread.
"""

from __future__ import annotations

import sys
import threading
from types import CodeType
from typing import Any, Final

_waiting: list[Any] = []
_callback: Any = None
_OWN: Final = 2
"""References to a list's only item that the list and counting make."""


def give_back(held: list[Any]) -> None:
    """Empty the list, which holds one object and is its only holder in this thread.

    Args:
        held: the list; nothing else in this thread may refer to the object.
    """
    if held and sys.getrefcount(held[0]) <= _OWN and threading.current_thread() is not threading.main_thread():
        _waiting.append(held.pop())
        if _ask_main_thread():
            return
        _waiting.clear()  # it will not come to it: at the end of the process, or where too many calls wait
    held.clear()


def entries() -> tuple[CodeType, ...]:
    """The code objects that the host's main thread enters."""
    return (_drop.__code__,)


def _ask_main_thread() -> bool:
    """Have the main thread drop what waits as soon as it runs Python code; False if it can't be asked."""
    global _callback
    import ctypes

    if _callback is None:
        _callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_drop)
    asked: int = ctypes.pythonapi.Py_AddPendingCall(_callback, None)
    return asked == 0


def _drop(_nothing: object) -> int:
    """Called in the main thread."""
    while _waiting:
        del _waiting[-1]
    return 0
