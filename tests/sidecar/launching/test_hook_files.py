from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels.launching import hook_files
from gpumodels.launching.hook_files import HOOK, package_folders, with_hook


def test_the_hook_comes_before_what_pythonpath_names_and_only_once() -> None:
    alone = with_hook({"A": "1"})
    assert (alone["A"], alone["PYTHONPATH"]) == ("1", str(HOOK.parent))
    assert with_hook({"PYTHONPATH": ""})["PYTHONPATH"] == str(HOOK.parent)
    both = with_hook({"PYTHONPATH": "/a:b"})
    assert both["PYTHONPATH"] == f"{HOOK.parent}:/a:b"
    assert with_hook(both) == both


def test_the_packages_are_where_they_are_said_to_be() -> None:
    folders = with_hook({})["_GPUMODELS_PACKAGES"].split(os.pathsep)
    assert folders == package_folders()
    for folder, name in zip(folders, ("msgpack", "gpumodels_shared", "gpumodels"), strict=True):
        assert (Path(folder) / name / "__init__.py").is_file()


def test_a_folder_that_pythonpath_cannot_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_files, "HOOK", Path("/opt/a:b/hook/sitecustomize.py"))
    with pytest.raises(ValueError, match="PYTHONPATH can't name /opt/a:b/hook, where gpumodels is installed"):
        with_hook({})
