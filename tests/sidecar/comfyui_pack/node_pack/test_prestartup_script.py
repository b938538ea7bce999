"""The pack starts the sidecar; whatever is wrong with gpumodels is one line in ComfyUI's log."""

from __future__ import annotations

import ast
import importlib
import logging
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from gpumodels.comfyui_pack.pack_copies import SOURCE
from gpumodels.version import __version__

SCRIPT: Final = str(SOURCE / "prestartup_script.py")


def a_package(start: Callable[[], None] | None) -> ModuleType:
    made = ModuleType("gpumodels")
    made.__dict__.update({"__version__": "0.0.1"} | ({"start": start} if start is not None else {}))
    return made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_it_starts_the_sidecar_and_says_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    started: list[int] = []
    monkeypatch.setitem(sys.modules, "gpumodels", a_package(lambda: started.append(1)))
    runpy.run_path(SCRIPT)
    assert (started, lines(caplog)) == ([1], [])


def importing(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str | None) -> None:
    """`import gpumodels` runs this, or finds nothing."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpumodels"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(sys, "meta_path", [importlib.machinery.PathFinder])
    if source is not None:
        (folder / "gpumodels.py").write_text(source)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "gpumodels is not installed in ComfyUI's Python"),
        ("__version__ = '0.0.1'", "gpumodels 0.0.1 is too old for its node pack"),
        ("", "gpumodels is too old for its node pack"),
        ("import msgpack_that_is_missing", "gpumodels lacks msgpack_that_is_missing in ComfyUI's Python"),
        ("raise RuntimeError('one\\ntwo')", "gpumodels is broken in ComfyUI's Python: RuntimeError: one two"),
        ("def start(): raise OSError(28, 'full')", "gpumodels is broken in ComfyUI's Python: OSError: [Errno 28] full"),
        ("start = 3", "gpumodels is broken in ComfyUI's Python: TypeError: 'int' object is not callable"),
        ("1 +", "gpumodels is broken in ComfyUI's Python: SyntaxError: invalid syntax (gpumodels.py, line 1)"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_next_step(
    source: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    importing(monkeypatch, tmp_path, source)
    runpy.run_path(SCRIPT)
    (line,) = lines(caplog)
    option = "--force-reinstall" if "broken" in said else "--upgrade"
    assert line == (
        f"{said}, so gpumodels-tui does not show this ComfyUI. Next: {sys.executable} -m pip install {option} gpumodels"
    )
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.records[0].exc_info is None


def test_a_folder_in_the_packages_place_is_no_gpumodels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gpumodels").mkdir()
    importing(monkeypatch, tmp_path, None)
    runpy.run_path(SCRIPT)
    assert "is too old for its node pack" in lines(caplog)[0]


def test_the_pack_has_no_nodes_and_imports_nothing_but_names_of_types() -> None:
    source = (SOURCE / "__init__.py").read_text()
    pack = runpy.run_path(str(SOURCE / "__init__.py"))
    assert (pack["NODE_CLASS_MAPPINGS"], pack["NODE_DISPLAY_NAME_MAPPINGS"]) == ({}, {})
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported == {"typing"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(ast.parse(source)))


def test_no_line_of_the_pack_runs_pip_or_any_other_program() -> None:
    for path in SOURCE.glob("*.py"):
        assert re.search(r"import (?!gpumodels|logging|sys|Any)|exec\(|__import__", path.read_text()) is None


def test_comfyui_finds_what_it_reads_of_a_pack_and_no_publisher_who_is_none() -> None:
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    given = toml.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = given["project"], given["tool"]["comfy"]
    assert re.fullmatch(r"[a-zA-Z](?:[-_.]?[a-zA-Z0-9])*", project["name"])
    assert "comfyui" not in project["name"].lower()
    assert project["version"] == __version__
    assert project["license"].keys() == {"text"}
    assert project["dependencies"] == [f"gpumodels>={__version__}"]
    assert all(line.startswith("Operating System :: ") for line in project["classifiers"])
    assert not any("Windows" in line for line in project["classifiers"])
    assert {"DisplayName", "Icon", "requires-comfyui"} <= comfy.keys()
    assert comfy["PublisherId"] == ""
