"""What `make gpu-check` makes of what it finds: each part can say that something is wrong, and without a GPU nothing is."""

from __future__ import annotations

import pytest

from accelerator import simulated_device
from gpu_check import __main__ as gpu_check
from gpu_check.costs import cost_of
from gpu_check.machine import Row
from gpu_check.screen import MIB, differences, of_json, of_nvidia_smi, shown_as


def test_without_a_gpu_it_says_so_and_nothing_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "the_machine", lambda directory, is_dry: "torch finds no CUDA device here")
    assert gpu_check.main([]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gpumodels: nothing checked: torch finds no CUDA device here")


def test_one_wrong_line_is_told_in_the_table_and_by_the_exit_code() -> None:
    rows = [Row("memory", "models", "1 of 2 bytes", False), Row("captures", "graphs", "it captures none", None)]
    assert gpu_check.table(rows).splitlines()[2:] == [
        "| memory | models | 1 of 2 bytes | **wrong** |",
        "| captures | graphs | it captures none | not here |",
    ]


@pytest.mark.parametrize(
    ("without", "beside", "is_within"),
    [
        ([10.0, 10.0, 10.1, 10.0, 10.0], [10.1, 10.1, 10.1, 10.1], True),
        ([10.0, 10.0, 10.1, 10.0, 10.0], [11.0, 11.0, 11.0, 11.0], False),
        ([10.0, 13.0, 9.0, 14.0, 10.0], [12.0, 12.0, 12.5, 12.2], True),  # the machine is noisier than that
        ([10.0, 10.0, 10.0, 10.0, 10.0], [9.0, 30.0, 9.0, 30.0], True),  # as often quicker as slower
    ],
)
def test_a_cost_counts_where_it_is_beyond_the_control_and_most_pairs_say_so(
    without: list[float], beside: list[float], is_within: bool
) -> None:
    assert cost_of(without, beside).is_within(1.02) is is_within


def test_the_screen_is_compared_with_the_drivers_tool_gpu_by_gpu() -> None:
    truth = of_nvidia_smi("GPU-1, 81559, 1000\nGPU-2, 81559, [N/A]\n")
    assert truth == {"GPU-1": (81559 * MIB, 1000 * MIB)}
    gpu = {"uuid": "GPU-1", "parent": None, "total_bytes": 81559 * MIB, "used_bytes": 1001 * MIB}
    assert shown_as(of_json({"gpus": [gpu]}), truth)
    assert differences(of_json({"gpus": [{**gpu, "used_bytes": 2000 * MIB}]}), truth).startswith("GPU-1: used ")
    assert differences({}, truth) == "GPU-1 missing"
    assert not shown_as(of_json({"gpus": [gpu, {**gpu, "uuid": "GPU-3"}]}), truth)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(simulated_device.unavailable() is not None, reason=str(simulated_device.unavailable()))
def test_on_the_simulated_device_memory_silence_and_screen_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    code = gpu_check.main(["--dry-run", "--parts", "memory,silence,screen"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "| memory | sum of all parts |" in said
    assert "simulated" in said.splitlines()[-1]
