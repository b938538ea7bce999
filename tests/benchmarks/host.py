"""What the sidecar costs the host: how long it holds the interpreter, how much slower steps are, how much memory it takes."""

from __future__ import annotations

import gc
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from torch import nn

import gpumodels
from benchmarks.scanning import a_model
from gpumodels.publishing.packing import SnapshotPacker
from modules import Attached, attached
from snapshots import a_snapshot

MODULES: Final = 40_000
STEP_PAIRS: Final = 60
STEPS_PER_BLOCK: Final = 100
SHARE_SECONDS: Final = 60


def main() -> None:
    """Print each figure beside its target."""
    print_holds()
    print_steps()
    print_share()
    print_memory()


class Slices:
    """Stands in for the pause between slices: notes how much processor time each slice took."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self._began: float | None = None

    def pause(self) -> None:
        if self._began is not None:
            self.taken.append(time.thread_time() - self._began)
        time.sleep(0.0005)
        self._began = time.thread_time()


def a_full_tick(sidecar: Attached, slices: Slices, afresh: bool) -> None:
    """All that a tick does with modules: scan, name, measure the memory beside the models, pack."""
    slices.pause()
    found = sidecar.scan(slices.pause, afresh)
    slices.pause()
    models = sidecar.described(found)
    slices.pause()
    sidecar.scanner.measure(sidecar.training_state, slices.pause)
    slices.pause()
    SnapshotPacker(slices.pause).pack(a_snapshot(*models))
    slices.pause()


def print_holds() -> None:
    """The longest slice, by the scanning thread's own processor time; and the longest wait of another thread."""
    slices = Slices()
    with attached(lambda: slices.pause()) as sidecar:
        model = a_model(MODULES)
        gc.collect()
        for name, afresh in (("first look", True), ("next look", False)):
            slices = Slices()
            waits = longest_wait(lambda: None)
            waits_beside = longest_wait(lambda slices=slices, afresh=afresh: a_full_tick(sidecar, slices, afresh))  # type: ignore[misc]
            ordered = sorted(slices.taken)
            print(
                f"interpreter held, {MODULES:,} modules, {name}: longest slice {ordered[-1] * 1e3:.2f} ms, "
                f"99 % below {ordered[int(len(ordered) * 0.99)] * 1e3:.2f} ms (target ≤ 2 ms); another thread's longest wait "
                f"{waits_beside * 1e3:.2f} ms, {waits * 1e3:.2f} ms without"
            )
        del model


def longest_wait(work: Callable[[], None]) -> float:
    """The longest gap in a busy thread's own clock while the work runs in another."""
    longest = 0.0
    thread = threading.Thread(target=work)
    thread.start()
    until = time.perf_counter() + 0.5
    before = time.perf_counter()
    while thread.is_alive() or before < until:
        now = time.perf_counter()
        longest = max(longest, now - before)
        before = now
    thread.join()
    return longest


def print_steps() -> None:
    """Steps of a small transformer's forward, sidecar on and off in turn, in blocks of a second."""
    torch.set_num_threads(1)
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    batch = torch.randn(1, 64, 256)

    def steps(count: int) -> list[float]:
        taken = []
        with torch.no_grad():
            for _ in range(count):
                started = time.perf_counter()
                model(batch)
                taken.append(time.perf_counter() - started)
        return taken

    def block(with_sidecar: bool) -> list[float]:
        if with_sidecar:
            gpumodels.start(directory=Path(directory) / "gpumodels")
        steps(STEPS_PER_BLOCK // 4)  # the first scan, of modules made before, belongs to starting
        taken = steps(STEPS_PER_BLOCK)
        if with_sidecar:
            gpumodels.stop()
        return taken

    with tempfile.TemporaryDirectory() as directory:
        steps(50)
        for name, first in (("with the sidecar", True), ("of a run without it against another", False)):
            ratios, ours, theirs = [], [], []
            for pair in range(STEP_PAIRS):
                if pair % 2:  # in turns, so that a drift of the machine's speed favours neither
                    plain, beside = block(False), block(first)
                else:
                    beside, plain = block(first), block(False)
                ours += beside
                theirs += plain
                ratios.append(statistics.median(beside) / statistics.median(plain))
            slower = (statistics.median(ratios) - 1) * 100
            tail = (percentile(ours) - percentile(theirs)) * 1e3
            print(
                f"step of {statistics.median(theirs) * 1e3:.1f} ms: median {name} {slower:+.2f} % (target ≤ +0.5 %), "
                f"p99 {tail:+.2f} ms (target ≤ +1 ms); {STEP_PAIRS} pairs",
                flush=True,
            )


def percentile(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def print_share() -> None:
    """Processor time of a sidecar in a host that changes something all the time and computes nothing."""
    for modules in (600, 5_000, MODULES):
        model = a_model(modules)
        alone = share_while_changing(model, 10)
        with tempfile.TemporaryDirectory() as directory:
            gpumodels.start(directory=Path(directory) / "gpumodels")
            time.sleep(5)  # the first scan isn't measured here: what follows is the steady state
            share = share_while_changing(model, SHARE_SECONDS)
            gpumodels.stop()
        extra = (share - alone) * 100
        print(f"processor, {modules:,} modules, 20 changes a second: {extra:.2f} % of a core over a minute (target ≤ 1 %)")
        del model


def share_while_changing(model: nn.Module, seconds: float) -> float:
    """Processor time of the process in a host that does nothing but change something 20 times a second."""
    began, spent = time.monotonic(), time.process_time()
    while time.monotonic() - began < seconds:
        model.register_buffer("touched", torch.zeros(1))
        time.sleep(0.05)
    return (time.process_time() - spent) / (time.monotonic() - began)


def print_memory() -> None:
    """Print how much resident memory the sidecar takes once it has scanned all modules."""
    for modules in (600, 5_000, MODULES):
        with attached() as sidecar:
            model = a_model(modules)
            gc.collect()
            before = resident_bytes()
            sidecar.models()
            sidecar.parts()
            gc.collect()
            grown = resident_bytes() - before
            print(f"memory of the sidecar, {modules:,} modules: {grown / 1024**2:.1f} MB")
            del model


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
