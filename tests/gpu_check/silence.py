"""Whether the sidecar leaves the driver alone: while it runs, before the program itself uses the device, and during captures."""

from __future__ import annotations

from typing import Final

from gpu_check.machine import Machine, Row

SECONDS: Final = 3.0
MODELS: Final = "models = [nn.Sequential(*(nn.Linear(256, 256) for _ in range(20))).to(D) for _ in range(5)]"
SEEN_BY_COUNTERS: Final = """
def calls(during):
    before = device_module.counts()
    during()
    after = device_module.counts()
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}
"""
SEEN_BY_PROFILER: Final = """
from collections import Counter
from torch.profiler import ProfilerActivity, profile
import gpumodels.sidecar
gpumodels.sidecar.profiler_is_running = lambda: False  # beside a profiler it would rest

def calls(during):
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        during()
    return dict(Counter(event.name for event in profiler.events() if event.name.startswith(("cu", "Memcpy", "Memset"))))
"""
IN_A_THREAD: Final = """
import threading
def in_a_thread():
    thread = threading.Thread(target=lambda: models[0][0].weight.sum().item())
    thread.start()
    thread.join()
"""
FORK: Final = """
import os
def used_in_a_fork():
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(torch.ones(4, device=D).sum().item()) - 4)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
CAPTURES: Final = """
def captured(count):
    wrong = 0
    x = torch.ones(256, 256, device=D)
    for number in range(count):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            y = models[0](x)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured_y = models[0](x)
        graph.replay()
        wrong += not torch.allclose(captured_y, models[0](x), atol=1e-3)
        models.append(nn.Linear(256, 256).to(D))  # something to sample, meanwhile
    return wrong
"""


def check(machine: Machine) -> list[Row]:
    """Calls of the driver, with and without the sidecar; a fork before the device was used; captures beside samples."""
    with machine.host("silence") as host:
        for source in (SEEN_BY_COUNTERS if machine.is_simulated else SEEN_BY_PROFILER, MODELS, IN_A_THREAD):
            host.tell(source)
        found = host.models_when(lambda models: len(models) == 5)
        control = host.tell("calls(in_a_thread)")
        beside = host.tell(f"calls(lambda: time.sleep({SECONDS}))")
        host.tell("gpumodels.stop()")
        without = host.tell(f"calls(lambda: time.sleep({SECONDS}))")
    means = "by the device's counters" if machine.is_simulated else "by torch's profiler"
    rows = [
        Row("silence", f"a call by another thread is seen {means}", str(sum(control.values())), bool(control)),
        Row("silence", f"calls in {SECONDS:.0f} s beside {len(found)} models", _said(beside, without), beside == without),
    ]
    with machine.host("unused") as host:
        host.tell("on_cpu = [nn.Linear(256, 256) for _ in range(10)]")
        host.wait_for_ticks(10)
        is_initialized = host.tell("device_module.is_initialized()")
        rows.append(Row("silence", "the device, unused by the program, is initialised", str(is_initialized), not is_initialized))
        host.tell(FORK)
        code = host.tell("used_in_a_fork()")
        rows.append(Row("silence", "the device in a fork of that program: exit code", str(code), code == 0))
    return [*rows, _captures(machine)]


def _captures(machine: Machine) -> Row:
    count = 100
    what = f"{count} captures of a graph beside samples: replays that differ"
    if machine.is_simulated:
        return Row("captures", what, "it captures none", None)
    with machine.host("captures", {"GPUMODELS_INTERVAL": "0.02", "GPUMODELS_SAMPLE_ACCELERATOR": "1"}) as host:
        host.tell(MODELS)
        host.tell(CAPTURES)
        wrong = host.tell(f"captured({count})")
        return Row("captures", what, str(wrong), wrong == 0)


def _said(beside: dict[str, int], without: dict[str, int]) -> str:
    return f"{sum(beside.values())}, without the sidecar {sum(without.values())}"
