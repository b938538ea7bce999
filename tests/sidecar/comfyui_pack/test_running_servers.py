"""Running ComfyUI servers, as /proc tells of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from comfy_folders import a_comfyui
from gpumodels.comfyui_pack import running_servers as module
from gpumodels.comfyui_pack.running_servers import running_servers
from gpumodels_shared.identity import ProcessIdentity, start_ticks
from gpumodels_shared.layout import WriterState
from gpumodels_shared.writer import SnapshotWriter


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path / "proc"


def a_process(
    proc: Path, pid: int, cwd: Path, command: list[str], environment: dict[str, str] | None = None, parent: int = 1
) -> None:
    place = proc / str(pid)
    place.mkdir()
    (place / "cwd").symlink_to(cwd)
    (place / "cmdline").write_bytes(b"".join(part.encode() + b"\0" for part in command))
    (place / "environ").write_bytes(b"".join(f"{name}={value}\0".encode() for name, value in (environment or {}).items()))
    (place / "stat").write_text(f"{pid} (python (x)) S {parent} 0 0")


def test_a_server_is_known_by_its_main_py_or_its_base_directory(proc: Path, tmp_path: Path) -> None:
    root, base = a_comfyui(tmp_path / "Comfy UI"), tmp_path / "base"
    base.mkdir()
    a_process(proc, 10, root, ["/venv/bin/python", "main.py", "--cpu"])
    a_process(proc, 11, tmp_path, ["python3", "-u", "-m", "gpumodels", "run", f"{root}/main.py"])
    a_process(proc, 12, root, ["python", "main.py"], parent=10)
    a_process(proc, 13, tmp_path, ["/app/.venv/bin/python", "/app/ComfyUI/main.py", "--base-directory", str(base)])
    a_process(proc, 14, tmp_path, ["/app/.venv/bin/python", "/app/ComfyUI/main.py", f"--base-directory={base}"])
    a_process(proc, 15, tmp_path, ["vim", "main.py"])
    a_process(proc, 16, tmp_path, ["python", "main.py", "--base-directory"])
    (proc / "17").mkdir()
    assert [server.pid for server in running_servers(root, proc) or ()] == [10, 11]
    assert [server.pid for server in running_servers(base, proc) or ()] == [13, 14]
    link = tmp_path / "link"
    link.symlink_to(root)
    assert [server.pid for server in running_servers(link, proc) or ()] == [10, 11]


def test_its_python_is_called_as_it_was_not_the_one_that_its_environment_was_made_from(proc: Path, tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    (root / "venv" / "bin").mkdir(parents=True)
    (root / "venv" / "bin" / "python").symlink_to("/bin/sh")
    a_process(proc, 10, root, ["venv/bin/python", "main.py"])
    a_process(proc, 11, root, ["python", "main.py"], {"PATH": f"/nowhere:{root}/venv/bin"})
    a_process(proc, 12, root, ["python", "main.py"], {"PATH": "/nowhere"})
    found = [server.python for server in running_servers(root, proc) or ()]
    assert found == [root / "venv" / "bin" / "python", root / "venv" / "bin" / "python", None]


@pytest.mark.parametrize("is_running", [True, False])
def test_its_sidecar_is_the_file_that_it_writes(is_running: bool, proc: Path, tmp_path: Path) -> None:
    root, pid, snapshots = a_comfyui(tmp_path / "ComfyUI"), os.getpid(), tmp_path / "gpm"
    a_process(proc, pid, root, ["python", "main.py"], {"GPUMODELS_DIR": str(snapshots)})
    assert [server.has_sidecar for server in running_servers(root, proc) or ()] == [False]
    snapshots.mkdir(mode=0o700)
    identity = ProcessIdentity(pid, os.geteuid(), start_ticks(pid) or 0, 0, bytes(16))
    writer = SnapshotWriter(snapshots, identity, 1000)
    if is_running:
        assert [server.has_sidecar for server in running_servers(root, proc) or ()] == [True]
    writer.close(WriterState.EXITED)
    assert [server.has_sidecar for server in running_servers(root, proc) or ()] == [False]


def test_other_users_files_leave_it_open(proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    a_process(proc, 10, root, ["python", "main.py"])

    def refuse(_: Path) -> list[str]:
        raise PermissionError

    refusing: Callable[[Path], list[str]] = refuse
    monkeypatch.setattr(module, "snapshot_files", refusing)
    assert [server.has_sidecar for server in running_servers(root, proc) or ()] == [None]


def test_without_proc_nothing_is_said(tmp_path: Path) -> None:
    assert running_servers(tmp_path, tmp_path / "nowhere") is None
