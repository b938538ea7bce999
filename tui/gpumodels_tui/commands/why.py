"""The command `gpumodels-tui why`: who holds a model."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from gpumodels_tui.commands.questions import does_answer, is_number, running, say_searching
from gpumodels_tui.printing import say, write

if TYPE_CHECKING:
    from gpumodels_shared.schema import Model
    from gpumodels_tui.sources.feed import ProcessState
    from gpumodels_tui.sources.opening import Sources


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Ask the model's process. Returns the exit code: 1 without an answer, 2 if no model or several have the name."""
    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui.oneshot import glance
    from gpumodels_tui.sources.asking import NoAnswerError, ask_why
    from gpumodels_tui.sources.global_lines import with_lines
    from gpumodels_tui.view.device_names import process_title
    from gpumodels_tui.view.holders import cost_of, lines_of

    if not is_number(arguments.pid):
        return 2
    matching = _matching(running(glance(sources).feed.processes, arguments.pid), arguments.model)
    if len(matching) != 1:
        say(f"error: {'no' if not matching else 'more than one'} model is called {safe_text(arguments.model)}")
        for process, model in matching:
            say(f"  {safe_text(model.name)} in {process_title(process)}: --pid {process.shown_pid}")
        return 2
    process, model = matching[0]
    if not does_answer(process):
        return 1
    try:
        found = ask_why(process.path, model.id, say_searching)
    except NoAnswerError as error:
        say(f"error: {safe_text(str(error))}")
        return 1
    found = with_lines(found, process)
    lines = lines_of(found)
    if arguments.json:
        document = {
            "schema": 1,
            "model": model.name,
            "id": model.id,
            "pid": process.shown_pid,
            "chains": [chain.text for chain in found.chains],
            "only_a_cycle": found.is_garbage,
            "held_by_c_code": list(found.by_c_code),
            "hidden_objects": found.hidden_objects,
            "is_complete": found.is_complete,
            "longest_hold_seconds": found.longest_hold_seconds,
            "seconds": found.seconds,
        }
        write(json.dumps(document) + "\n")
        return 0
    write(f"{safe_text(model.name)} in {process_title(process)} is held by:\n\n")
    write("".join(f"  {line}\n" for line in lines) + f"\n{cost_of(found)}\n")
    return 0


def _matching(processes: list[ProcessState], name: str) -> list[tuple[ProcessState, Model]]:
    """The models of this name; if there are none, those whose name contains it."""
    there = [
        (process, model) for process in processes for model in (process.snapshot.models if process.snapshot is not None else ())
    ]
    exact = [one for one in there if one[1].name == name]
    return exact or [one for one in there if name.casefold() in one[1].name.casefold()]
