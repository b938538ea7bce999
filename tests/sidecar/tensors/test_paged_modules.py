"""What ComfyUI's dynamic VRAM notes on modules is told from attributes of the same name that other libraries use."""

from __future__ import annotations

from typing import Any

import pytest

from dynamic_vram import MIB, ModelVBAR
from gpumodels.tensors.paged_modules import NOTED_BESIDE, Allocation, allocation_in, is_from_file, is_vbar, notes_paging, pin_in


def test_a_module_s_part_of_a_vbar_is_an_address_and_a_size() -> None:
    vbar = ModelVBAR(4)
    assert allocation_in({"_v": vbar.alloc(MIB)}) == Allocation(id(vbar), vbar.base_addr, MIB)


@pytest.mark.parametrize("value", [None, (), (1, 2), (object(), 1, 2), (ModelVBAR(1), "1", 2), [ModelVBAR(1), 1, 2]])
def test_other_values_are_no_part_of_a_vbar(value: Any) -> None:
    assert allocation_in({"_v": value}) is None


@pytest.mark.parametrize("size", [0, -1, 1 << 62])
def test_a_part_of_no_possible_size_is_none(size: int) -> None:
    assert allocation_in({"_v": (ModelVBAR(1), 1 << 44, size)}) is None


def test_a_vbar_is_known_by_its_methods() -> None:
    class Sums:
        def loaded_size(self) -> int:
            return 0

    class Named:
        loaded_size = 3

    assert is_vbar(ModelVBAR(1))
    assert is_vbar(Sums())
    assert not is_vbar(Named())


@pytest.mark.parametrize(
    "state",
    [
        {"_v": ModelVBAR(1).alloc(1), "_v_weight": 1},
        {"_v_signature": None, "_v_weight": 1},
        {"_pin_state": {}, "_v_weight": 1},
    ],
)
def test_views_of_pages_are_known_by_what_is_noted_beside_them(state: dict[str, Any]) -> None:
    assert notes_paging(state, "_v_weight", 1)


def test_other_libraries_may_use_the_names() -> None:
    assert not any(
        notes_paging(dict.fromkeys(NOTED_BESIDE - {"_v_signature", "_pin_state"}, 1), name, 1) for name in NOTED_BESIDE
    )


@pytest.mark.parametrize(
    ("state", "pinned"),
    [
        ({}, None),
        ({"_pins": {}}, None),
        ({"_pins": {"weights": {"registered": False}}}, None),
        ({"_pins": {"patches": {"pin": 1, "registered": True}}}, None),
        ({"_pins": {"weights": {"pin": 1, "registered": True}}}, True),
        ({"_pins": {"weights": {}, "weights-loaded": {"pin": 1, "registered": False}}}, False),
        ({"_pins": 3, "_pin": None}, None),
        ({"_pin": 1}, True),
    ],
)
def test_a_copy_in_host_memory_may_be_page_locked(state: dict[str, Any], pinned: bool | None) -> None:
    assert pin_in(state) is pinned


def test_a_storage_says_that_comfyui_mapped_it() -> None:
    class Storage:
        _comfy_tensor_file_slice: tuple[str, int]

    storage = Storage()
    assert not is_from_file(storage)
    storage._comfy_tensor_file_slice = ("file", 0)
    assert is_from_file(storage)
