"""The command `gpumodels-tui other`: what is in a process's memory beside models."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from gpumodels_tui.printing import say, write

if TYPE_CHECKING:
    from gpumodels_tui.sources.feed import ProcessState
    from gpumodels_tui.sources.opening import Sources


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Ask the process. Returns the exit code: 1 without an answer, 2 if there is no such process, or more than one."""
    import msgspec

    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui.oneshot import glance
    from gpumodels_tui.sources.asking import NoAnswerError, ask_other
    from gpumodels_tui.view.device_names import process_title
    from gpumodels_tui.view.holders import in_milliseconds
    from gpumodels_tui.view.other_memory import cost_of_other, lines_of_other

    if arguments.pid and not arguments.pid.isdecimal():
        say(f"error: --pid {safe_text(arguments.pid)}: not the number of a process")
        return 2
    running = _running(glance(sources).feed.processes, int(arguments.pid) if arguments.pid else None)
    if len(running) != 1:
        if not running:
            say("error: no such process runs with a sidecar" if arguments.pid else "error: no process runs with a sidecar")
        else:
            say("error: more than one process runs with a sidecar; choose one")
        for process in running:
            say(f"  {process_title(process)}: --pid {process.shown_pid}")
        return 2
    process = running[0]
    if process.snapshot is not None and not process.snapshot.process.answers:
        say(f"error: {process_title(process)} doesn't answer: GPUMODELS_ASK=0 is set there, or its sidecar is an older one")
        return 1
    try:
        found = ask_other(
            process.path,
            lambda seconds: say(f"searching; this holds the process's interpreter for {in_milliseconds(seconds)} at a time"),
        )
    except NoAnswerError as error:
        say(f"error: {safe_text(str(error))}")
        return 1
    if arguments.json:
        document = {"schema": 1, "pid": process.shown_pid, **msgspec.to_builtins(found)}
        write(json.dumps(document) + "\n")
        return 0
    write(f"{process_title(process)} has in memory beside its models:\n\n")
    write("".join(f"{line}\n" for line in lines_of_other(found)) + f"\n{cost_of_other(found)}\n")
    return 0


def _running(processes: tuple[ProcessState, ...], pid: int | None) -> list[ProcessState]:
    from gpumodels_shared.liveness import Liveness

    return [
        process
        for process in processes
        if process.snapshot is not None
        and process.liveness not in (Liveness.EXITED, Liveness.DEAD)
        and pid in (None, process.pid, process.shown_pid)
    ]
