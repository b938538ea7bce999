"""`gpumodels-tui doctor` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpumodels_tui.cli import main
from gpumodels_tui.doctor.checks import CHECKS
from gpumodels_tui.settings.parser import parser
from snapshots import a_model, a_process, a_snapshot, an_identity, published

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")


def doctor(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpumodels_tui", "doctor", "--dir", str(directory), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_document_lists_all_checks_in_their_order() -> None:
    listed = re.findall(r"^\| `([a-z_.0-9]+)` \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert [name for name, _ in listed] == [check.id for check in CHECKS]
    assert all(described for _, described in listed)


def test_every_command_of_the_document_is_understood() -> None:
    commands = re.findall(r"^gpumodels-tui (.+)$", DOCUMENT, re.MULTILINE)
    parsed = [vars(parser().parse_args(command.split())) for command in commands]
    assert [(one["command"], one.get("json"), one.get("bundle")) for one in parsed] == [
        ("doctor", None, None),
        ("doctor", True, None),
        ("doctor", None, "FILE.tar.gz"),
    ]


@pytest.mark.slow
def test_it_passes_warns_and_fails_by_its_exit_code(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir(mode=0o700)
    warned = doctor(files, "--json")
    assert (warned.returncode, warned.stderr) == (1, "")
    assert json.loads(warned.stdout)["status"] == "WARN"
    writer = published(files, a_snapshot(a_model("wan"), process=a_process(pid=os.getpid())), an_identity(), 60_000)
    well = doctor(files)
    if "not installed" not in well.stdout:  # the version of a package that isn't installed differs from every other
        assert "PASS  sidecar.running" in well.stdout
    files.chmod(0o777)
    failed = doctor(files)
    assert failed.returncode == 2
    assert f"-> Run: chmod 700 {files}" in failed.stdout
    assert re.search(r"^26 checks: \d+ passed, \d+ warned, [12] failed\.$", failed.stdout, re.MULTILINE)
    writer.abandon()


@pytest.mark.slow
def test_it_writes_the_file_and_says_so_and_fails_where_it_cannot(tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    done = doctor(tmp_path, "--bundle", str(path))
    assert done.stderr == f"gpumodels-tui: wrote {path}: please look through it before you send it\n"
    assert path.stat().st_size > 500
    again = doctor(tmp_path, "--bundle", str(path))
    assert (again.returncode, again.stderr) == (2, f"gpumodels-tui: error: cannot write {path}: file exists\n")


@pytest.mark.slow
def test_it_never_imports_textual(tmp_path: Path) -> None:
    program = (
        "import sys; from gpumodels_tui.cli import main; sys.argv[1:] = ['doctor', '--dir', '.', '--bundle', 'x.tar.gz'];"
        "main(); print(sorted({'textual', 'torch', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_bad_options_end_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--no-such-option"])
    assert ended.value.code == 2
    assert "unrecognized" in capsys.readouterr().err
