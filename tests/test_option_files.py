"""What is made from the table of options is current, and shells and man understand it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import option_files
from gpumodels_tui.commands.completion import FILES, FOLDER
from gpumodels_tui.settings.config_file import read_config
from gpumodels_tui.settings.table import COMMANDS, all_options


def test_the_table_and_the_man_page_are_those_of_the_table() -> None:
    made = dict(zip(("document", "man page"), option_files.files(), strict=False))
    for path, content in made.values():
        assert path.read_text(encoding="utf-8") == content, f"{path.name} is old: run make shell-files"


@pytest.mark.parametrize("shell", FILES)
def test_the_completions_are_those_of_the_parser(shell: str) -> None:
    pytest.importorskip("shtab", reason="shtab, which makes them, is not installed here")
    made = option_files.completion(shell)
    assert (FOLDER / FILES[shell]).read_text(encoding="utf-8") == made, f"{FILES[shell]} is old: run make shell-files"


@pytest.mark.parametrize("shell", FILES)
def test_every_option_and_command_is_completed(shell: str) -> None:
    text = (FOLDER / FILES[shell]).read_text(encoding="utf-8")
    names = [*(option.name for option in all_options()), *(command.name for command in COMMANDS)]
    assert [name for name in names if name not in text] == []


def test_every_option_and_command_is_in_the_manual() -> None:
    text = option_files.MAN_PAGE.read_text().replace("\\-", "-")
    assert [option.name for option in all_options() if f"--{option.name}\\fR" not in text] == []
    assert [command.name for command in COMMANDS if f".SS gpumodels-tui {command.name}" not in text] == []


def test_the_example_of_a_configuration_file_is_one(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", option_files.DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "config.toml").write_text(example, encoding="utf-8")
    found = read_config(tmp_path / "config.toml", all_options())
    assert found.problems == ()
    assert found.values["metrics", "listen"] == "0.0.0.0:9477"


def completed(script: str) -> list[str]:
    """What bash offers; the script sets COMP_WORDS and COMP_CWORD."""
    source = f"source {FOLDER / FILES['bash']}\n{script}\n_shtab_gpumodels_tui\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", source], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_flags_values_commands_and_folders(tmp_path: Path) -> None:
    assert "--min-bytes" in completed("COMP_WORDS=(gpumodels-tui --mi); COMP_CWORD=1")
    assert completed("COMP_WORDS=(gpumodels-tui --theme hi); COMP_CWORD=2") == ["high-contrast"]
    assert completed("COMP_WORDS=(gpumodels-tui --kind emb); COMP_CWORD=2") == ["embedding"]
    assert completed("COMP_WORDS=(gpumodels-tui met); COMP_CWORD=1") == ["metrics"]
    assert completed("COMP_WORDS=(gpumodels-tui config in); COMP_CWORD=2") == ["init"]
    assert "--textfile" in completed("COMP_WORDS=(gpumodels-tui metrics --te); COMP_CWORD=2")
    (tmp_path / "models").mkdir()
    folder = f"{tmp_path}/mod"
    assert completed(f"COMP_WORDS=(gpumodels-tui --models {folder}); COMP_CWORD=2")[0].startswith(f"{tmp_path}/models")


def a_shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def test_fish_completes_flags_values_and_commands(tmp_path: Path) -> None:
    fish = a_shell("fish")

    def offered(line: str) -> list[str]:
        script = f"source {FOLDER / FILES['fish']}; complete -C '{line}'"
        environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
        done = subprocess.run([fish, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=environment)
        return [one.partition("\t")[0] for one in done.stdout.splitlines()]

    assert offered("gpumodels-tui --mi") == ["--min-bytes"]
    assert offered("gpumodels-tui --theme hi") == ["high-contrast"]
    assert offered("gpumodels-tui met") == ["metrics"]
    assert "--textfile" in offered("gpumodels-tui metrics --te")


def test_zsh_understands_its_file() -> None:
    done = subprocess.run(
        [a_shell("zsh"), "-n", str(FOLDER / FILES["zsh"])], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_manual_is_formatted_without_a_warning() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed here")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", str(option_files.MAN_PAGE)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "there is nothing to show, or it can't start" in done.stdout
