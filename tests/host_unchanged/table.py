"""The table of host programs: each must observe the same without the sidecar, beside it, and after it was stopped.

To add one, write a function in a module of `programs/` and mark it `@program`. It takes nothing, works in an empty current
directory of its own, and returns what a host can observe, as JSON can carry it and the same on every run: no address, no time,
no absolute path (`observing` has what turns tensors, files, functions and errors into such values). What holds for all programs
is recorded around each by `running`: warnings, output, descriptors and threads left, dynamo's counters.

A program may be a generator: what it does before its `yield` happens while the sidecar runs, and in the third mode the sidecar is
stopped there. All programs of a module share a process, one process a mode.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MODE_VARIABLE: Final = "HOST_UNCHANGED_MODE"
PROGRAMS: Final = "host_unchanged.programs"
STARTED_LATE: Final = frozenset({"bound_early"})
"""Groups whose sidecar starts after the host has imported torch and bound its functions; in the others it starts before."""


class Mode(str, Enum):
    """How a host runs."""

    WITHOUT = "without"
    BESIDE = "beside"
    AFTER = "after"

    @classmethod
    def of_this_process(cls) -> Mode:
        """The mode that the recording process was started in; its children inherit it."""
        return cls(os.environ.get(MODE_VARIABLE, cls.WITHOUT.value))


class MissingError(Exception):
    """A program can't run here: a library, a compiler or a Python version is missing."""


@dataclass(frozen=True, slots=True)
class Program:
    """One host program of the table."""

    group: str
    name: str
    run: Callable[[], Any]


_programs: dict[str, Program] = {}


def program(run: Callable[[], Any]) -> Callable[[], Any]:
    """Decorator that puts the function into the table."""
    group = run.__module__.rpartition(".")[2]
    _programs[f"{group}.{run.__name__}"] = Program(group, run.__name__, run)
    return run


def groups() -> list[str]:
    """Names of the modules of programs."""
    return sorted(path.stem for path in (Path(__file__).parent / "programs").glob("*.py") if path.stem != "__init__")


def programs_of(group: str) -> list[Program]:
    """The group's programs in the order they were written; imports the module, and so torch."""
    importlib.import_module(f"{PROGRAMS}.{group}")
    return [each for each in _programs.values() if each.group == group]


def need(name: str) -> ModuleType:
    """Import a library that not every environment has.

    Raises:
        MissingError: it isn't installed.
    """
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise MissingError(f"{name} isn't installed")
    return importlib.import_module(name)
