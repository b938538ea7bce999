from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpumodels_shared.places import snapshot_files

pytestmark = pytest.mark.slow

SCRIPT = """
import sys, threading
print(__name__, sys.argv[1:], "gpumodels" in [thread.name for thread in threading.enumerate()])
from beside import VALUE
print(VALUE)
if "--fail" in sys.argv:
    raise SystemExit(3)
if "--raise" in sys.argv:
    open("no such file")
"""


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("VALUE = 42")
    return subprocess.run(
        [sys.executable, "-m", "gpumodels", "run", *arguments],
        cwd=tmp_path,
        env={**os.environ, "GPUMODELS_DIR": str(tmp_path / "gpm")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_script_runs_as_python_itself_would_run_it_with_the_sidecar_beside(tmp_path: Path) -> None:
    done = run(tmp_path, "script.py", "--lr", "3")
    assert done.stdout.splitlines() == ["__main__ ['--lr', '3'] True", "42"]
    assert (done.stderr, done.returncode) == ("", 0)
    assert len(snapshot_files(tmp_path / "gpm")) == 1


def test_a_module_runs_too(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "script", "x")
    assert done.stdout.splitlines() == ["__main__ ['x'] True", "42"]
    assert done.returncode == 0


def test_the_scripts_exit_code_and_exceptions_are_its_own(tmp_path: Path) -> None:
    assert run(tmp_path, "script.py", "--fail").returncode == 3
    raised = run(tmp_path, "script.py", "--raise")
    assert raised.returncode == 1
    assert "FileNotFoundError" in raised.stderr
    assert "no such file" in raised.stderr


def test_a_script_that_is_not_there_is_one_line_that_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "nowhere.py")
    assert done.returncode == 1
    assert done.stderr == "gpumodels: no such script: nowhere.py; usage: gpumodels run script.py ...\n"
