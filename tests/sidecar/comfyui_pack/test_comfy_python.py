"""Which Python runs a ComfyUI, what it has, and how gpumodels gets into it."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from comfy_folders import a_comfyui, a_python
from gpumodels.comfyui_pack.comfy_folders import comfy_folder
from gpumodels.comfyui_pack.comfy_python import ComfyPython, NoPythonError, comfy_python, install_command, requirement
from gpumodels.comfyui_pack.running_servers import RunningServer
from gpumodels.version import __version__

NOWHERE: Mapping[str, str] = {}


@pytest.fixture(autouse=True)
def _own_python_is_not_in_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(a_python(tmp_path / "own", has_torch=False)))


@pytest.mark.parametrize(
    ("place", "found_by"),
    [
        (".venv", "the .venv in its folder"),
        ("venv", "the venv in its folder"),
        ("../.venv", "the .venv beside its folder"),
        ("../python_embeded", "the python_embeded beside its folder"),
        ("../standalone-env", "the standalone-env beside its folder"),
    ],
)
def test_it_is_the_environment_in_or_beside_comfyuis_folder(place: str, found_by: str, tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "a space" / "ComfyUI")
    python = a_python((root / place).resolve(), gpumodels="0.1.0")
    found = comfy_python(comfy_folder(root), (), environment=NOWHERE)
    assert (found.path, found.found_by, found.version, found.gpumodels) == (python, found_by, "3.12.3", "0.1.0")


def test_a_base_directorys_environment_is_in_it_as_with_the_desktop_app(tmp_path: Path) -> None:
    for name in ("custom_nodes", "models"):
        (tmp_path / "base" / name).mkdir(parents=True)
    python = a_python(tmp_path / "base" / ".venv")
    assert comfy_python(comfy_folder(tmp_path / "base"), (), environment=NOWHERE).path == python


def test_what_runs_comes_first_then_what_has_torch_then_what_there_is(tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    folder = comfy_folder(root)
    plain = a_python(root / ".venv", has_torch=False)
    active = a_python(tmp_path / "conda")
    assert comfy_python(folder, (), environment={"CONDA_PREFIX": str(tmp_path / "conda")}).path == plain
    beside = a_python(tmp_path / "venv")
    assert comfy_python(folder, (), environment={"CONDA_PREFIX": str(tmp_path / "conda")}).path == beside
    running = a_python(tmp_path / "elsewhere")
    server = RunningServer(4711, (root,), running, True)
    found = comfy_python(folder, [server], environment=NOWHERE)
    assert (found.path, found.found_by) == (running, "that of the running process 4711")
    assert comfy_python(folder, [server], stated=tmp_path / "conda", environment=NOWHERE).path == active
    assert comfy_python(folder, [server], stated=plain, environment=NOWHERE).path == plain


def test_a_stated_one_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = comfy_folder(a_comfyui(tmp_path / "ComfyUI"))
    python = a_python(tmp_path / "venv")
    monkeypatch.chdir(tmp_path)
    for stated in ("venv", "venv/bin/python"):
        assert comfy_python(folder, (), stated=Path(stated), environment=NOWHERE).path == python


def test_an_environment_that_is_broken_is_passed_over_and_a_stated_one_is_an_error(tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    (root / ".venv" / "bin").mkdir(parents=True)
    broken = root / ".venv" / "bin" / "python"
    broken.write_text("#!/nowhere/python\n")
    broken.chmod(0o755)
    python = a_python(root / "venv")
    assert comfy_python(comfy_folder(root), (), environment=NOWHERE).path == python
    with pytest.raises(NoPythonError, match=r"\.venv/bin/python does not run as Python"):
        comfy_python(comfy_folder(root), (), stated=root / ".venv", environment=NOWHERE)


def test_another_python_is_assumed_only_if_it_has_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = comfy_folder(a_comfyui(tmp_path / "ComfyUI"))
    for own in (sys.executable, "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", own)
        with pytest.raises(NoPythonError, match=r"^cannot tell which Python runs .*; name it with --python$"):
            comfy_python(folder, (), environment=NOWHERE)
    active = a_python(tmp_path / "conda")
    found = comfy_python(folder, (), environment={"CONDA_PREFIX": str(tmp_path / "conda")})
    assert (found.path, found.found_by) == (active, "assumed, as it has torch: the active environment")
    monkeypatch.setattr(sys, "executable", str(active))
    assert comfy_python(folder, (), environment=NOWHERE).found_by == "assumed, as it has torch: the one that runs this command"


def test_the_portable_versions_windows_python_is_said_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = comfy_folder(a_comfyui(tmp_path / "ComfyUI"))
    (tmp_path / "python_embeded").mkdir()
    (tmp_path / "python_embeded" / "python.exe").touch()
    monkeypatch.setattr(sys, "executable", str(a_python(tmp_path / "mine")))
    with pytest.raises(NoPythonError, match=r"python_embeded/python\.exe is Windows' Python, which is not supported; "):
        comfy_python(folder, (), environment=NOWHERE)


@pytest.mark.parametrize(
    ("version", "needs_it"),
    [(None, True), ("0.0.9", True), (__version__, False), (f"{__version__}.dev3", False), ("10.0", False)],
)
def test_an_older_gpumodels_is_to_be_replaced_a_newer_one_is_not(version: str | None, needs_it: bool) -> None:
    assert ComfyPython(Path("python"), "", "3.12.3", True, version, None).needs_gpumodels is needs_it


def test_pip_installs_what_runs_here_and_uv_where_there_is_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = a_python(tmp_path / "venv")
    python = ComfyPython(program, "", "3.12.3", True, None, None)
    assert install_command(python) == [str(program), "-m", "pip", "install", requirement()]
    broken = ComfyPython(program, "", "3.12.3", True, None, "SyntaxError")
    assert install_command(broken) == [str(program), "-m", "pip", "install", "--force-reinstall", requirement()]
    program.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(shutil, "which", {"uv": "/bin/uv"}.get)
    assert install_command(python) == ["/bin/uv", "pip", "install", "--python", str(program), requirement()]
    monkeypatch.setattr(shutil, "which", {}.get)
    assert install_command(python) is None


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, f"gpumodels=={__version__}"),
        ({"url": "file:///nowhere/gpumodels", "dir_info": {}}, f"gpumodels=={__version__}"),
        ({"url": "file:///usr/", "dir_info": {"editable": True}}, "/usr/"),
        ({"url": "https://x/gpumodels.whl", "archive_info": {}}, "gpumodels @ https://x/gpumodels.whl"),
        ({"url": "https://x/g", "vcs_info": {"vcs": "git", "commit_id": "ab12"}}, "gpumodels @ git+https://x/g@ab12"),
    ],
)
def test_gpumodels_is_got_from_where_this_one_came(origin: Any, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if origin is None else json.dumps(origin)

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Installed())
    assert requirement() == expected


def test_gpumodels_that_was_never_installed_is_asked_for_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> object:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert requirement() == f"gpumodels=={__version__}"
