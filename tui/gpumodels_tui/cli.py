"""The command `gpumodels-tui`: parses the arguments, and starts the screens or prints once. Screens are imported on demand."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from gpumodels_shared.safe_text import safe_text

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources

EXTRA: Final = frozenset({"msgspec", "platformdirs", "psutil", "pynvml", "rich", "textual", "watchdog", "safetensors"})
"""The packages that the extra `tui` installs."""

FOR_METRICS: Final = frozenset({"prometheus_client"})
"""The packages that the extra `metrics` installs."""

LISTEN: Final = "127.0.0.1:9477"

THEMES: Final = ("terminal", "dark", "light", "high-contrast", "monochrome")
"""The names of all looks in `theme`, which is imported only for the screens."""


CLOSED: Final = "it is closed"
"""Python has no stdout if its descriptor was closed before it began."""

LEAST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 3600.0
"""The limits of `--interval`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0; 1 if there is nothing to show or it can't start; 2 for bad arguments."""
    # What is imported stays, and what is printed once is soon over: collecting garbage would find none.
    gc.disable()
    try:
        return _run(argv)
    finally:
        gc.enable()


def _run(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names are printed in any locale, escaped if necessary
    try:
        arguments = _arguments(argv)
        if arguments.version:
            _write(f"gpumodels-tui {_version()}\n")
            return 0
        sources = _sources(arguments, os.environ)
        if arguments.command == "metrics":
            return _metrics(sources, arguments)
        if not arguments.once and not arguments.json and sys.stdout.isatty():
            if os.environ.get("TERM", "dumb") != "dumb":
                from gpumodels_tui.plain_terminal import needs_ascii
                from gpumodels_tui.starting import run_app

                return run_app(
                    sources,
                    theme_name=arguments.theme,
                    ascii_only=arguments.ascii or needs_ascii(os.environ),
                    interval_seconds=arguments.interval,
                )
            _say("this terminal can't draw screens (TERM=dumb); using --once")
        return _print_once(sources, arguments.json)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA | FOR_METRICS:
            raise
        extras = "tui,metrics" if package in FOR_METRICS else "tui"
        _say(f"error: {package} is not installed; run: pip install 'gpumodels[{extras}]'")
        return 1
    except OutputError as error:
        _say(f"error: can't write to stdout: {error}; send the output to a file or program that takes it")
        return 1
    except BrokenPipeError:  # the reader of our output has seen enough
        return 0
    except KeyboardInterrupt:
        return 130


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed arguments.

    Raises:
        SystemExit: the help was printed, or they are bad.
        OutputError: nothing can be printed.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as ended:
        if not ended.code and sys.stdout is not None:  # without it, the help is on stderr
            _write("")  # the help has arrived now, or it can't
        raise
    if sys.stdout is None:
        raise OutputError(CLOSED)
    return arguments


class OutputError(Exception):
    """Nothing can be printed; the text says why."""


def _write(text: str) -> None:
    """Print the text, and see to it that it arrives.

    Raises:
        BrokenPipeError: the reader has closed the pipe.
        OutputError: the output is full, or can't be written to for another reason.
    """
    if sys.stdout is None:
        raise OutputError(CLOSED)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):  # what is still buffered must not fail again at exit
            descriptor = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if isinstance(error, BrokenPipeError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(reason[:1].lower() + reason[1:]) from error


def _seconds(text: str) -> float:
    """The argument of `--interval`.

    Raises:
        argparse.ArgumentTypeError: it is no number of seconds, or not within the limits.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {LEAST_SECONDS:g} to {MOST_SECONDS:g}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpumodels-tui",
        description="Which models are in which GPU's memory. Shows the processes in which `gpumodels.start()` runs.",
        epilog="Environment: GPUMODELS_DIR, GPUMODELS_MODELS (like PATH), NO_COLOR. If stdout is not a terminal, --once is used.",
        allow_abbrev=False,
    )
    _add_sources(parser, [])
    parser.add_argument(
        "--theme", choices=THEMES, default=THEMES[0], help="the colours of the screens; default: the terminal's own sixteen"
    )
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only; the default if the locale is not UTF-8")
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="refresh the screens so often; default: 1; the keys + and - change it",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--once", action="store_true", help="print one plain table")
    output.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", description="Without one: the screens.")
    _add_metrics(commands)
    return parser


def _add_sources(parser: argparse.ArgumentParser, default: list[str] | str) -> None:
    """What is read; the same for the screens and for every command, where the default leaves alone what stands before it."""
    parser.add_argument("--dir", action="append", default=default, metavar="D", help="read the sidecars' files in D; repeatable")
    parser.add_argument(
        "--models",
        action="append",
        default=default,
        metavar="D",
        help="read model files below D; repeatable. Default: those in config.toml, else ComfyUI's and Hugging Face's folders",
    )


def _add_metrics(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "metrics",
        help="serve metrics for Prometheus",
        description="Serves metrics of models and memory for Prometheus, and the JSON document at /json, until it is stopped.",
        epilog="No pid, path or argument is in a label unless asked for. Other pages: /json, /-/healthy, /-/ready.",
        allow_abbrev=False,
    )
    _add_sources(parser, argparse.SUPPRESS)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--listen", default=LISTEN, metavar="HOST:PORT", help=f"the address; default: {LISTEN}")
    place.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    place.add_argument("--textfile", metavar="PATH", help="write them to PATH once, for node_exporter's textfile collector")
    parser.add_argument("--user", metavar="NAME", help="only this user's processes")
    parser.add_argument("--top", type=_count, default=100, metavar="N", help="series for the N largest models; default: 100")
    parser.add_argument("--with-pid", action="store_true", help="put the pid into gpumodels_process_info")
    parser.add_argument("--with-paths", action="store_true", help="put whole paths into gpumodels_model_info")


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError(text)
    return count


def _metrics(sources: Sources, arguments: argparse.Namespace) -> int:
    from gpumodels_tui.service.metric_families import Choices
    from gpumodels_tui.service.metrics_service import serve, write_textfile
    from gpumodels_tui.settings import as_path

    choices = Choices(arguments.user, arguments.top, arguments.with_pid, arguments.with_paths)
    if arguments.textfile is not None:
        return write_textfile(sources, _version(), choices, as_path(arguments.textfile))
    address = arguments.listen if arguments.unix is None else as_path(arguments.unix)
    return serve(sources, _version(), choices, address)


def _version() -> str:
    import importlib.metadata  # slow to import

    try:
        return importlib.metadata.version("gpumodels")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _sources(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Sources:
    """The directories chosen by arguments, environment and configuration; see `settings`."""
    from gpumodels_tui.settings import as_path, cache_path, model_directories
    from gpumodels_tui.sources.opening import Sources

    models = model_directories(arguments.models, environment)
    return Sources(
        feed_directories=tuple(map(as_path, arguments.dir)) or None,  # the feed handles GPUMODELS_DIR and the default
        model_directories=models.directories,
        are_chosen=models.are_chosen,
        cache=cache_path(),
        warnings=() if models.problem is None else (models.problem,),
    )


def _print_once(sources: Sources, as_json: bool) -> int:
    from gpumodels_tui import json_output
    from gpumodels_tui.oneshot import glance, table
    from gpumodels_tui.sources.feed import NO_SUCH_DIRECTORY
    from gpumodels_tui.view.builder import build_view

    seen = glance(sources)
    view = build_view(seen.feed, seen.hardware, seen.catalogue)
    if as_json:
        _write(json_output.text(seen))
    elif view.processes:
        _write(table(view, seen.taken_at_ns))
    missing = {one.path for one in seen.feed.unreadable if one.reason == NO_SUCH_DIRECTORY}
    for warning in view.warnings:
        if view.processes or not any(warning.startswith(safe_text(f"{path}: ")) for path in missing):
            _say(f"warning: {warning}")
    if view.processes:
        return 0
    where = ", ".join(
        safe_text(str(directory)) + (f" ({NO_SUCH_DIRECTORY})" if directory in missing else "")
        for directory in seen.feed.directories
    )
    _say(
        f"error: no running sidecar's file in {where}; start one by `import gpumodels; gpumodels.start()` in a process, "
        "or by `python -m gpumodels run script.py`, or try `python -m gpumodels demo`"
    )
    return 1


def _say(line: str) -> None:
    """Say it on stderr, if there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"gpumodels-tui: {line}\n")
            sys.stderr.flush()
