"""The command `gpumodels-tui other`: what is in a process's memory beside models."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from gpumodels_tui.commands.questions import does_answer, is_number, running, say_searching
from gpumodels_tui.printing import say, write

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Ask the process. Returns the exit code: 1 without an answer, 2 if there is no such process, or more than one."""
    import msgspec

    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui.oneshot import glance
    from gpumodels_tui.sources.asking import NoAnswerError, ask_other
    from gpumodels_tui.view.device_names import process_title
    from gpumodels_tui.view.other_memory import cost_of_other, lines_of_other

    if not is_number(arguments.pid):
        return 2
    found_running = running(glance(sources).feed.processes, arguments.pid)
    if len(found_running) != 1:
        if not found_running:
            say("error: no such process runs with a sidecar" if arguments.pid else "error: no process runs with a sidecar")
        else:
            say("error: more than one process runs with a sidecar; choose one")
        for process in found_running:
            say(f"  {process_title(process)}: --pid {process.shown_pid}")
        return 2
    process = found_running[0]
    if not does_answer(process):
        return 1
    try:
        found = ask_other(process.path, say_searching)
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
