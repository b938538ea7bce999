"""The version, and what is known of the build."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import pytest

from gpumodels_shared.layout import MAJOR, MINOR
from gpumodels_tui import cli
from gpumodels_tui.commands import versions
from gpumodels_tui.commands.versions import commit, version


def test_the_version_is_the_installed_one_and_none_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version() == importlib.metadata.version("gpumodels")

    def is_missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", is_missing)
    assert version() == "(not installed)"


def test_the_facts_of_the_build_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(versions, "commit", lambda: "0a1b2c3d4e5f")
    assert cli.main(["--version"]) == 0
    textual = importlib.metadata.version("textual")
    assert capsys.readouterr().out.splitlines() == [
        f"gpumodels-tui {version()} (commit 0a1b2c3d4e5f)",
        f"Python {platform.python_version()}, Textual {textual}, file format {MAJOR}.{MINOR}",
    ]
    monkeypatch.setattr(versions, "commit", lambda: None)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"gpumodels-tui {version()}"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_the_commit_of_a_checkout_is_found_without_git_in_each_of_its_states(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    assert commit(checkout / "tui" / "gpumodels_tui") is None
    git(checkout, "init", "-q")
    assert commit(checkout / "tui" / "gpumodels_tui") is None
    git(checkout, "commit", "-q", "--allow-empty", "-m", "one")
    one = git(checkout, "rev-parse", "HEAD")[:12]
    assert commit(checkout / "tui" / "gpumodels_tui") == one
    git(checkout, "pack-refs", "--all")
    assert commit(checkout / "tui" / "gpumodels_tui") == one
    git(checkout, "worktree", "add", "-q", "-b", "other", str(tmp_path / "worktree"))
    git(tmp_path / "worktree", "commit", "-q", "--allow-empty", "-m", "two")
    two = git(tmp_path / "worktree", "rev-parse", "HEAD")[:12]
    assert commit(tmp_path / "worktree" / "tui" / "gpumodels_tui") == two
    git(checkout, "checkout", "-q", "--detach", "other")
    assert commit(checkout / "tui" / "gpumodels_tui") == two
    (checkout / ".git" / "HEAD").write_text("ref: ../../secret")
    assert commit(checkout / "tui" / "gpumodels_tui") is None


def test_the_commit_that_pip_installed_from_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str | None] = []

    class Installed:
        @staticmethod
        def read_text(name: str) -> str | None:
            return said[-1]

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed)
    for stated, found in (
        ('{"vcs_info": {"vcs": "git", "commit_id": "' + "0a" * 20 + '"}}', "0a0a0a0a0a0a"),
        ('{"vcs_info": {"commit_id": "main\\u001b"}}', None),
        ('{"dir_info": {"editable": true}}', None),
        ("[", None),
        ("[]", None),
        (None, None),
    ):
        said.append(stated)
        assert commit(tmp_path / "tui" / "gpumodels_tui") == found


def test_the_commit_that_a_wheel_was_built_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "commit.txt").write_text("0b" * 20 + "\n")
    assert commit(tmp_path) == "0b0b0b0b0b0b"
    (tmp_path / "commit.txt").write_text("no commit")
    assert commit(tmp_path) is None
