"""After stop() a process is as it was: two walks over it, before start() and after, differ in nothing but what is said here.

What may be left: the imported package itself (its modules, their functions, classes and constants), and in the interpreter's
lists of fork handlers one function each, before, after in the parent and after in the child, per imported copy of the package:
Python has no way to take them out. They do nothing while no sidecar runs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from host_unchanged.recording import differences, environment_of
from host_unchanged.table import Mode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FORK_HANDLER: Final = re.compile(r"list holds gpumodels(\.\w+)*\.\w*fork\w*")


def walks_of(scenario: str, directory: Path) -> list[dict[str, Any]]:
    """The walks of a host, the fork handlers taken out after they were counted."""
    home = directory / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "host_unchanged.stopping_host", scenario],
        cwd=home,
        env=environment_of(Mode.BESIDE, directory),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    walks: list[dict[str, Any]] = json.loads(done.stdout)
    return walks


def without_fork_handlers(walk: dict[str, Any], copies: int) -> dict[str, Any]:
    """The walk with one handler of each kind per copy forgiven."""
    held = dict(walk["held by others"])
    handlers = [name for name in held if FORK_HANDLER.fullmatch(name)]
    assert len(handlers) <= 3, handlers
    for name in handlers:
        assert held.pop(name) <= copies
    return {**walk, "held by others": held}


def test_nothing_is_left_after_stop(tmp_path: Path) -> None:
    before, after, again = walks_of("after torch", tmp_path)
    assert not list(differences(before, without_fork_handlers(after, 1)))
    assert not list(differences(after, again))


def test_nothing_is_left_where_torch_came_after_start(tmp_path: Path) -> None:
    for name in ("started", "never"):
        (tmp_path / name).mkdir()
    (after,) = walks_of("before torch", tmp_path / "started")
    (never,) = walks_of("never", tmp_path / "never")
    here = os.fspath(tmp_path)
    found = [each for each in differences(never, without_fork_handlers(after, 1)) if here not in each]
    assert not found, "\n".join(found)


def test_nothing_is_left_of_a_package_that_was_purged_and_imported_again(tmp_path: Path) -> None:
    before, after, again = walks_of("purged", tmp_path)
    assert not list(differences(before, without_fork_handlers(after, 2)))
    assert not list(differences(before, without_fork_handlers(again, 3)))
