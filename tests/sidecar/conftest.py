"""What holds for the sidecar's tests: each collects garbage, so that none sees another's modules."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _what_is_imported_is_set_aside() -> None:
    """Collecting garbage looks through a million objects of torch's otherwise, a quarter of a second each time."""
    pytest.importorskip("torch")
    gc.collect()
    gc.freeze()
