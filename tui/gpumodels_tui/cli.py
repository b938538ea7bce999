"""The command `gpumodels-tui`: parses the arguments, and calls what was asked for; `settings.table` has what can be."""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

from gpumodels_tui.printing import CLOSED, OutputError, say, write

if TYPE_CHECKING:
    import argparse

    from gpumodels_tui.sources.opening import Sources

EXTRA: Final = frozenset({"msgspec", "platformdirs", "psutil", "rich", "textual", "watchdog", "safetensors"})
"""The packages that the extra `tui` installs."""

FOR_METRICS: Final = frozenset({"prometheus_client"})
"""The packages that the extra `metrics` installs."""

PROGRAM: Final = "gpumodels-tui"

SHOW: Final = "gpumodels_tui.commands.show:run"
"""What runs without a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0; 1 if there is nothing to show or it can't start; 2 for bad arguments."""
    # What is imported stays, and what is printed once is soon over: collecting garbage would find none.
    gc.disable()
    try:
        return _run(argv)
    finally:
        if argv is None:  # the process ends: Python needn't go through all of it once more
            gc.freeze()
        gc.enable()


def _run(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names are printed in any locale, escaped if necessary
    try:
        given = _given(argv)
        if given.version:
            from gpumodels_tui.commands.versions import described

            write(f"{PROGRAM} {described()}\n")
            return 0
        return _called(given)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA | FOR_METRICS:
            raise
        extras = "tui,metrics" if package in FOR_METRICS else "tui"
        say(f"error: {package} is not installed; run: pip install 'gpumodels[{extras}]'")
        return 1
    except OutputError as error:
        say(f"error: can't write to stdout: {error}; send the output to a file or program that takes it")
        return 1
    except BrokenPipeError:  # the reader of our output has seen enough
        return 0
    except KeyboardInterrupt:
        return 130


def _given(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was given on the command line.

    Raises:
        SystemExit: the help was printed, or the arguments are bad.
        OutputError: nothing can be printed.
    """
    from gpumodels_tui.settings.parser import parser  # needs packages of the extra

    try:
        words = sys.argv[1:] if argv is None else argv
        given = parser(words).parse_args(words)
    except SystemExit as ended:
        if not ended.code and sys.stdout is not None:  # without it, the help is on stderr
            write("")  # the help has arrived now, or it can't
        raise
    if sys.stdout is None:
        raise OutputError(CLOSED)
    return given


def _called(given: argparse.Namespace) -> int:
    """Call the command with every option's value; see `settings.resolving`."""
    from gpumodels_tui.settings.resolving import VariableError, resolve
    from gpumodels_tui.settings.table import COMMANDS

    command = next((command for command in COMMANDS if command.name == given.command), None)
    try:
        settings = resolve(given, os.environ)
    except VariableError as error:
        say(f"error: {error}")
        return 2
    if command is not None and command.is_strict and settings.problems:
        say(f"error: {settings.problems[0]}; {PROGRAM} {command.name} starts only without mistakes in its configuration")
        return 2
    arguments = settings.arguments(given)
    arguments.settings = settings
    module, _, function = (SHOW if command is None else command.run).partition(":")
    run = cast("Callable[[Sources, argparse.Namespace], int]", getattr(importlib.import_module(module), function))
    return run(_sources(arguments), arguments)


def _sources(arguments: argparse.Namespace) -> Sources:
    """The directories that were chosen."""
    from gpumodels_shared.places import RefusedError, chosen_group
    from gpumodels_tui.settings.directories import as_path, cache_path, model_directories
    from gpumodels_tui.sources.opening import Sources

    models = model_directories(arguments.models, os.environ)
    warnings = arguments.settings.problems
    if arguments.group:
        try:
            chosen_group({"GPUMODELS_GROUP": arguments.group})
        except RefusedError as error:
            warnings = (*warnings, str(error))
    chosen = arguments.settings.settings["dir",]
    return Sources(
        # The feed itself handles GPUMODELS_DIR and the default.
        feed_directories=None
        if chosen.origin == chosen.option.in_environment
        else tuple(as_path(one) for one in arguments.dir if one) or None,
        model_directories=models.directories,
        are_chosen=models.are_chosen,
        cache=cache_path(),
        warnings=warnings,
        group=arguments.group,
        ask_servers=arguments.ask_servers,
    )
