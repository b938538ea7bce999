"""The shipped files are there, and start the program that is installed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path, PurePosixPath

import pytest

from gpumodels_tui.deploy import shipped_files as module
from gpumodels_tui.deploy.command import NEXT
from gpumodels_tui.deploy.shipped_files import PROGRAM, installed_command, shipped_files, unit_word


def test_every_folder_is_a_purpose_with_files_and_nothing_is_left_to_fill_in() -> None:
    folders = {path.name for path in Path(module.__file__).parent.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(NEXT)
    for purpose in NEXT:
        files = shipped_files(purpose)
        assert files
        assert [path for path, text in files.items() if PROGRAM in text or not text.endswith("\n")] == []


@pytest.mark.parametrize("suffix", [".service", ".sh"])
def test_the_program_of_this_installation_is_started(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "installed_command", lambda: ["/opt/my models/gpumodels-tui", "100%"])
    texts = {path: text for purpose in NEXT for path, text in shipped_files(purpose).items() if path.suffix == suffix}
    started = [text for text in texts.values() if "gpumodels-tui' 100%" in text or 'gpumodels-tui" "100%%"' in text]
    assert len(started) == {".service": 4, ".sh": 1}[suffix]


def test_the_script_beside_this_python_comes_first_and_the_module_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_command() == [str(tmp_path / "venv" / "python"), "-m", "gpumodels_tui"]
    for folder in (tmp_path, tmp_path / "venv"):
        folder.mkdir(exist_ok=True)
        script = folder / "gpumodels-tui"
        script.touch(mode=0o755)
        assert installed_command() == [str(script)]


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/usr/bin/gpumodels-tui", "/usr/bin/gpumodels-tui"),
        ("/opt/my models/x", '"/opt/my models/x"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("it's", '"it\'s"'),
    ],
)
def test_words_are_written_as_systemd_reads_them(word: str, written: str) -> None:
    assert unit_word(word) == written


def test_a_script_starts_with_a_line_that_says_by_what_it_is_run() -> None:
    scripts = {path: text for path, text in shipped_files("slurm").items() if path.suffix == ".sh"}
    assert set(scripts) == {PurePosixPath(f"{name}.sh") for name in ("epilog", "job", "task_prolog")}
    assert all(text.startswith("#!/bin/bash\n") for text in scripts.values())
    assert shlex.quote(installed_command()[0]) in scripts[PurePosixPath("job.sh")]
