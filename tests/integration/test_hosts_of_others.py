"""`make test-hosts` itself: a suite that is the same beside the sidecar passes, and each test that isn't is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAME = """
import pytest, torch
def test_passes():
    assert torch.nn.Linear(4, 4)(torch.zeros(4)).shape == (4,)
def test_fails():
    assert False
@pytest.mark.skip
def test_is_skipped():
    pass
"""

DIFFERENT = """
import sys
def test_is_disturbed():
    assert "gpumodels" not in sys.modules
"""

STOPS_IT = """
def test_stops_it():
    import gpumodels
    gpumodels.stop()
"""


def run(directory: Path, source: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    (directory / "test_host.py").write_text(source)
    command = [sys.executable, "-m", "hosts_of_others", "--no-installed", f"theirs={directory}"]
    place = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=100)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_suite_that_ends_alike_is_the_same(tmp_path: Path) -> None:
    code, printed = run(tmp_path, SAME)
    assert printed.count("1 passed, 1 failed, 1 skipped") == 2
    assert code == 0


def test_a_test_that_ends_otherwise_beside_the_sidecar_is_named(tmp_path: Path) -> None:
    code, printed = run(tmp_path, SAME + DIFFERENT)
    assert "test_host.py::test_is_disturbed: passed without, failed with it" in printed
    assert "test_passes" not in printed
    assert code == 1


def test_a_suite_that_ends_the_sidecar_was_not_beside_it(tmp_path: Path) -> None:
    code, printed = run(tmp_path, STOPS_IT)
    assert "the sidecar did not run to the end" in printed
    assert code == 1
