from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpumodels.hooks.stage_events import Moment, StageEnded, StageStarted
from gpumodels.provenance.files_named import FilesNamed
from gpumodels.provenance.files_read import FilesRead
from gpumodels.publishing.stages import MAX_STAGES, Stages
from gpumodels.support.accelerator_memory import AcceleratorMemory
from gpumodels_shared.schema import Stage


class Nodes:
    """What happened, as the test says."""

    def __init__(self) -> None:
        self.events: list[StageStarted | StageEnded] = []
        self.running: set[int] = set()

    def take(self) -> list[StageStarted | StageEnded]:
        taken, self.events = self.events, []
        return taken

    def running_now(self) -> set[int]:
        return set(self.running)

    def begin(
        self,
        number: int,
        at_ns: int = 1,
        memory: AcceleratorMemory | None = None,
        version: int = 0,
        named: tuple[str, ...] = ("one.pth",),
    ) -> None:
        self.running.add(number)
        self.events.append(StageStarted(number, str(number), "KSampler", named, Moment(at_ns, memory, version)))

    def end(self, number: int, at_ns: int = 2, memory: AcceleratorMemory | None = None, version: int = 0) -> None:
        self.running.discard(number)
        self.events.append(StageEnded(number, Moment(at_ns, memory, version)))


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def stages(nodes: Nodes) -> Stages:
    given: Any = nodes
    return Stages(given, FilesNamed(FilesRead()))


def the_only(stages: Stages) -> Stage:
    stages.update()
    (stage,) = stages.stages()
    return stage


def test_a_node_that_runs_is_a_stage_without_an_end(nodes: Nodes, stages: Stages) -> None:
    nodes.begin(1, 100, AcceleratorMemory("cuda:0", 5, 9, 9))
    assert the_only(stages) == Stage("1", "KSampler", 100, device="cuda:0", bytes_before=5)
    nodes.end(1, 200, AcceleratorMemory("cuda:0", 7, 12, 30))
    assert the_only(stages) == Stage("1", "KSampler", 100, 200, "cuda:0", 5, 7, 12)


def test_a_node_that_initialises_the_accelerator_began_with_nothing_on_it(nodes: Nodes, stages: Stages) -> None:
    nodes.begin(1)
    nodes.end(1, memory=AcceleratorMemory("cuda:0", 7, 12, 30))
    stage = the_only(stages)
    assert (stage.device, stage.bytes_before, stage.bytes_after, stage.peak_bytes) == ("cuda:0", 0, 7, None)


def test_of_two_devices_nothing_is_compared(nodes: Nodes, stages: Stages) -> None:
    nodes.begin(1, memory=AcceleratorMemory("cuda:0", 5, 9, 9))
    nodes.end(1, memory=AcceleratorMemory("cuda:1", 7, 12, 30))
    stage = the_only(stages)
    assert (stage.device, stage.bytes_before, stage.bytes_after, stage.peak_bytes) == ("cuda:1", None, 7, None)


def test_in_host_memory_it_is_what_the_next_scan_counts_if_the_models_are_still_the_same(nodes: Nodes, stages: Stages) -> None:
    stages.scanned(4, 1000)
    nodes.begin(1, version=4)
    assert the_only(stages) == Stage("1", "KSampler", 1, device="cpu", bytes_before=1000)
    nodes.end(1, version=8)
    nodes.begin(2, version=8)
    nodes.end(2, version=9)
    stages.update()
    stages.scanned(8, 3000)
    stages.scanned(10, 5000)
    first, second = stages.stages()
    assert (first.bytes_before, first.bytes_after, first.peak_bytes) == (1000, 3000, None)
    assert (second.bytes_before, second.bytes_after) == (3000, None)


def test_the_last_runs_are_kept_and_those_that_still_run(nodes: Nodes, stages: Stages) -> None:
    nodes.begin(1)
    for number in range(2, 102):
        nodes.begin(number)
        nodes.end(number)
    stages.update()
    kept = [stage.id for stage in stages.stages()]
    assert len(kept) == MAX_STAGES
    assert kept[0] == "1"
    assert kept[1:] == [str(number) for number in range(102 - MAX_STAGES + 1, 102)]


def test_an_end_without_a_start_is_nothing(nodes: Nodes, stages: Stages) -> None:
    nodes.end(7)
    stages.update()
    assert stages.stages() == ()


def test_files_are_found_once_when_it_begins_and_once_when_it_ends(
    nodes: Nodes, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def resolve(_self: object, names: tuple[str, ...], started_ns: int, _pause: Callable[[], None]) -> tuple[str, ...]:
        assert names == ("one.pth",)
        asked.append(started_ns)
        return ("/models/one.pth",)

    monkeypatch.setattr(FilesNamed, "resolve", resolve)
    nodes.begin(1)
    for _ in range(3):
        stages.update()
        stages.find_files(lambda: None)
    nodes.end(1)
    for _ in range(3):
        stages.update()
        stages.find_files(lambda: None)
    assert asked == [1, 1]
    assert the_only(stages).files == ("/models/one.pth",)


def test_a_stage_whose_end_was_lost_in_a_full_queue_does_not_run_for_ever(nodes: Nodes, stages: Stages) -> None:
    nodes.begin(1)
    stages.update()
    nodes.end(1)
    nodes.events.clear()
    stages.update()
    assert stages.stages() == ()


def test_of_thousands_of_brief_stages_the_last_are_kept(nodes: Nodes, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = Stages._host_bytes

    def counted(self: Stages, moment: Moment) -> Any:
        made.append(1)
        return real(self, moment)

    monkeypatch.setattr(Stages, "_host_bytes", counted)
    for number in range(1000):
        nodes.begin(number, named=())
        nodes.end(number)
    stages.update()
    assert [stage.id for stage in stages.stages()] == [str(number) for number in range(1000 - MAX_STAGES, 1000)]
    assert len(made) == 2 * MAX_STAGES
