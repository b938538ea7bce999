"""After stop() a process is as it was: walks through its state before start() and after differ only in what is listed here.

What may be left: the imported package itself (its modules, their functions, classes and constants), and in the interpreter's
lists of fork handlers one function each, before, after in the parent and after in the child, per imported copy of the package:
Python has no way to take them out. They do nothing while no sidecar runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, Final

import pytest

from host_unchanged.recording import differences, environment_of
from host_unchanged.stopping_host import SCENARIOS
from host_unchanged.table import Mode

pytestmark = pytest.mark.timeout(500)

FORK_HANDLER: Final = re.compile(r"list holds gpumodels(\.\w+)*\.\w*fork\w*")


Walks = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Walks:
    """By scenario, its walks; all scenarios run at once."""
    children = {}
    for scenario in SCENARIOS:
        directory = tmp_path_factory.mktemp(scenario.replace(" ", "_"))
        (directory / "home").mkdir()
        children[scenario] = subprocess.Popen(
            [sys.executable, "-m", "host_unchanged.stopping_host", scenario],
            cwd=directory / "home",
            env=environment_of(Mode.BESIDE, directory),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    told = {}
    for scenario, child in children.items():
        stdout, stderr = child.communicate()
        assert child.returncode == 0, stderr
        told[scenario] = json.loads(stdout)
    return told


def without_fork_handlers(walk: dict[str, Any], copies: int) -> dict[str, Any]:
    """The walk without one fork handler of each kind per copy of the package."""
    held = dict(walk["held by others"])
    handlers = [name for name in held if FORK_HANDLER.fullmatch(name)]
    assert len(handlers) <= 3, handlers
    for name in handlers:
        assert held.pop(name) <= copies
    return {**walk, "held by others": held}


def test_nothing_is_left_after_stop(walks: Walks) -> None:
    before, after, again = walks["after torch"]
    assert_same(before, without_fork_handlers(after, 1))
    assert_same(after, again)


def test_nothing_is_left_where_torch_came_after_start(walks: Walks) -> None:
    (after,), (never,) = walks["before torch"], walks["never"]
    assert_same(never, without_fork_handlers(after, 1))


def test_nothing_is_left_of_a_package_that_was_purged_and_imported_again(walks: Walks) -> None:
    before, after, again = walks["purged"]
    assert_same(before, without_fork_handlers(after, 2))
    assert_same(before, without_fork_handlers(again, 3))


def test_nothing_is_left_where_the_first_copy_was_lost(walks: Walks) -> None:
    before, after, again = (without_fork_handlers(each, 9) for each in walks["purged and lost"])
    assert after["hook tables"] == before["hook tables"] == again["hook tables"]
    assert after["threads"] == before["threads"] == again["threads"]
    assert_same(before, after)


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Fail with a line for each difference."""
    if different := list(differences(before, after)):
        pytest.fail("\n".join(different), pytrace=False)
