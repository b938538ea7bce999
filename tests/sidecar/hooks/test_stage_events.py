"""The queue between the threads that run stages and the sidecar's."""

from __future__ import annotations

import torch

from gpumodels.hooks.stage_events import CHANGE_BYTES, NO_VERSION, StageEnded, StageEvents, StageStarted
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.accelerator_memory import AcceleratorMemory, MainAccelerator


class Accelerator(MainAccelerator):
    """One whose memory the tests set."""

    def __init__(self) -> None:
        super().__init__(torch)
        self.allocated_bytes = 0

    def read(self) -> AcceleratorMemory:
        """What was set."""
        return AcceleratorMemory("cuda:0", self.allocated_bytes)


def test_a_stage_is_noted_with_the_memory_at_both_ends_and_runs_in_between() -> None:
    registry, accelerator = ModuleRegistry(), Accelerator()
    events = StageEvents(registry)
    events.measure(accelerator, lambda _: None)
    number = events.begin("7", "KSampler", ("a.pth",))
    assert events.running_now() == {number}
    accelerator.allocated_bytes = CHANGE_BYTES + 1
    version = registry.version
    events.end(number)
    events.end(number)
    started, ended = events.take()
    assert isinstance(started, StageStarted)
    assert isinstance(ended, StageEnded)
    assert (started.id, started.name, started.named, started.number) == ("7", "KSampler", ("a.pth",), ended.number)
    assert (started.moment.memory, ended.moment.memory) == (
        AcceleratorMemory("cuda:0", 0),
        AcceleratorMemory("cuda:0", CHANGE_BYTES + 1),
    )
    assert events.running_now() == set()
    assert registry.version > version, "it changed the memory: the models are scanned"


def test_what_was_in_memory_before_anybody_was_there_is_unknown() -> None:
    events = StageEvents(ModuleRegistry())
    events.measure(Accelerator(), lambda _: None)
    events.adopt("#1", "load", 5)
    (started,) = events.take()
    assert started.moment == (5, AcceleratorMemory("cuda:0"), NO_VERSION)
