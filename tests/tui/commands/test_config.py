"""The command `config`: show says where each value is from, init writes a file that says nothing yet."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gpumodels_tui import cli
from gpumodels_tui.commands.config import template
from gpumodels_tui.settings import resolving
from gpumodels_tui.settings.config_file import read_config
from gpumodels_tui.settings.directories import config_path
from gpumodels_tui.settings.table import COMMANDS, all_options

TOML: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file; the machine's is beside it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(resolving, "config_paths", lambda: (config_path(), tmp_path / "machine.toml"))
    return tmp_path / "gpumodels" / "config.toml"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def test_show_says_of_every_option_what_it_is_and_where_from(
    users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    users.parent.mkdir()
    users.write_text('models = ["/a", "/b"]\n[metrics]\ntop = 3\n')
    (tmp_path / "machine.toml").write_text('\ninterval = 5\nmodels = "/c"\n')
    monkeypatch.setenv("GPUMODELS_TUI_THEME", "dark")
    monkeypatch.delenv("GPUMODELS_DIR", raising=False)
    text = printed(capsys, "--name", 'a"\x1b', "--ascii", "config", "show")
    said = {line.partition("  # ")[0].strip(): line.partition("  # ")[2] for line in text.splitlines() if "  # " in line}
    assert said['models = ["/a", "/b"]'] == f"{users}:1"
    assert said["top = 3"] == f"{users}:3"
    assert said["interval = 5"] == f"{tmp_path}/machine.toml:2"
    assert said['theme = "dark"'] == "GPUMODELS_TUI_THEME"
    assert said["ascii = true"] == "flag"
    assert said["dir = []"] == "default"
    assert said['#unix = ""'] == "default"
    assert sum("  # " in line for line in text.splitlines()) == len(list(all_options()))
    stated = TOML.loads(text)
    assert stated["name"] == ['a"\x1b'], "what is shown is a file with the same settings"
    assert stated["metrics"]["listen"] == "127.0.0.1:9477"


def test_mistakes_in_the_files_are_said_on_stderr(users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users.parent.mkdir()
    users.write_text("thme = 1")
    assert cli.main(["config", "show"]) == 0
    assert capsys.readouterr().err == (
        f"gpumodels-tui: warning: {users}: line 1: thme is no option (did you mean theme?); it is ignored\n"
    )


def test_path_prints_the_files_the_stronger_first(users: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "config", "path").splitlines() == [str(users), str(tmp_path / "machine.toml")]


def test_init_writes_every_option_in_a_comment_and_nothing_over_another_file(
    users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(capsys, "config", "init").strip() == str(users)
    assert TOML.loads(users.read_text()) == {command.name: {} for command in COMMANDS if command.options}
    assert all(f"\n#{option.name} = " in users.read_text() for option in all_options())
    assert (read_config(users, all_options()).problems, read_config(users, all_options()).values) == ((), {})
    users.write_text("theme = 'dark'")
    assert cli.main(["config", "init"]) == 1
    assert "is there already, and stays as it is" in capsys.readouterr().err
    assert users.read_text() == "theme = 'dark'"


def test_what_init_writes_says_the_defaults_once_it_is_no_comment(tmp_path: Path) -> None:
    uncommented = "\n".join(
        line.removeprefix("#") if line.startswith("#") and line[1:2] != " " else line for line in template().splitlines()
    )
    (tmp_path / "config.toml").write_text(uncommented)
    found = read_config(tmp_path / "config.toml", all_options())
    wrong = [one for one in found.problems if "excludes" not in one]
    assert wrong == []
    for option in all_options():
        if option.key in found.values and option.unset is not None:
            assert found.values[option.key] == option.unset, option.name


def test_a_folder_that_cannot_be_written_is_said(users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users.parent.write_text("a file where the folder must be")
    assert cli.main(["config", "init"]) == 1
    assert f"can't write {users}: " in capsys.readouterr().err


def test_init_follows_no_link(users: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users.parent.mkdir()
    users.symlink_to(tmp_path / "elsewhere")
    assert cli.main(["config", "init"]) == 1
    assert not os.path.lexists(tmp_path / "elsewhere")
