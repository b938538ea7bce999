"""Which accelerators a torch has: its own, and one that somebody has added."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gpumodels.support.accelerators import ACCELERATORS, accelerators


def a_torch(added: object) -> Any:
    return SimpleNamespace(_C=SimpleNamespace(_get_privateuse1_backend_name=lambda: added))


@pytest.mark.parametrize(
    ("added", "found"),
    [("npu", (*ACCELERATORS, "npu")), ("privateuseone", ACCELERATORS), ("cuda", ACCELERATORS), (None, ACCELERATORS)],
)
def test_a_backend_that_was_added_to_torch_and_named_is_an_accelerator(added: object, found: tuple[str, ...]) -> None:
    assert accelerators(a_torch(added)) == found


def test_a_torch_that_does_not_tell_has_its_own() -> None:
    assert accelerators(SimpleNamespace()) == ACCELERATORS  # type: ignore[arg-type]
