"""The command `gpumodels-tui`: parses the arguments, and starts the screens or prints once. Screens are imported on demand."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from gpumodels_shared.safe_text import safe_text

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources

EXTRA: Final = frozenset({"msgspec", "platformdirs", "psutil", "pynvml", "rich", "textual", "watchdog", "safetensors"})
"""The packages that the extra `tui` installs."""

THEMES: Final = ("terminal", "dark", "light", "high-contrast", "monochrome")
"""The names of all looks in `theme`, which is imported only for the screens."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0; 1 if there is nothing to show or it can't start; 2 for bad arguments."""
    arguments = _parser().parse_args(argv)
    if arguments.version:
        print(f"gpumodels-tui {_version()}")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names are printed in any locale, escaped if necessary
    try:
        sources = _sources(arguments, os.environ)
        if not arguments.once and not arguments.json and sys.stdout.isatty():
            if os.environ.get("TERM", "dumb") != "dumb":
                from gpumodels_tui.plain_terminal import needs_ascii
                from gpumodels_tui.starting import run_app

                return run_app(sources, theme_name=arguments.theme, ascii_only=arguments.ascii or needs_ascii(os.environ))
            _say("this terminal can't draw screens (TERM=dumb); using --once")
        return _print_once(sources, arguments.json)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        _say(f"error: {error.name} is not installed; run: pip install 'gpumodels[tui]'")
        return 1
    except BrokenPipeError:
        # The reader of our output has closed it. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpumodels-tui",
        description="Which models are in which GPU's memory. Shows the processes in which `gpumodels.start()` runs.",
        epilog="Environment: GPUMODELS_DIR, GPUMODELS_MODELS (like PATH), NO_COLOR. If stdout is not a terminal, --once is used.",
        allow_abbrev=False,
    )
    parser.add_argument("--dir", action="append", default=[], metavar="D", help="read the sidecars' files in D; repeatable")
    parser.add_argument(
        "--models",
        action="append",
        default=[],
        metavar="D",
        help="read model files below D; repeatable. Default: those in config.toml, else ComfyUI's and Hugging Face's folders",
    )
    parser.add_argument(
        "--theme", choices=THEMES, default=THEMES[0], help="the colours of the screens; default: the terminal's own sixteen"
    )
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII only; the default if the locale is not UTF-8")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--once", action="store_true", help="print one plain table")
    output.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser


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
        sys.stdout.write(json_output.text(seen))
    elif view.processes:
        sys.stdout.write(table(view, seen.taken_at_ns))
    sys.stdout.flush()
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
    sys.stderr.write(f"gpumodels-tui: {line}\n")
