"""What a scan of the host's modules costs: ours against the usual way, with more and more other objects in the process."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Final

import torch
from torch import nn

from modules import attached

ROUNDS: Final = 5
OTHER_OBJECTS: Final = (0, 1_000_000, 3_000_000)


class Leaf(nn.Module):
    """A module with a weight of its own that takes next to no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8), requires_grad=False)


def a_model(modules: int) -> nn.Module:
    """A model of so many modules: blocks of ten, a hundred of them in a stage."""
    model = nn.Module()
    stages = model.stages = nn.ModuleList()
    for number in range((modules - 2) // 10):
        if number % 100 == 0:
            stages.append(nn.ModuleList())
        block = nn.Module()
        for name in ("norm1", "q", "k", "v", "o", "norm2", "up", "act", "down"):
            block.add_module(name, Leaf())
        stages[-1].add_module(str(number % 100), block)
    return model


def the_usual_way() -> dict[int, int]:
    """Find every module through the garbage collector, and add up the bytes of all parameters below each."""
    gc.collect()
    found = {}
    for candidate in gc.get_objects():
        if isinstance(candidate, nn.Module):
            found[id(candidate)] = sum(parameter.numel() * parameter.element_size() for parameter in candidate.parameters())
    return found


def seconds(work: Callable[[], object]) -> float:
    """Median CPU time of this thread over some runs."""
    taken = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return statistics.median(taken)


def main() -> None:
    """Print a line for each number of modules and of other objects."""
    print("modules  other objects    usual way   first look   next look  ratio to the first, to the next")
    for modules in (600, 5_000, 40_000):
        with attached() as sidecar:
            model = a_model(modules)
            for other in OTHER_OBJECTS:
                rest = [[number] for number in range(other)]
                usual = seconds(the_usual_way)
                first = seconds(lambda: sidecar.described(sidecar.scan(afresh=True)))
                following = seconds(sidecar.models)
                print(
                    f"{modules:7,}  {other:13,}  {usual * 1e3:8.1f} ms  {first * 1e3:8.2f} ms  {following * 1e3:7.2f} ms"
                    f"  {usual / first:16.0f}×  {usual / following:10.0f}×",
                    flush=True,
                )
                del rest
            del model
