"""The commands that bring the sidecar into an environment or into a running process: their arguments, and what they print."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

LAUNCHING: Final = frozenset({"enable", "disable", "status", "attach"})
TIMEOUT_SECONDS: Final = 30.0


def add_launching(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to those of `gpumodels`."""
    for name, what in (
        ("enable", "have every Python of this environment start the sidecar when it imports torch"),
        ("disable", "remove what enable wrote"),
        ("status", "whether this environment is enabled, and by which files"),
    ):
        commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    attach_parser = commands.add_parser(
        "attach",
        help="start the sidecar in a running process, Python 3.14 or newer",
        description="Start the sidecar in a running process, Python 3.14 or newer. What was loaded before is not seen.",
    )
    attach_parser.add_argument("pid", metavar="PID", type=int, help="the process")
    attach_parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_SECONDS, metavar="S", help="wait so many seconds until it runs Python code; 30"
    )


def run_launching(options: argparse.Namespace) -> int:
    """Exit code: 0; 1 with a line on stderr that says why."""
    if sys.platform == "win32":
        print("gpumodels: Windows is not supported: the sidecar would stay off there", file=sys.stderr)
        return 1
    return _attach(options) if options.command == "attach" else _environment(options.command)


def _attach(options: argparse.Namespace) -> int:
    from gpumodels.launching.attaching import AttachError, attach

    try:
        print(attach(options.pid, options.timeout, lambda line: print(f"gpumodels: {line}", file=sys.stderr, flush=True)))
    except AttachError as error:
        print(f"gpumodels: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gpumodels: interrupted; the sidecar starts there once the process runs Python code", file=sys.stderr)
        return 1
    return 0


def _environment(command: str) -> int:
    from gpumodels.launching.enabling import EnablingError, Environment

    environment = Environment.own()
    place = f"{environment.folder} (Python {'.'.join(map(str, environment.version))})"
    try:
        if command == "enable":
            for file in environment.enable():
                print(f"wrote {file}")
            print("every process of this environment that imports torch from now on starts the sidecar; GPUMODELS=0 keeps it off")
        elif command == "disable":
            removed = environment.disable()
            for file in removed:
                print(f"removed {file}")
            if not removed:
                print(f"{place} is not enabled")
        else:
            return _status(environment.files(), environment.problem(), place)
    except EnablingError as error:
        print(f"gpumodels: {error}", file=sys.stderr)
        return 1
    return 0


def _status(files: list[Path], problem: str | None, place: str) -> int:
    if not files:
        print(f"gpumodels: {place} is not enabled; run: gpumodels enable", file=sys.stderr)
        return 1
    for file in files:
        print(file)
    if problem is not None:
        print(f"gpumodels: {problem}; run: gpumodels enable", file=sys.stderr)
        return 1
    print(f"{place} is enabled")
    return 0
