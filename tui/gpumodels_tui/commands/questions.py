"""What the commands that ask a process have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpumodels_tui.printing import say

if TYPE_CHECKING:
    from gpumodels_tui.sources.feed import ProcessState


def is_number(pid: str | None) -> bool:
    """Whether a pid is one, if it was given; says so if not."""
    from gpumodels_shared.safe_text import safe_text

    if pid and not pid.isdecimal():
        say(f"error: --pid {safe_text(pid)}: not the number of a process")
        return False
    return True


def running(processes: tuple[ProcessState, ...], pid: str | None) -> list[ProcessState]:
    """The processes that can be asked; of this pid, inside or outside its container, if one is given."""
    from gpumodels_shared.liveness import Liveness

    chosen = int(pid) if pid else None
    return [
        process
        for process in processes
        if process.snapshot is not None
        and process.liveness not in (Liveness.EXITED, Liveness.DEAD)
        and chosen in (None, process.pid, process.shown_pid)
    ]


def does_answer(process: ProcessState) -> bool:
    """Whether its sidecar answers; says so if not."""
    from gpumodels_tui.view.device_names import process_title

    if process.snapshot is not None and not process.snapshot.process.answers:
        say(f"error: {process_title(process)} doesn't answer: GPUMODELS_ASK=0 is set there, or its sidecar is an older one")
        return False
    return True


def say_searching(seconds: float) -> None:
    """Say for how long the search holds the process."""
    from gpumodels_tui.view.holders import in_milliseconds

    say(f"searching; this holds the process's interpreter for {in_milliseconds(seconds)} at a time")
