"""A real process under a profiler: what of the sidecar is in its trace, and what viewers see meanwhile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from gpumodels.sidecar import PROFILED
from hosts import Host, a_host
from processes import wait_until

SETUP: Final = """
import gpumodels
gpumodels.start()
import collections, cProfile, json, threading, torch
from torch import nn

def a_model():
    return nn.Sequential(*[nn.Linear(64, 64) for _ in range(16)])

first = a_model()
own = next(thread.native_id for thread in threading.enumerate() if thread.name == "gpumodels")

def recorded(path):
    profiler.export_chrome_trace(path)
    with open(path) as file:
        events = [event for event in json.load(file)["traceEvents"] if event.get("cat") == "python_function"]
    return [sum(event["tid"] == own for event in events), any(event["tid"] != own for event in events)]

def calls_of_the_sidecar():
    return sum(row.callcount for row in profiler.getstats() if "gpumodels" in getattr(row.code, "co_filename", ""))
"""

FEW: Final = 400
"""Calls of the sidecar's functions in one snapshot that tells of the profiler and in some heartbeats: 144 were counted."""


def a_profiled_host_shows_a_new_model(host: Host) -> None:
    wait_until(lambda: PROFILED in host.snapshot().warnings)
    host.tell("second = a_model()")
    wait_until(lambda: len(host.snapshot().models) == 2)
    host.wait_for_ticks(3)


@pytest.mark.slow
def test_of_the_sidecar_torchs_trace_with_stacks_has_a_few_calls_and_new_models_are_shown_all_the_same(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.models_when(lambda models: len(models) == 1)
        host.tell("profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_stack=True)")
        host.tell("profiler.start()")
        a_profiled_host_shows_a_new_model(host)
        host.tell("profiler.stop()")
        of_the_sidecar, of_others = host.tell(f"recorded({str(tmp_path / 'trace.json')!r})")
        # It waits when the trace begins: the functions that it waits in, and those in which it leaves.
        assert of_the_sidecar <= 24
        assert of_others
        assert len(host.models_when(lambda models: len(models) == 2)) == 2
        wait_until(lambda: PROFILED not in host.snapshot().warnings)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 12), reason="cProfile follows all threads from Python 3.12 on")
def test_cprofile_of_a_process_at_rest_has_little_more_than_heartbeats_of_the_sidecar(tmp_path: Path) -> None:
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.models_when(lambda models: len(models) == 1)
        host.tell("profiler = cProfile.Profile()")
        host.tell("profiler.enable()")
        wait_until(lambda: PROFILED in host.snapshot().warnings)
        host.wait_for_ticks(3)
        host.tell("profiler.disable()")
        assert host.tell("calls_of_the_sidecar()") <= FEW
