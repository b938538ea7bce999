"""Hosts that run in a process of their own: how it ends and what it prints, under strict interpreters and debuggers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from host_unchanged.observing import plain
from host_unchanged.recording import run_in_all_modes
from host_unchanged.table import Mode

pytestmark = pytest.mark.timeout(500)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run `lone_host`."""

    name: str
    ending: str
    exit_code: int
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    needs: str | None = None


CASES = [
    Case("strict", "exits", 3, ("-W", "error", "-X", "dev"), {"PYTHONMALLOC": "debug"}),
    Case("raising", "raises", 1),
    Case("terminated", "is terminated", -15),
    Case("crashing", "crashes", -11),
    Case("debugged", "returns", 0, ("-X", "frozen_modules=off", "-m", "debugpy", "--listen", "127.0.0.1:0"), needs="debugpy"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_process_ends_and_prints_the_same(case: Case, tmp_path: Path) -> None:
    if case.needs is not None and find_spec(case.needs) is None:
        pytest.skip(f"{case.needs} isn't installed")
    command = [sys.executable, *case.options, "-m", "host_unchanged.lone_host", case.ending]
    ended = run_in_all_modes(command, tmp_path, case.environment)
    seen = {
        mode: (each.returncode, *(_text(text, tmp_path / mode.value) for text in (each.stdout, each.stderr)))
        for mode, each in ended.items()
    }
    assert seen[Mode.WITHOUT][0] == case.exit_code, seen[Mode.WITHOUT]
    assert seen[Mode.BESIDE] == seen[Mode.WITHOUT]
    assert seen[Mode.AFTER] == seen[Mode.WITHOUT]


def _text(text: str, directory: Path) -> str:
    """The output without the run's directory and without the extension modules that a crash lists, of which msgpack is one."""
    lines = plain(text.replace(str(directory), "~")).splitlines()
    return "\n".join(line for line in lines if not line.startswith("Extension modules:"))
