"""The command `gpumodels-tui doctor`."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gpumodels_tui.doctor.findings import Result
    from gpumodels_tui.doctor.machine import Machine
    from gpumodels_tui.sources.opening import Sources

FAILED: Final = 2
"""The exit code where a check failed, and where the file for a bug report can't be written."""


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Run all checks. Returns the exit code."""
    from gpumodels_tui.doctor.checks import CHECKS
    from gpumodels_tui.doctor.findings import worst
    from gpumodels_tui.doctor.machine import Machine
    from gpumodels_tui.doctor.report import document_text, report
    from gpumodels_tui.doctor.running import run_checks
    from gpumodels_tui.doctor.terminals import terminal_size
    from gpumodels_tui.printing import write
    from gpumodels_tui.settings.directories import as_path

    machine = Machine(sources, os.environ, terminal_size(1))
    results = run_checks(CHECKS, machine)
    write(document_text(results) if arguments.json else report(results))
    if arguments.bundle is not None and not _is_written(as_path(arguments.bundle), results, machine):
        return FAILED
    return worst(result.status for result in results).exit_code


def _is_written(path: Path, results: Sequence[Result], machine: Machine) -> bool:
    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui.doctor.bundle import write_bundle
    from gpumodels_tui.printing import say

    shown = safe_text(str(path))
    try:
        write_bundle(path, results, machine)
    except OSError as error:
        say(f"error: cannot write {shown}: {(error.strerror or str(error)).lower()}")
        return False
    say(f"wrote {shown}: please look through it before you send it")
    return True
