"""Which accelerators are asked, and when."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gpumodels.support.accelerators import ACCELERATORS, accelerators, counted_accelerators, initialised_module, platform_of


def test_a_backend_that_was_added_is_named_once() -> None:
    torch: Any = ModuleType("torch")
    torch._C = SimpleNamespace(_get_privateuse1_backend_name=lambda: "npu")
    assert accelerators(torch) == ("cuda", "xpu", "npu")
    assert counted_accelerators(torch) == ("cuda", "xpu", "mtia", "hpu", "npu")


def test_a_backend_that_cannot_say_whether_it_was_initialised_is_not_asked() -> None:
    torch: Any = ModuleType("torch")
    torch.hpu = SimpleNamespace(memory_stats=lambda index: {})
    assert initialised_module(torch, "hpu") is None
    assert initialised_module(torch, "npu") is None


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ({"cuda": "13.0", "hip": None}, "cuda"),
        ({"cuda": None, "hip": "7.1.2"}, "hip"),
        ({"cuda": None, "hip": None}, None),
        ({}, None),
    ],
)
def test_torch_says_whose_devices_its_cuda_are(version: dict[str, str | None], expected: str | None) -> None:
    torch: Any = ModuleType("torch")
    torch.version = SimpleNamespace(**version)
    assert platform_of(torch) == expected


@pytest.mark.parametrize(
    ("added", "found"),
    [("npu", (*ACCELERATORS, "npu")), ("privateuseone", ACCELERATORS), ("cuda", ACCELERATORS), (None, ACCELERATORS)],
)
def test_a_backend_that_was_added_to_torch_and_named_is_an_accelerator(added: object, found: tuple[str, ...]) -> None:
    torch: Any = SimpleNamespace(_C=SimpleNamespace(_get_privateuse1_backend_name=lambda: added))
    assert accelerators(torch) == found


def test_a_torch_that_does_not_tell_has_its_own() -> None:
    torch: Any = SimpleNamespace()
    assert accelerators(torch) == ACCELERATORS
