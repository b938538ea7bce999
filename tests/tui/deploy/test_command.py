"""The command `gpumodels-tui deploy`."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

from gpumodels_tui import cli
from gpumodels_tui.deploy.command import NEXT
from gpumodels_tui.deploy.shipped_files import shipped_files
from gpumodels_tui.settings.table import PURPOSES


def test_every_purpose_can_be_asked_for() -> None:
    assert tuple(NEXT) == PURPOSES


def test_a_single_file_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deploy", "grafana"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Models in GPU memory"
    assert cli.main(["deploy", "prometheus", "gpumodels-alerts.yml"]) == 0
    printed = capsys.readouterr()
    assert printed.out == shipped_files("prometheus")[PurePosixPath("gpumodels-alerts.yml")]
    assert printed.err == ""


@pytest.mark.parametrize("purpose", NEXT)
def test_all_files_of_a_purpose_are_printed(purpose: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deploy", purpose]) == 0
    printed = capsys.readouterr().out
    files = shipped_files(purpose)
    assert all(text in printed for text in files.values())
    assert len(files) == 1 or all(f"# ==== {path}\n" in printed for path in files)


@pytest.mark.parametrize("purpose", NEXT)
def test_they_are_written_below_a_directory_and_enabled_by_nobody(
    purpose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["deploy", purpose, "--into", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr()
    written = {path.relative_to(tmp_path / "new").as_posix(): path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in written.items()} == {
        str(name): text for name, text in shipped_files(purpose).items()
    }
    assert sorted(printed.out.splitlines()) == sorted(map(str, written.values()))
    assert printed.err.startswith("gpumodels-tui: nothing is enabled yet; next: ")
    assert {path.stat().st_mode & 0o777 for path in written.values()} == ({0o755} if purpose == "slurm" else {0o644})
    assert cli.main(["deploy", purpose, "--into", str(tmp_path / "new")]) == 0, "the same files once more are no fault"


def test_a_file_that_differs_stays_and_nothing_else_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prometheus.yml").write_text("mine")
    assert cli.main(["deploy", "prometheus", "--into", str(tmp_path)]) == 1
    assert f"error: {tmp_path}/prometheus.yml is there and differs" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["deploy", "grafana", "--into", str(tmp_path / "file" / "below")]) == 1
    assert "error: cannot write" in capsys.readouterr().err


def test_a_file_that_there_is_not_is_a_bad_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deploy", "slurm", "prolog.sh"]) == 2
    assert "no file prolog.sh for slurm; there are: epilog.sh, job.sh, task_prolog.sh" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        cli.main(["deploy", "windows"])
    assert left.value.code == 2


DOCUMENT: Final = Path(__file__).resolve().parents[3] / "docs" / "deploy.md"
DOCUMENTED: Final = sorted(
    set(re.findall(r"^(?:\| `)?gpumodels-tui (deploy [^`\n]+)", DOCUMENT.read_text("utf-8"), re.MULTILINE))
)


@pytest.mark.parametrize("line", DOCUMENTED)
def test_every_documented_line_does_what_it_says(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(DOCUMENTED) > len(NEXT)
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 0
    assert capsys.readouterr().out
    assert bool(list(tmp_path.rglob("*.*"))) is ("--into" in line)
