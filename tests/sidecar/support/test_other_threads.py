"""Whether the host computes: on clocks of the test's own, and once on the kernel's."""

from __future__ import annotations

import threading
import time

from gpumodels.support.other_threads import BUSY_SHARE, BUSY_WINDOW_SECONDS, OtherThreads


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_host_computes_when_its_threads_took_processor_time_lately() -> None:
    clock, process, own = Clock(), Clock(), Clock()
    others = OtherThreads(clock, process, own)

    def after(wall: float, in_process: float, in_own: float) -> bool:
        clock.seconds += wall
        process.seconds += in_process
        own.seconds += in_own
        return others.are_busy()

    after(0.0, 0.0, 0.0)
    window = BUSY_WINDOW_SECONDS
    assert after(window, window, 0.0)
    assert after(window / 4, 0.0, 0.0)  # too soon to know better
    assert not after(window, 0.0, 0.0)
    assert not after(window, window, window)  # that was our own
    assert not after(window, window * BUSY_SHARE / 2, 0.0)
    assert after(window, 4 * window, window)


def test_what_other_threads_took_is_what_the_kernel_says() -> None:
    others = OtherThreads()
    done: list[bool] = []

    def computes() -> None:
        while not done:
            pass

    others.are_busy()
    thread = threading.Thread(target=computes)
    thread.start()
    began = time.process_time() - time.thread_time()
    while time.process_time() - time.thread_time() - began < 10 * BUSY_WINDOW_SECONDS:
        time.sleep(BUSY_WINDOW_SECONDS)
    busy = others.are_busy()
    done.append(True)
    thread.join()
    assert busy


def test_before_anything_was_measured_a_host_is_taken_to_compute() -> None:
    clock, idle = Clock(), Clock()
    others = OtherThreads(clock, idle, idle)
    assert others.are_busy()
    clock.seconds += BUSY_WINDOW_SECONDS
    assert not others.are_busy()
