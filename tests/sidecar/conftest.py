"""Fixtures of the sidecar's tests. Many tests collect garbage, so as not to see the modules of those before them."""

from __future__ import annotations

import gc
from typing import Final

import pytest
import torch

FEW: Final = 20_000
"""A garbage collection looks through so many objects in a few milliseconds."""


@pytest.fixture(autouse=True)
def _frozen_imports() -> None:
    """Exclude torch's million objects from garbage collections, which would otherwise take a quarter of a second each.

    Again after a test that imported another library, and after one that unfroze what was frozen.
    """
    if len(gc.get_objects(generation=2)) > FEW:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _no_search_for_frozen_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave torch's frozen objects alone, which would be searched through for half a second each time."""
    monkeypatch.setattr("gpumodels.hooks.torch_hooks.roots_of_process", list)


@pytest.fixture(autouse=True)
def _same_values_in_every_run() -> None:
    """What tests make of random values agrees or differs in every run alike."""
    torch.manual_seed(0)
