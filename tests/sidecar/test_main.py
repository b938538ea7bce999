"""The command: which arguments it takes, what it passes on, and its exit codes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from comfy_folders import a_comfyui, a_python
from gpumodels.__main__ import main
from gpumodels.version import __version__


@pytest.fixture
def demos(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of the demo, which ends at once with exit code 7."""
    asked: list[dict[str, Any]] = []

    def run_demo(**options: Any) -> int:
        asked.append(options)
        return 7

    monkeypatch.setattr("gpumodels.demo.run_demo", run_demo)
    return asked


def runs(monkeypatch: pytest.MonkeyPatch, script: Callable[[], None] = lambda: None) -> list[list[str]]:
    """What was asked to be run; the script does what is given."""
    asked: list[list[str]] = []

    def run(command: Sequence[str]) -> None:
        asked.append(list(command))
        script()

    monkeypatch.setattr("gpumodels.running.run", run)
    return asked


def exit_code(*arguments: str) -> object:
    """Of a call that ends inside the parser."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_the_demo_gets_its_options_and_its_exit_code_is_the_commands(demos: list[dict[str, Any]]) -> None:
    assert main(["demo"]) == 7
    assert main(["demo", "--simulate-gpus", "2", "--view", "--seconds", "1.5"]) == 7
    assert demos == [
        {"simulated_gpus": 0, "view": False, "seconds": None},
        {"simulated_gpus": 2, "view": True, "seconds": 1.5},
    ]


@pytest.mark.parametrize("count", ["17", "-1", "many"])
def test_a_number_of_gpus_that_cannot_be_simulated_is_a_bad_argument(
    count: str, demos: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("demo", "--simulate-gpus", count) == 2
    assert "--simulate-gpus" in capsys.readouterr().err
    assert demos == []


@pytest.mark.parametrize(
    "command", [["train.py", "--seconds", "3", "-h"], ["-m", "my.trainer", "--view"], ["train.py", "demo", "--", "x"]]
)
def test_a_script_has_all_its_options_to_itself(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = runs(monkeypatch)
    assert main(["run", *command]) == 0
    assert asked == [command]


def test_a_script_that_is_not_there_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_missing() -> None:
        raise FileNotFoundError("no such script: nowhere.py")

    runs(monkeypatch, is_missing)
    assert main(["run", "nowhere.py"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "gpumodels: no such script: nowhere.py; usage: gpumodels run script.py ...\n"


def test_a_file_that_the_script_itself_misses_is_the_scripts_own_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def misses_its_data() -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "data.bin")

    runs(monkeypatch, misses_its_data)
    with pytest.raises(FileNotFoundError, match=r"data\.bin"):
        main(["run", "train.py"])


def test_comfyuis_actions_print_what_they_say_and_end_with_1_if_something_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gpumodels.comfyui_pack.commands.running_servers", lambda _: [])
    root = a_comfyui(tmp_path / "ComfyUI")
    python = a_python(root / ".venv", gpumodels=__version__)
    for action in (["install", "--pip", "--python", str(python)], ["status"], ["uninstall"]):
        assert main(["comfyui", *action, str(root)]) == 0
        printed = capsys.readouterr()
        assert (bool(printed.out), printed.err) == (True, "")
    assert main(["comfyui", "status", str(root)]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("ComfyUI    ")
    assert printed.err == f"gpumodels: the node pack is not installed; run: gpumodels comfyui install {root}\n"
    assert main(["comfyui", "status", str(tmp_path / "nowhere")]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_comfyui_on_windows_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert main(["comfyui", "install", "C:\\ComfyUI"]) == 1
    assert "Windows is not supported" in capsys.readouterr().err


def test_help_and_version_are_data_and_what_is_wrong_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"gpumodels {__version__}\n"
    for arguments in (["--help"], ["run", "--help"], ["run", "-h"], ["demo", "--help"], ["comfyui", "install", "--help"]):
        assert exit_code(*arguments) == 0
        assert capsys.readouterr().out.startswith("usage: gpumodels")
    for wrong in ([], ["run"], ["dance"], ["demo", "--loud"], ["comfyui"], ["comfyui", "status"]):
        assert exit_code(*wrong) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.startswith("usage: gpumodels")) == ("", True)
