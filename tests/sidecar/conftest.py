"""Fixtures of the sidecar's tests. Many tests collect garbage, so as not to see the modules of those before them."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _frozen_imports() -> None:
    """Exclude torch's million objects from garbage collections, which would otherwise take a quarter of a second each."""
    pytest.importorskip("torch")
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_of_the_hosts_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those imports are frozen: an observer that searched them would spend what its test has for other work."""
    monkeypatch.setattr("gpumodels.hooks.torch_hooks.roots_of_process", list)
