"""What becomes of GPUs that are lost, reset, divided or unloaded while they are watched."""

from __future__ import annotations

import time

import pytest

from fake_nvml import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_FOUND,
    RESET_REQUIRED,
    UNKNOWN,
    VERSION_MISMATCH,
    Watched,
    a_divided_gpu,
)
from gpumodels_tui.sources.gpu_reading import GpuReading
from gpumodels_tui.sources.nvml_gpus import RETRY_SECONDS
from snapshots import A100, GIB, H100


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


def brief(gpus: tuple[GpuReading, ...]) -> list[tuple[int, str, int | None, str | None]]:
    return [(gpu.index, gpu.uuid, gpu.used_bytes, gpu.lost) for gpu in gpus]


WELL = [(0, H100, 20 * GIB, None), (1, A100, 20 * GIB, None)]


@pytest.mark.parametrize("question", ["handle", "uuid", "memory", "power", "processes", "all"])
@pytest.mark.parametrize(
    ("code", "words"),
    [(GPU_IS_LOST, "GPU is lost"), (RESET_REQUIRED, "GPU requires reset"), (DRIVER_NOT_LOADED, "Driver Not Loaded")],
)
def test_a_gpu_that_is_lost_keeps_its_row_whatever_it_is_asked(watched: Watched, question: str, code: int, words: str) -> None:
    assert brief(watched.read()) == WELL
    assert not watched.problems
    watched.second.refused = {question: code}
    gpus = watched.read()
    assert brief(gpus) == [WELL[0], (1, A100, None, words)]
    assert (gpus[1].name, gpus[1].total_bytes, gpus[1].processes) == ("NVIDIA A100", 40 * GIB, {4711: None})
    assert (gpus[1].utilization_percent, gpus[1].temperature_celsius, gpus[1].power_watts) == (None, None, None)
    assert len(watched.problems) == 1
    assert watched.problems[0].startswith(f"GPU 1 (NVIDIA A100) is lost: {words}. ")


def test_a_gpu_that_answers_everything_by_an_unknown_error_is_lost_but_one_error_is_none(watched: Watched) -> None:
    """After Xid 79 some drivers say `Unknown Error` to every question."""
    watched.read()
    watched.second.refused = {"power": UNKNOWN}
    assert brief(watched.read()) == WELL
    watched.second.refused = dict.fromkeys(("memory", "utilization", "temperature", "power", "processes"), UNKNOWN)
    assert brief(watched.read()) == [WELL[0], (1, A100, None, "Unknown Error")]


def test_a_gpu_that_comes_back_is_the_same_device_and_is_asked_for_by_starting_again(watched: Watched) -> None:
    watched.read()
    watched.second.refused = {"all": GPU_IS_LOST}
    for _ in range(3):
        watched.read()
    assert watched.nvml.inits == 1
    watched.read(RETRY_SECONDS)
    watched.second.refused = {}
    assert brief(watched.read()) == WELL
    assert watched.nvml.inits == 2
    assert not watched.problems


def test_a_gpu_that_is_not_listed_any_more_is_lost_and_its_neighbours_keep_their_rows(watched: Watched) -> None:
    watched.read()
    watched.nvml.gpus = [watched.second]
    assert brief(watched.read()) == [
        (0, A100, 20 * GIB, None),
        (0, H100, None, "the driver doesn't list it any more"),
    ]
    watched.nvml.gpus = [watched.first, watched.second]
    assert brief(watched.read(RETRY_SECONDS)) == WELL


ADVICE = {DRIVER_NOT_LOADED: "modprobe nvidia", VERSION_MISMATCH: "start this viewer again", UNKNOWN: "Is it loaded"}


@pytest.mark.parametrize(("code", "advice"), ADVICE.items())
def test_without_a_driver_all_that_it_reported_before_is_lost_until_it_is_loaded_again(
    watched: Watched, code: int, advice: str
) -> None:
    watched.read()
    watched.nvml.init_code = code
    for seconds in (1, 1, RETRY_SECONDS):
        gpus = watched.read(seconds)
        assert [(gpu.uuid, gpu.used_bytes, gpu.lost) for gpu in gpus] == [
            (uuid, None, "the driver doesn't answer") for uuid in (H100, A100)
        ]
        assert len(watched.problems) == 1
        assert watched.problems[0].startswith("The NVIDIA driver doesn't answer (")
        assert ".)" not in watched.problems[0]
        assert advice in watched.problems[0]
    watched.nvml.init_code = 0
    assert brief(watched.read(RETRY_SECONDS)) == WELL


def test_a_library_that_is_gone_while_it_is_updated_is_looked_for_again(watched: Watched) -> None:
    watched.read()

    def missing() -> None:
        raise watched.nvml.NVMLError_LibraryNotFound(NOT_FOUND)

    watched.nvml.init_code = DRIVER_NOT_LOADED
    watched.read()
    init, watched.nvml.nvmlInit = watched.nvml.nvmlInit, missing  # type: ignore[method-assign]
    assert all(gpu.lost for gpu in watched.read(RETRY_SECONDS))
    watched.nvml.init_code, watched.nvml.nvmlInit = 0, init  # type: ignore[method-assign]
    assert brief(watched.read(RETRY_SECONDS)) == WELL


@pytest.mark.parametrize("code", [GPU_IS_LOST, UNKNOWN])
def test_a_gpu_that_was_lost_before_anybody_looked_has_a_row_too(watched: Watched, code: int) -> None:
    watched.second.refused = {"handle": code}
    gpus = watched.read()
    assert [(gpu.index, gpu.key, gpu.lost is not None) for gpu in gpus] == [(0, H100, False), (1, "#1", True)]
    assert watched.problems[0].startswith("GPU 1 is lost: ")
    watched.second.refused = {}
    assert brief(watched.read(RETRY_SECONDS)) == WELL


def test_a_gpu_is_lost_since_it_was_first_found_so(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    watched.read()
    states = ((2000, GPU_IS_LOST, 2000), (3000, RESET_REQUIRED, 2000), (4000, 0, 0), (5000, GPU_IS_LOST, 5000))
    for now_ns, refused, since in states:
        now[0], watched.second.refused = now_ns, {"all": refused}
        assert watched.read()[1].lost_at_ns == since


def test_a_gpu_that_we_may_not_see_is_not_lost(watched: Watched) -> None:
    watched.second.refused = {"handle": NO_PERMISSION}
    assert brief(watched.read()) == WELL[:1]
    assert not watched.problems


@pytest.mark.parametrize("count", [2**32 - 1, 2**64 - 1, -1])
def test_a_number_of_gpus_that_makes_no_sense_is_a_problem_and_no_work(watched: Watched, count: int) -> None:
    watched.nvml.count = count
    assert watched.read() == ()
    assert "number of GPUs" in watched.problems[0]


def test_slices_are_lost_with_their_gpu_and_removed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = a_divided_gpu()
    watched = Watched(monkeypatch, gpu)
    watched.read()
    gpu.refused = {"all": GPU_IS_LOST}
    assert [(one.uuid, one.lost) for one in watched.read()] == [(uuid, "GPU is lost") for uuid in (H100, "MIG-1", "MIG-2")]
    assert len(watched.problems) == 1
    assert gpu.slices is not None
    gpu.refused, gpu.slices = {}, gpu.slices[:1]
    assert [(one.uuid, one.lost) for one in watched.read(RETRY_SECONDS)] == [(H100, None), ("MIG-1", None)]
    assert not watched.problems
