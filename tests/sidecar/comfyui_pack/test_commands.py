"""What the commands do to a ComfyUI, and what they say."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from comfy_folders import a_comfyui, a_python, calls_of
from gpumodels.comfyui_pack import commands
from gpumodels.comfyui_pack.comfy_python import requirement
from gpumodels.comfyui_pack.commands import CommandError, Commands
from gpumodels.comfyui_pack.pack_copies import DISABLED, PACK_NAME, RECORD, put
from gpumodels.comfyui_pack.running_servers import RunningServer
from gpumodels.version import __version__


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ComfyUI with a Python that has gpumodels; none is running."""
    monkeypatch.setattr(commands, "running_servers", lambda _: [])
    comfyui = a_comfyui(tmp_path / "Comfy UI")
    a_python(comfyui / ".venv", gpumodels=__version__)
    return comfyui


def has(comfyui: Path, gpumodels: str | None, trouble: str | None = None) -> None:
    said = {"python": "3.12.3", "has_torch": True, "gpumodels": gpumodels, "trouble": trouble}
    (comfyui / ".venv" / "answer.json").write_text(json.dumps(said))


def install(comfyui: Path, *, uses_pip: bool = False) -> list[str]:
    command = Commands(comfyui)
    command.install(uses_pip=uses_pip)
    return command.lines


def status(comfyui: Path) -> tuple[list[str], str | None]:
    command = Commands(comfyui)
    try:
        command.status()
    except CommandError as error:
        return command.lines, str(error)
    return command.lines, None


def uninstall(comfyui: Path) -> tuple[list[str], str | None]:
    command = Commands(comfyui)
    try:
        command.uninstall()
    except CommandError as error:
        return command.lines, str(error)
    return command.lines, None


def test_install_status_and_uninstall_say_what_is_so_and_may_be_repeated(root: Path) -> None:
    target, python = root / "custom_nodes" / PACK_NAME, root / ".venv" / "bin" / "python"
    assert install(root) == [
        f"installed {PACK_NAME} {__version__}: {target}",
        f"ComfyUI's Python is {python} (the .venv in its folder); it has gpumodels {__version__}",
    ]
    assert install(root / "custom_nodes")[0] == f"{PACK_NAME} {__version__} is already in {root / 'custom_nodes'}"
    assert status(root) == (
        [
            f"ComfyUI    {root}, version 0.33.0",
            f"node pack  {__version__}, enabled: {target}, which was put there by gpumodels",
            "running    no",
            f"Python     {python} (Python 3.12.3; the .venv in its folder)",
            f"           has gpumodels {__version__}",
        ],
        None,
    )
    assert uninstall(root) == ([f"removed {target}"], None)
    assert uninstall(root) == ([f"{PACK_NAME} is not in {root}/custom_nodes: nothing to remove"], None)
    assert os.listdir(root / "custom_nodes") == []
    assert status(root)[1] == f"the node pack is not installed; run: gpumodels comfyui install '{root}'"


def test_a_python_without_gpumodels_is_told_how_to_get_it_or_gets_it(root: Path) -> None:
    has(root, None)
    python = root / ".venv" / "bin" / "python"
    assert install(root)[1:] == [
        f"ComfyUI's Python is {python} (the .venv in its folder); it has no gpumodels",
        f"install gpumodels {__version__} there, or have this command do so:",
        f"    '{python}' -m pip install {requirement()}",
        f"    gpumodels comfyui install --pip '{root}'",
    ]
    assert calls_of(python) == []
    assert status(root)[1] == f"ComfyUI's Python has no gpumodels; run: gpumodels comfyui install --pip '{root}'"
    install(root, uses_pip=True)
    assert calls_of(python) == [f"-m pip install {requirement()}"]
    has(root, __version__)
    install(root, uses_pip=True)
    assert len(calls_of(python)) == 1


@pytest.mark.parametrize(("version", "trouble"), [("0.0.9", None), (None, "ModuleNotFoundError: No module named 'msgpack'")])
def test_pip_mends_an_older_or_broken_gpumodels(version: str | None, trouble: str | None, root: Path) -> None:
    has(root, version, trouble)
    install(root, uses_pip=True)
    assert len(calls_of(root / ".venv" / "bin" / "python")) == 1
    said = "\n".join(status(root)[0])
    assert (f"has gpumodels 0.0.9; this command is of {__version__}" if version else f"cannot import ({trouble})") in said


def test_nothing_is_put_there_where_pip_fails_or_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    has(root, None)
    monkeypatch.setattr(commands, "install_command", lambda _: ["/bin/sh", "-c", "echo offline; exit 1"])
    with pytest.raises(CommandError, match="could not be installed into"):
        install(root, uses_pip=True)
    printed = capfd.readouterr()
    assert (printed.out, "offline" in printed.err) == ("", True)
    monkeypatch.setattr(commands, "install_command", lambda _: None)
    with pytest.raises(CommandError, match="has no pip, and there is no uv"):
        install(root, uses_pip=True)
    assert os.listdir(root / "custom_nodes") == []


@pytest.mark.parametrize("sign", [".git", ".tracking", "notes.txt"])
def test_what_somebody_else_put_there_or_changed_is_neither_updated_nor_removed(sign: str, root: Path) -> None:
    (put(root / "custom_nodes") / sign).touch()
    with pytest.raises(CommandError, match=r"gpumodels-sidecar was .*, so it stays as it is; "):
        install(root)
    lines, problem = uninstall(root)
    assert lines == []
    assert problem is not None
    assert "so it stays; " in problem
    assert (root / "custom_nodes" / PACK_NAME / RECORD).exists()
    assert status(root)[1] is None


def test_another_folder_of_that_name_is_left_alone(root: Path) -> None:
    mine = root / "custom_nodes" / PACK_NAME
    mine.mkdir()
    (mine / "__init__.py").write_text("mine = 1")
    with pytest.raises(CommandError, match="was not put there by gpumodels"):
        install(root)
    assert uninstall(root)[1] is not None
    assert os.listdir(mine) == ["__init__.py"]


def test_an_older_version_is_brought_up_to_date(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(root)
    monkeypatch.setattr(commands, "pack_version", lambda: "0.2.0")
    assert install(root)[0].startswith(f"updated {PACK_NAME} from {__version__} to 0.2.0: ")


@pytest.mark.parametrize("place", [f"{PACK_NAME}{DISABLED}", f"{DISABLED}/{PACK_NAME}@0_1_0"])
def test_a_disabled_pack_is_said_to_be_and_enabled_by_install(place: str, root: Path) -> None:
    nodes = root / "custom_nodes"
    (nodes / DISABLED).mkdir()
    put(nodes).rename(nodes / place)
    lines, problem = status(root)
    assert lines[1] == f"node pack  {__version__}, disabled: {nodes / place}, which was put there by gpumodels"
    assert problem is not None
    assert "the node pack is disabled; run: gpumodels comfyui install " in problem
    assert install(root)[0] == f"enabled {PACK_NAME} {__version__}: {nodes / PACK_NAME}"
    assert not (nodes / place).exists()


def test_one_pack_remains_where_two_folders_or_two_names_had_it(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "more").mkdir()
    (root / "extra_model_paths.yaml").write_text(f"mine:\n  custom_nodes: {tmp_path}/more\n")
    put(tmp_path / "more")
    assert install(root)[0] == f"{PACK_NAME} {__version__} is already in {tmp_path}/more"
    put(root / "custom_nodes").rename(root / "custom_nodes" / "renamed")
    install(root)
    found = [*(root / "custom_nodes").iterdir(), *(tmp_path / "more").iterdir()]
    assert [path.name for path in found] == [PACK_NAME]
    assert uninstall(root)[1] is None
    assert [*(root / "custom_nodes").iterdir(), *(tmp_path / "more").iterdir()] == []


def test_linked_custom_nodes_are_written_through_and_a_dangling_link_is_said(root: Path, tmp_path: Path) -> None:
    nodes, shared = root / "custom_nodes", tmp_path / "shared nodes"
    nodes.rmdir()
    nodes.symlink_to(shared)
    with pytest.raises(CommandError, match=r"is a link to .*, which does not exist"):
        install(root)
    shared.mkdir()
    install(root)
    assert [path.name for path in shared.iterdir()] == [PACK_NAME]
    assert nodes.is_symlink()
    uninstall(root)
    assert list(shared.iterdir()) == []


def test_custom_nodes_are_made_where_comfyui_has_none_yet(root: Path) -> None:
    (root / "custom_nodes").rmdir()
    install(root)
    assert (root / "custom_nodes" / PACK_NAME).is_dir()


def test_a_read_only_folder_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        if self.name == "custom_nodes":  # it is there, so making it is no trouble
            return
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        with pytest.raises(CommandError, match=f"^{root}/custom_nodes: Permission denied; nothing was changed there$"):
            install(root)
    install(root)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CommandError, match=f"^{root}/custom_nodes/{PACK_NAME}: Permission denied; nothing was changed there$"):
        Commands(root).uninstall()


def test_a_running_comfyui_is_said_to_have_its_sidecar_or_to_need_a_restart(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = root / ".venv" / "bin" / "python"
    servers = [
        RunningServer(10, (root,), python, True),
        RunningServer(11, (root,), python, False),
        RunningServer(12, (root,), None, None),
    ]
    monkeypatch.setattr(commands, "running_servers", lambda _: servers)
    assert install(root)[-1] == "restart ComfyUI, which runs without the sidecar"
    assert [line for line in status(root)[0] if line.startswith("running")] == [
        "running    process 10, with the sidecar",
        "running    process 11, without the sidecar: restart it once it is installed",
        "running    process 12, of another user",
    ]
    assert uninstall(root)[0][-1] == "a ComfyUI that is running keeps its sidecar until it is restarted"
    monkeypatch.setattr(commands, "running_servers", lambda _: None)
    assert "running    unknown" in "\n".join(status(root)[0])


def test_without_a_python_the_pack_is_there_and_the_next_step_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    (root / ".venv" / "bin" / "python").unlink()
    command = Commands(root)
    with pytest.raises(CommandError, match="name it with --python"):
        command.install(uses_pip=False)
    assert command.lines[0].startswith("installed")
    lines, problem = status(root)
    assert lines[-1] == "Python     unknown"
    assert problem is not None


def test_a_path_that_is_no_comfyui_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is not ComfyUI's folder"):
        Commands(tmp_path)
