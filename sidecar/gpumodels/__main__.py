"""The command `gpumodels` (`python -m gpumodels`): `run` any command with the sidecar, put it elsewhere, or the `demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gpumodels.launching.commands import LAUNCHING, add_launching, run_launching
from gpumodels.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0; 1 with a line on stderr that says why; 2 for bad arguments; of a script that is run, its own."""
    parser = argparse.ArgumentParser(
        prog="gpumodels", description="Shows which models a PyTorch process holds; watch them with gpumodels-tui."
    )
    parser.add_argument("--version", action="version", version=f"gpumodels {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser(
        "run",
        help="run any command, unchanged, with the sidecar in each of its PyTorch processes",
        usage="gpumodels run [--] COMMAND ... | script.py ... | -m module ...",
        description="Every Python below the command starts the sidecar once it imports torch: workers of torchrun, accelerate "
        "and vllm, reloaders, and what shell scripts run.",
    )
    _add_comfyui(commands)
    add_launching(commands)
    demo_parser = commands.add_parser("demo", help="load, move, swap and unload example models, for ever")
    demo_parser.add_argument(
        "--simulate-gpus", type=int, default=0, metavar="N", help="N simulated 80 GB GPUs (no memory is taken)"
    )
    demo_parser.add_argument("--view", action="store_true", help="show it in the viewer; without a terminal, print one table")
    demo_parser.add_argument("--seconds", type=float, metavar="S", help="stop after S seconds")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"] and given[1:2] not in (["-h"], ["--help"]):
        return _run(run_parser, given[1:])  # argparse would take `-m` and the script's own options for its own
    options = parser.parse_args(given)
    if options.command == "comfyui":
        return _comfyui(options)
    if options.command in LAUNCHING:
        return run_launching(options)
    if not 0 <= options.simulate_gpus <= 16:
        demo_parser.error("--simulate-gpus takes 0 to 16")
    from gpumodels.demo import run_demo

    return run_demo(simulated_gpus=options.simulate_gpus, view=options.view, seconds=options.seconds)


def _add_comfyui(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    comfyui = commands.add_parser(
        "comfyui",
        help="put the node pack that starts the sidecar into a ComfyUI",
        description="A node pack without nodes that starts the sidecar whenever ComfyUI starts.",
    )
    actions = comfyui.add_subparsers(dest="action", required=True)
    for action, what in (
        ("install", "put the node pack there, or bring it up to date; say which Python needs gpumodels"),
        ("uninstall", "remove the node pack, unless somebody changed it or put it there by other means"),
        (
            "status",
            "what is installed, for which Python, and whether a running ComfyUI has its sidecar",
        ),
    ):
        parser = actions.add_parser(action, help=what, description=what[0].upper() + what[1:] + ".")
        parser.add_argument("path", metavar="PATH", type=Path, help="the folder with ComfyUI's main.py, or its custom_nodes")
        if action != "uninstall":
            parser.add_argument(
                "--python", type=Path, metavar="PYTHON", help="the Python that runs this ComfyUI; found by itself as a rule"
            )
        if action == "install":
            parser.add_argument("--pip", action="store_true", help="install gpumodels into that Python, too")


def _comfyui(options: argparse.Namespace) -> int:
    if sys.platform == "win32":
        print("gpumodels: Windows is not supported: the sidecar would stay off there", file=sys.stderr)
        return 1
    from gpumodels.comfyui_pack.commands import CommandError, Commands

    commands: Commands | None = None
    problem: str | None = None
    try:
        commands = Commands(options.path, getattr(options, "python", None))
        if options.action == "install":
            commands.install(uses_pip=options.pip)
        elif options.action == "uninstall":
            commands.uninstall()
        else:
            commands.status()
    except CommandError as error:
        problem = str(error)
    for line in commands.lines if commands is not None else ():
        print(line, flush=True)
    if problem is not None:
        print(f"gpumodels: {problem}", file=sys.stderr)
    return 0 if problem is None else 1


def _run(parser: argparse.ArgumentParser, command: list[str]) -> int:
    if sys.platform == "win32":
        print("gpumodels: Windows is not supported: the sidecar would stay off there", file=sys.stderr)
        return 1
    from gpumodels.running import CannotRunError, run

    command = command[1:] if command[:1] == ["--"] else command
    if not command:
        parser.error("name a command, a script, or -m and a module")
    try:
        run(command)
    except CannotRunError as error:
        print(f"gpumodels: {error}", file=sys.stderr)
        return error.exit_code
    except FileNotFoundError as error:
        if error.errno is not None:
            raise
        print(f"gpumodels: {error}; usage: gpumodels run script.py ...", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
