"""What holds a model is searched for among all objects of the process, imported ones too."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _frozen_imports() -> None:
    """Freeze nothing, unlike in other tests."""
    gc.unfreeze()
