"""How calls are observed is tested without anything kept from test to test."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _compiled_once() -> None:
    """Compile each time, unlike in the sidecar's other tests."""
