"""Whether a profiler follows the whole process. Beside one the sidecar rests, since its calls and its time are recorded too.

A profiler of one thread, as `sys.setprofile` sets one and as cProfile is before Python 3.12, records nothing of the sidecar's
thread, and can't be noticed from there.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any, Final

from gpumodels.support.torch_private import is_trace_context, torch_profiler_is_running

monitoring: Any = getattr(sys, "monitoring", None)
PROFILER_TOOL: Final = 2
"""`sys.monitoring.PROFILER_ID`, from Python 3.12 on; cProfile claims it."""


def profiler_is_running() -> bool:
    """Whether torch's profiler, cProfile, or a function given to `threading.setprofile` follows the process's threads."""
    return torch_profiler_is_running() or threading.getprofile() is not None or _monitors_all_calls()


def leave_torch_trace() -> None:
    """Take the calling thread out of a trace with stacks; torch's profiler had put each thread into it.

    Nobody else's profile function is removed: what it keeps of the thread's frames isn't known.
    """
    if is_trace_context(sys.getprofile()):
        sys.setprofile(None)


def _monitors_all_calls() -> bool:
    """Whether a profiler asked `sys.monitoring` for events of all code; one that chose functions doesn't see ours."""
    if monitoring is None:
        return False
    with suppress(ValueError):  # no tool has this id, or has just given it back
        return bool(monitoring.get_events(PROFILER_TOOL))
    return False
