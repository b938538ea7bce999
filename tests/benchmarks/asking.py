"""What it costs a process to be asked who holds a model, or what else is in memory: the longest hold of its interpreter, and its
steps meanwhile."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from gpumodels.holders.other_memory import Accounted, OtherMemory
from gpumodels.holders.search import Findings, HolderSearch, expected_hold_seconds
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.tensors.tensor_storages import TensorReader
from gpumodels_shared.places import snapshot_files
from gpumodels_tui.sources.asking import NoAnswerError, ask_other, ask_why

OTHER_OBJECTS: Final = (0, 1_000_000, 3_000_000)
SECONDS: Final = 20.0
"""For each half of a pair."""
PAIRS: Final = 3

QUESTIONS: Final[dict[str, Callable[[Path], object] | None]] = {
    "left alone": None,
    "why at 1 Hz": lambda file: ask_why(file, "m1", patience_seconds=5),
    "other at 1 Hz": lambda file: ask_other(file, patience_seconds=5),
}

HOST: Final = """
import json, sys, time
import torch, gpumodels
from torch import nn
gpumodels.start()
model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(64)])
rest = [[number] for number in range(300_000)]
data = torch.randn(8, 64)
for line in sys.stdin:
    until, steps = time.perf_counter() + float(line), []
    while time.perf_counter() < until:
        began = time.perf_counter()
        with torch.no_grad():
            model(data)
        steps.append(time.perf_counter() - began)
    print(json.dumps(steps), flush=True)
"""


def other_memory() -> dict[str, Any]:
    """What an inquiry for tensors that no model holds finds, in a thread of its own, as in the sidecar."""
    found: list[dict[str, Any]] = []
    tracker, failures = OriginTracker(torch), Failures()
    accounted = Accounted(TensorReader(torch, tracker, failures), lambda _: False, ())
    thread = threading.Thread(target=lambda: found.append(OtherMemory(accounted, lambda: time.sleep(0.0005), failures).run()))
    thread.start()
    thread.join()
    tracker.close()
    return found[0]


def searched(target: weakref.ref[Any]) -> Findings:
    """What a search in a thread of its own finds, as in the sidecar."""
    found: list[Findings] = []
    thread = threading.Thread(target=lambda: found.append(HolderSearch(target, lambda: time.sleep(0.0005)).run()))
    thread.start()
    thread.join()
    return found[0]


def holds() -> None:
    """Print the longest hold of one search among more and more objects, beside what is said before."""
    print("other objects    expected      longest hold    whole search    what else: longest hold    whole search")
    held = {"pipe": [nn.Linear(64, 64)]}
    for count in OTHER_OBJECTS:
        rest = [[number] for number in range(count)]
        gc.collect()
        expected = expected_hold_seconds()
        found = searched(weakref.ref(held["pipe"][0]))
        other = other_memory()
        print(
            f"{count:13,}  {expected * 1e3:7.0f} ms  {found.longest_hold_seconds * 1e3:13.0f} ms  {found.seconds:11.2f} s"
            f"  {other['longest_hold_seconds'] * 1e3:25.0f} ms  {other['seconds']:11.2f} s",
            flush=True,
        )
        del rest


def asked_every_second(file: Path, seconds: float, ask: Callable[[Path], object]) -> int:
    """Ask once a second; how many questions were answered."""
    answered, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            ask(file)
            answered += 1
        except NoAnswerError:
            pass
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    return answered


def steps_beside_questions() -> None:
    """Print the steps of a process that is asked once a second against those of the same one left alone, in pairs."""
    with tempfile.TemporaryDirectory() as directory:
        own = Path(directory) / "own"
        own.mkdir(mode=0o700)
        command = [sys.executable, "-c", HOST]
        environment = {**os.environ, "GPUMODELS_DIR": str(own)}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            print(3.0, file=child.stdin, flush=True)
            child.stdout.readline()
            file = own / snapshot_files(own)[0]
            print("                 median step          p99          longest    steps   answers")
            for _ in range(PAIRS):
                for question, ask in QUESTIONS.items():
                    print(SECONDS, file=child.stdin, flush=True)
                    answered = asked_every_second(file, SECONDS, ask) if ask is not None else 0
                    steps = sorted(json.loads(child.stdout.readline()))
                    slow = steps[int(len(steps) * 0.99)]
                    print(
                        f"{question:13}  {statistics.median(steps) * 1e3:10.3f} ms"
                        f"  {slow * 1e3:8.2f} ms  {steps[-1] * 1e3:9.1f} ms  {len(steps):7}  {answered:6}",
                        flush=True,
                    )
            child.stdin.close()


def main() -> None:
    """Print both."""
    holds()
    steps_beside_questions()
