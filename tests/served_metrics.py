"""What the metrics service serves, by name, with each metric's labels: what shipped files may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from dataclasses import replace as replaced
from functools import cache

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.outside.facts import KnownBy, OutsideFacts, OutsideModel
from gpumodels_tui.service.metric_families import Choices, ModelMetrics
from gpumodels_tui.service.observed import Observed
from gpumodels_tui.sources.gpus import GpuProcess
from gpumodels_tui.view.builder import build_view
from snapshots import GIB, H100, NOON_NS, a_device, a_feed, a_gpu, a_model, a_snapshot, some_hardware


def everything_observed() -> Observed:
    """A moment with something of each kind in it."""
    device = replace(a_device("cuda:0", GIB, H100, allocated_bytes=4 * GIB, reserved_bytes=5 * GIB), out_of_memory_count=1)
    model = replace(a_model(device="cuda:0", files=["/m/wan.safetensors"]), last_used_ns=NOON_NS, last_used_by="calls")
    snapshot = a_snapshot(model, devices=[device])
    outside = OutsideFacts((OutsideModel(KnownBy.MAPPED, ("/m/a.gguf",)),))
    running = {7: GpuProcess(7, ("llama-server",), "eve", NOON_NS, outside)}
    hardware = replaced(some_hardware(a_gpu(processes={7: GIB})), running=running)
    seen = Snapshots(a_feed(snapshot), hardware, CatalogueState(), NOON_NS)
    observed = Observed(seen, build_view(seen.feed, seen.hardware, seen.catalogue))
    return replaced(observed, loads={"lora": 1}, unloads={"lora": 1})


@cache
def served_metrics() -> Mapping[str, frozenset[str]]:
    """The labels of each metric, by the name that series have."""
    found: dict[str, frozenset[str]] = {}
    for family in ModelMetrics(everything_observed, "1", Choices()).collect():
        assert family.samples, family.name
        for sample in family.samples:
            found[sample.name] = frozenset(sample.labels)
    return found
