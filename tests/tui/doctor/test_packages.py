"""What the viewer itself runs on."""

from __future__ import annotations

import importlib
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from gpumodels_tui.doctor import packages
from machines import a_machine, found, statuses

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def test_the_versions_are_told() -> None:
    ((status, text),) = found(packages.python, a_machine())
    assert status == "PASS"
    assert platform.python_version() in text


def test_with_everything_installed_it_passes() -> None:
    assert statuses(packages.packages, a_machine()) == ["PASS"]


def test_what_is_missing_fails_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "REQUIRED", (*packages.REQUIRED, "no-such-package"))
    said = found(packages.packages, a_machine())
    assert said[0] == ("FAIL", "not installed: no-such-package")


def test_the_packages_are_those_of_the_extra() -> None:
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    extras = toml.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    of_extra = {re.split(r"[<>=;~ \[]", one)[0].lower() for one in (*extras["tui"], *extras["metrics"])}
    listed = {*packages.REQUIRED, *packages.OPTIONAL}
    assert listed == (of_extra - {"tomli"}) | {"msgpack"}


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", not_found)
    assert packages.own_version() == "(not installed)"
    assert packages.versions() == {}
