"""What a step and a load cost beside the sidecar: measured in turns, in one process, with it and without.

On a GPU, by the clock; on the simulated device, whose operations run in the thread that asks for them, by that thread's processor
time, since the machine may have other work.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

from gpu_check.machine import Clock, Machine, Row

WORK: Final = """
import os
from safetensors.torch import load_file, save_file
models = [nn.Sequential(*(nn.Linear(64, 64) for _ in range(100))).to(D) for _ in range(10)]
weights = [torch.randn(256, 256).to(D) for _ in range(8)]
loaded_model = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(40))).to(D)
save_file({key: value.cpu() for key, value in loaded_model.state_dict().items()}, FILE)
wait = device_module.synchronize
torch.set_num_threads(1)

def step():
    x = torch.ones(256, 256, device=D)
    for weight in weights:
        x = torch.nn.functional.relu(x @ weight)
    wait()

def load():
    loaded_model.load_state_dict(load_file(FILE, device=D))
    wait()

def milliseconds(work, seconds):
    clock = time.thread_time if D.startswith("npu") else time.perf_counter
    spent = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(spent) < 3:
        began = clock()
        work()
        spent.append(clock() - began)
    return 1000 * sorted(spent)[len(spent) // 2]
"""
WINDOW_SECONDS: Final = 0.4
PAIRS: Final = 16
MOST: Final = {"step": 1.02, "load": 1.06}


class Cost(NamedTuple):
    """How long work takes beside the sidecar, of without; and without it, of without it."""

    ratio: float
    slower: float
    """The share of pairs in which it took longer."""
    control: float
    """How far windows without the sidecar are from the ones before: by their median, or half of what most of them spread over."""
    pairs: int

    def is_within(self, most: float) -> bool:
        """Not, if it is beyond the limit by more than the control is off, and most of the pairs say so."""
        return self.ratio <= most + self.control or self.slower < 0.8


def cost_of(without: Sequence[float], beside: Sequence[float]) -> Cost:
    """From medians of windows in turns: without, beside, without, and so on.

    Args:
        without: one more than there are pairs.
        beside: as many as there are pairs.
    """
    around = [(one + other) / 2 for one, other in pairwise(without)]
    ratios = [one / other for one, other in zip(beside, around, strict=True)]
    of_controls = sorted(other / one for one, other in pairwise(without))
    quarter = len(of_controls) // 4
    off = max(abs(median(of_controls) - 1), (of_controls[-1 - quarter] - of_controls[quarter]) / 2)
    return Cost(median(ratios), sum(ratio > 1 for ratio in ratios) / len(ratios), off, len(ratios))


def check(machine: Machine, clock: Clock) -> list[Row]:
    """Steps, and loads of 160 MB, beside ten models of a hundred layers."""
    rows = []
    with machine.host("costs", {"GPUMODELS_INTERVAL": "0.5"}, is_started=False) as host:
        host.tell(f"FILE = {str(machine.directory / 'costs.safetensors')!r}")
        host.tell(WORK)
        for number, (work, most) in enumerate(MOST.items()):
            share = Clock(clock.left() / (len(MOST) - number))
            host.tell(f"milliseconds({work}, 0.5)")
            without: list[float] = [host.tell(f"milliseconds({work}, {WINDOW_SECONDS})")]
            beside: list[float] = []
            while len(beside) < PAIRS and (share.left() > 0 or len(beside) < 4):
                host.tell("gpumodels.start()")
                host.models_when(lambda models: len(models) >= 10)
                beside.append(host.tell(f"milliseconds({work}, {WINDOW_SECONDS})"))
                host.tell("gpumodels.stop()")
                without.append(host.tell(f"milliseconds({work}, {WINDOW_SECONDS})"))
            cost = cost_of(without, beside)
            said = f"{cost.ratio:.3f} × {median(without):.2f} ms (without, of without: ±{cost.control:.3f}), {cost.pairs} pairs"
            rows.append(Row("cost", f"a {work} beside the sidecar, at most {most} ×", said, cost.is_within(most)))
    return rows
