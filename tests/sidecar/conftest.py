"""Fixtures of the sidecar's tests."""

from __future__ import annotations

import pytest
import torch

from exchanged_codes import compile_once

# The tensors of tests are small, and threads that wait for work take the processors from pytest's other workers.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_search_for_frozen_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave torch's frozen objects alone, which would be searched through for half a second each time."""
    monkeypatch.setattr("gpumodels.hooks.torch_hooks.roots_of_process", list)


@pytest.fixture(autouse=True)
def _same_values_in_every_run() -> None:
    """What tests make of random values agrees or differs in every run alike."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Python 3.12 the sidecar compiles the functions that it observes, for a tenth of a second at each start."""
    compile_once(monkeypatch)
