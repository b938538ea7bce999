from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpumodels.support import slices
from gpumodels.support.slices import SLICE_SECONDS, batched, in_slices


class Clock:
    """Of the test's own, in the place of the module's."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(slices, "time", clock)
    return clock


def work(clock: Clock, done: list[str], *seconds: float) -> Iterator[None]:
    for one in seconds:
        clock.seconds += one
        done.append("step")
        yield


def test_a_pause_comes_whenever_a_slices_time_is_over(clock: Clock) -> None:
    done: list[str] = []
    in_slices(work(clock, done, *[SLICE_SECONDS * 0.6] * 5), lambda: done.append("pause"))
    assert done == ["step", "step", "pause", "step", "step", "pause", "step"]


def test_the_time_that_a_pause_takes_is_not_the_slices(clock: Clock) -> None:
    done: list[str] = []

    def pause() -> None:
        done.append("pause")
        clock.seconds += 10

    in_slices(work(clock, done, SLICE_SECONDS, SLICE_SECONDS * 0.5), pause)
    assert done == ["step", "pause", "step"]


def test_work_that_takes_no_time_is_not_interrupted(clock: Clock) -> None:
    done: list[str] = []
    in_slices(work(clock, done, *[0.0] * 1000), lambda: pytest.fail("paused"))
    assert len(done) == 1000


def test_an_error_in_a_pause_or_a_step_is_the_callers(clock: Clock) -> None:
    done: list[str] = []

    def breaks_off() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        in_slices(work(clock, done, SLICE_SECONDS, 0.0), breaks_off)
    assert done == ["step"]


def test_batches_hold_all_items_in_their_order_and_the_last_what_is_left() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([1, 2], 2)) == [[1, 2]]
    assert list(batched([], 2)) == []


def test_no_more_is_taken_than_a_batch_at_a_time() -> None:
    taken: list[int] = []
    first = next(batched((taken.append(number) or number for number in range(100)), 4))  # type: ignore[func-returns-value]
    assert first == taken == [0, 1, 2, 3]
