"""Which GPU a process means by `cuda:0`, as far as it says so itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpumodels_shared.visible_devices import normal_uuid, rocm_selectors, stated_uuid, visible_entries, visible_uuid
from snapshots import A100, H100, a_device, a_process


@pytest.mark.parametrize(
    ("visible", "entries"),
    [
        (None, None),
        ("", []),
        (" ", []),
        ("1, 0", ["1", "0"]),
        ("0,-1,1", ["0"]),
        ("-1", []),
        ("none", []),
        ("NoDevFiles", []),
        # As strtoul reads numbers: what follows them doesn't matter, and how they are written doesn't.
        ("007, +2 ,1st,0", ["7", "2", "1", "0"]),
        ("0x1", []),
        ("1000000", []),
        # One twice, however it is written, and CUDA takes none.
        ("0,1,0", []),
        ("1,01", []),
        (f"{H100},{H100}", []),
        # Behind an invalid one nothing counts, not even one twice.
        ("0,,1", ["0"]),
        ("0,-1,0", ["0"]),
        # Numbers and UUIDs don't mix.
        (f"{H100},1", [H100]),
        (f"1,{H100}", ["1"]),
        (f"{H100}, {A100[:8]}", [H100, A100[:8]]),
        ("MIG-1,GPU-1", ["MIG-1", "GPU-1"]),
    ],
)
def test_entries_count_up_to_the_first_invalid_one(visible: str | None, entries: list[str] | None) -> None:
    assert visible_entries(a_process(visible_devices=visible)) == entries


def test_an_entry_that_is_a_number_is_no_uuid() -> None:
    assert visible_uuid(a_process(visible_devices="1,0"), 0) is None
    info = a_process(visible_devices=f"{H100},{A100}")
    assert [visible_uuid(info, number) for number in (0, 1, 2)] == [H100, A100, None]


def test_a_uuid_of_torchs_gets_the_prefix_of_nvmls() -> None:
    assert [normal_uuid(uuid) for uuid in (H100, H100.removeprefix("GPU-"), "MIG-1")] == [H100, H100, "MIG-1"]


def test_a_device_is_the_gpu_whose_uuid_the_process_states() -> None:
    assert stated_uuid(a_process(), a_device("cuda:0", uuid=A100.removeprefix("GPU-"))) == A100
    assert stated_uuid(a_process(visible_devices=f"{H100},{A100}"), a_device("cuda:1")) == A100


def test_a_number_and_a_part_of_a_uuid_and_another_kind_of_device_state_nothing() -> None:
    assert stated_uuid(a_process(visible_devices="0"), a_device("cuda:0")) is None
    assert stated_uuid(a_process(visible_devices=H100[:12]), a_device("cuda:0")) is None
    assert stated_uuid(a_process(visible_devices=H100), a_device("cpu")) is None
    assert stated_uuid(a_process(visible_devices=H100), a_device("cuda:1")) is None
    assert stated_uuid(a_process(), a_device("cuda:0")) is None


def test_a_simulated_device_keeps_its_own_name() -> None:
    assert stated_uuid(a_process(), replace(a_device("cuda:0", uuid="SIMULATED-0"), simulated=True)) == "SIMULATED-0"


def test_rocms_devices_are_not_those_of_a_uuid_for_cuda() -> None:
    assert stated_uuid(a_process(visible_devices=H100, platform="hip"), a_device("cuda:0")) is None


@pytest.mark.parametrize(
    ("visible", "choice", "expected"),
    [
        (None, {}, []),
        ("1", {}, [["1"]]),
        (None, {"HIP_VISIBLE_DEVICES": "1, 0"}, [["1", "0"]]),
        (None, {"ROCR_VISIBLE_DEVICES": "GPU-1f,0", "HIP_VISIBLE_DEVICES": "1"}, [["GPU-1f", "0"], ["1"]]),
        ("0", {"HIP_VISIBLE_DEVICES": "1"}, None),
        ("0", {"GPU_DEVICE_ORDINAL": "1"}, None),
        ("0,-1", {}, None),
        ("0,0", {}, None),
    ],
)
def test_rocm_chooses_by_one_list_after_the_other(
    visible: str | None, choice: dict[str, str], expected: list[list[str]] | None
) -> None:
    assert rocm_selectors(a_process(visible_devices=visible, device_choice=choice)) == expected
