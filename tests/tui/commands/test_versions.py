"""The version."""

from __future__ import annotations

import importlib.metadata

import pytest

from gpumodels_tui.commands.versions import version


def test_the_version_is_the_installed_one_and_none_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version() == importlib.metadata.version("gpumodels")

    def is_missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", is_missing)
    assert version() == "(not installed)"
