"""Enabling an environment: what is written, and that exactly this is removed again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gpumodels.launching import enabling
from gpumodels.launching.enabling import MODULE, NAME, EnablingError, Environment
from gpumodels.launching.hook_files import HOOK
from launched import OURS, a_folder_with_torch, environment

OLD: Final = (3, 12)
NEW: Final = (3, 15)


@pytest.fixture
def own(tmp_path: Path) -> Environment:
    (tmp_path / "other.pth").write_text("# another's\n")
    return Environment(tmp_path, OLD)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize(("version", "suffix"), [((3, 10), ".pth"), ((3, 14), ".pth"), ((3, 15), ".start"), ((4, 0), ".start")])
def test_enabling_writes_two_files_and_disabling_removes_these_alone(
    version: tuple[int, int], suffix: str, tmp_path: Path
) -> None:
    (tmp_path / "other.pth").write_text("# another's\n")
    own = Environment(tmp_path, version)
    assert (own.files(), own.disable()) == ([], [])
    written = [tmp_path / MODULE, tmp_path / f"{NAME}{suffix}"]
    assert own.enable() == written
    assert (own.files(), own.problem()) == (written, None)
    assert (tmp_path / MODULE).read_bytes() == HOOK.read_bytes()
    assert {stat.S_IMODE(file.stat().st_mode) for file in written} == {0o644}
    assert own.enable() == written  # again
    assert own.disable() == written
    assert names(tmp_path) == ["other.pth"]


def test_what_python_compiled_of_the_hook_goes_too(own: Environment) -> None:
    own.enable()
    cached = own.folder / "__pycache__"
    cached.mkdir()
    for name in (f"{NAME}.cpython-312.pyc", f"{NAME}.cpython-312.opt-1.pyc", "other.cpython-312.pyc"):
        (cached / name).touch()
    own.disable()
    assert names(cached) == ["other.cpython-312.pyc"]


@pytest.mark.parametrize("name", [MODULE, f"{NAME}.pth", f"{NAME}.start"])
@pytest.mark.parametrize("was_enabled", [True, False])
def test_a_file_that_somebody_changed_or_put_there_is_left(name: str, was_enabled: bool, own: Environment) -> None:
    if was_enabled:
        own.enable()
    (own.folder / name).write_text("import something\n")
    before = names(own.folder)
    for action in (own.enable, own.disable):
        with pytest.raises(EnablingError, match=f"{name} is not as gpumodels enable wrote it"):
            action()
    assert names(own.folder) == before
    assert (own.folder / name).read_text() == "import something\n"


def test_a_link_is_neither_followed_nor_replaced(own: Environment, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = tmp_path_factory.mktemp("target") / "file"
    target.write_text("precious")
    (own.folder / MODULE).symlink_to(target)
    with pytest.raises(EnablingError, match="look at it"):
        own.enable()
    assert target.read_text() == "precious"


def test_the_hook_of_another_version_is_brought_up_to_date(
    own: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    older = tmp_path / "older" / "sitecustomize.py"
    older.parent.mkdir()
    older.write_text("def install(): pass\n")
    with monkeypatch.context() as then:
        then.setattr(enabling, "HOOK", older)
        own.enable()
    assert own.problem() == "it was written by another version of gpumodels"
    own.enable()
    assert own.problem() is None


def test_an_environment_whose_python_became_3_15_is_told_and_cleaned(own: Environment) -> None:
    own.enable()
    newer = Environment(own.folder, NEW)
    assert newer.problem() == "this Python reads a .start file, and there is none"
    newer.enable()
    assert newer.problem() is None
    assert [file.name for file in newer.disable()] == [MODULE, f"{NAME}.pth", f"{NAME}.start"]
    assert names(own.folder) == ["other.pth"]


def test_a_lost_module_is_a_problem(own: Environment) -> None:
    own.enable()
    (own.folder / MODULE).unlink()
    assert own.problem() == f"{MODULE} is missing or was changed"
    assert [file.name for file in own.disable()] == [f"{NAME}.pth"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_one_line() -> None:
    with pytest.raises(EnablingError, match="can't be written"):
        Environment(Path("/usr/lib"), OLD).enable()


@pytest.mark.slow
def test_every_python_of_the_environment_starts_the_sidecar_until_it_is_disabled(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    python = tmp_path / "venv" / "bin" / "python"
    import msgpack

    paths = os.pathsep.join([OURS, str(Path(str(msgpack.__file__)).parents[1])])
    a_folder_with_torch(tmp_path)

    def run(*arguments: str, path: str = paths) -> subprocess.CompletedProcess[str]:
        given = environment(tmp_path, PYTHONPATH=path)
        return subprocess.run(
            [python, *arguments], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=60, check=False
        )

    shows = ("-c", "import torch; from says import served; print(served())")
    assert run(*shows).stdout == "torch False\n"
    assert run("-m", "gpumodels", "enable").returncode == 0
    assert (run(*shows).stdout, run(*shows).stderr) == ("torch True\n", "")
    assert (run(*shows, path="").stdout, run(*shows, path="").stderr) == ("torch False\n", "")  # gpumodels was uninstalled
    assert run("-m", "gpumodels", "run", sys.executable, *shows).stdout == "torch True\n"
    assert run("-m", "gpumodels", "disable").returncode == 0
    assert run(*shows).stdout == "torch False\n"
