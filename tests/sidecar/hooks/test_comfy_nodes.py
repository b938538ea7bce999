"""ComfyUI's nodes as they start and end. Uses stand-ins with the shapes of its `execution` module, today's and an old one."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from comfy_executor import __file__ as today
from comfy_executor import loaded_as_execution
from gpumodels.hooks.comfy_nodes import ComfyNodes
from gpumodels.hooks.stage_events import CHANGE_BYTES, StageEnded, StageEvents, StageStarted
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.observing.observers import Observers
from gpumodels.support.accelerator_memory import AcceleratorMemory, MainAccelerator, PagedMemory
from gpumodels.support.failures import Failures

VERSIONS = {"today": today, "0.3.0": str(Path(today).with_name("comfy_executor_0_3_0.py"))}


Prompt = dict[str, tuple[str, Callable[..., Any], dict[str, Any]]]
"""By id, the type, function and inputs of each node."""


class Accelerator(MainAccelerator):
    """One whose memory the tests set."""

    def __init__(self) -> None:
        super().__init__(torch)
        self.allocated_bytes: int | None = None

    def read(self) -> AcceleratorMemory | None:
        """What was set; no accelerator before."""
        return None if self.allocated_bytes is None else AcceleratorMemory("cuda:0", self.allocated_bytes, 10**12, 10**12)


class Comfy:
    """A stand-in for ComfyUI, observed."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.executor = module.PromptExecutor()
        self.accelerator = Accelerator()
        self.registry = ModuleRegistry()
        self.failures = Failures()
        self.paged: PagedMemory | None = None
        self.errors: list[str] = []
        self.noted = StageEvents(self.registry)
        self.noted.measure(self.accelerator, lambda _: self.paged)
        self.nodes = ComfyNodes(self.noted, lambda error: self.errors.append(type(error).__name__))
        self.observers = Observers(torch, self.failures)
        self.nodes.awaited(self.observers)["execution"](module)

    def run(self, nodes: Prompt, prompt: str = "prompt 1") -> None:
        """Run a prompt."""
        entries = {node: {"class_type": name, "function": run, "inputs": inputs} for node, (name, run, inputs) in nodes.items()}
        self.executor.execute(entries, prompt)

    def events(self) -> list[str]:
        """What was noted: `4 KSampler begins`, `4 ends`."""
        said: list[str] = []
        ids: dict[int, str] = {}
        for event in self.noted.take():
            if isinstance(event, StageStarted):
                ids[event.number] = event.id
                said.append(f"{event.id} {event.name} begins")
            else:
                said.append(f"{ids[event.number]} ends")
        return said


@pytest.fixture(params=VERSIONS)
def comfy(request: pytest.FixtureRequest) -> Iterator[Comfy]:
    """Of each version."""
    yield from one_of(VERSIONS[request.param])


@pytest.fixture
def today_comfy() -> Iterator[Comfy]:
    yield from one_of(today)


def one_of(file: str) -> Iterator[Comfy]:
    made = Comfy(loaded_as_execution(file))
    try:
        yield made
        assert made.failures.count == 0
    finally:
        made.observers.remove()


def nothing(**_inputs: object) -> int:
    return 1


def test_each_node_begins_and_ends_and_cached_ones_do_not_run(comfy: Comfy) -> None:
    nodes: Prompt = {
        "4": ("CheckpointLoaderSimple", nothing, {"ckpt_name": "a.safetensors"}),
        "7": ("KSampler", nothing, {"seed": 1}),
    }
    comfy.run(nodes)
    expected = ["4 CheckpointLoaderSimple begins", "4 ends", "7 KSampler begins", "7 ends"]
    assert comfy.events() == expected
    comfy.run(nodes, "prompt 2")
    assert comfy.events() == []
    assert comfy.executor.results == [("4", "SUCCESS"), ("7", "SUCCESS")] * 2


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, type("InterruptProcessingException", (Exception,), {})])
def test_an_error_and_an_interruption_end_a_node(comfy: Comfy, error: type[Exception]) -> None:
    def fails(**_inputs: object) -> None:
        raise error

    comfy.run({"4": ("KSampler", fails, {})})
    assert comfy.events() == ["4 KSampler begins", "4 ends"]
    assert comfy.executor.results == [("4", "FAILURE")]
    assert comfy.errors == [error.__name__]


def test_a_prompt_that_was_broken_off_leaves_no_node_that_runs_for_ever(comfy: Comfy) -> None:
    def breaks_off(**_inputs: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        comfy.run({"4": ("KSampler", breaks_off, {})})
    comfy.run({"5": ("KSampler", nothing, {})}, "prompt 2")
    assert comfy.events() == ["4 KSampler begins", "4 ends", "5 KSampler begins", "5 ends"]


def test_nodes_of_a_subgraph_have_ids_with_dots_and_run_after_the_node_that_expanded(today_comfy: Comfy) -> None:
    def expands(**_inputs: object) -> dict[str, object]:
        return {"expand": {"4.0.0.1": {"class_type": "VAEDecode", "function": nothing, "inputs": {}}}}

    today_comfy.run({"4": ("Loop", expands, {})})
    assert today_comfy.events() == ["4 Loop begins", "4 ends", "4.0.0.1 VAEDecode begins", "4.0.0.1 ends"]
    assert today_comfy.executor.results[-1] == ("4", "SUCCESS")


def test_asynchronous_nodes_overlap_and_end_when_their_results_are_collected(today_comfy: Comfy) -> None:
    async def waits(**_inputs: object) -> int:
        await asyncio.sleep(0.002)
        return 1

    async def fails(**_inputs: object) -> int:
        await asyncio.sleep(0.002)
        raise RuntimeError

    today_comfy.run({"1": ("ApiNode", waits, {}), "2": ("ApiNode", waits, {})})
    assert today_comfy.events() == ["1 ApiNode begins", "2 ApiNode begins", "1 ends", "2 ends"]
    today_comfy.run({"3": ("ApiNode", fails, {}), "4": ("KSampler", nothing, {})}, "prompt 2")
    assert today_comfy.events() == ["3 ApiNode begins", "4 KSampler begins", "4 ends", "3 ends"]


def test_names_of_model_files_are_taken_from_the_inputs(comfy: Comfy) -> None:
    inputs: dict[str, object] = {
        "ckpt_name": "sd/one.safetensors", "text": "a lake", "seed": 4, "model_name": "4x.PTH", "image": "cat.png",
        "loras": {"lora_1": {"on": True, "lora": "two.safetensors"}, "other": ["three.gguf", None]},
        "again": "sd/one.safetensors", "long": "x" * 5000 + ".pt", "tensor": torch.zeros(2),
    }  # fmt: skip
    comfy.run({"4": ("Loader", nothing, inputs)})
    (started, _) = comfy.noted.take()
    assert isinstance(started, StageStarted)
    assert sorted(started.named) == ["4x.PTH", "sd/one.safetensors", "three.gguf", "two.safetensors"]


def test_memory_is_read_at_both_ends_and_a_large_change_asks_for_a_scan(comfy: Comfy) -> None:
    def takes(**inputs: int) -> int:
        comfy.accelerator.allocated_bytes = inputs["until"]
        return 1

    comfy.accelerator.allocated_bytes = 1000
    before = comfy.registry.version
    comfy.run({"1": ("Loader", takes, {"until": 2000})})
    assert comfy.registry.version == before
    comfy.run({"2": ("Loader", takes, {"until": 2 * CHANGE_BYTES})}, "prompt 2")
    assert comfy.registry.version > before
    memory = [event.moment.memory for event in comfy.noted.take()]
    assert [one.allocated_bytes for one in memory if one is not None] == [1000, 2000, 2000, 2 * CHANGE_BYTES]


def test_memory_in_pages_counts_as_well_and_its_peak_is_unknown(comfy: Comfy) -> None:
    comfy.accelerator.allocated_bytes, comfy.paged = 1000, PagedMemory(500)
    comfy.run({"1": ("Loader", nothing, {})})
    assert {event.moment.memory for event in comfy.noted.take()} == {AcceleratorMemory("cuda:0", 1500)}
    comfy.paged = PagedMemory(None)
    comfy.run({"2": ("Loader", nothing, {})}, "prompt 2")
    assert {event.moment.memory for event in comfy.noted.take()} == {AcceleratorMemory("cuda:0")}


def test_a_node_without_a_known_type_is_called_by_its_class(comfy: Comfy) -> None:
    comfy.run({"1": ("", nothing, {})})
    assert comfy.events()[0] == "1 Node begins"


def an_input_outlives(executor: Any) -> bool:
    """Whether what a failing node was given stays until Python collects."""

    class Held:
        """An input."""

    def fails(**inputs: object) -> None:
        raise RuntimeError

    held = Held()
    ref = weakref.ref(held)
    gc.collect()
    gc.disable()
    try:
        executor.execute({"1": {"class_type": "KSampler", "function": fails, "inputs": {"held": held}}}, "1")
        del held
        return ref() is not None
    finally:
        gc.enable()


@pytest.mark.parametrize("file", VERSIONS.values(), ids=VERSIONS)
def test_what_a_node_holds_lives_as_long_as_ever(file: str) -> None:
    module = loaded_as_execution(file)
    without = an_input_outlives(module.PromptExecutor())
    beside = [an_input_outlives(comfy.executor) for comfy in one_of(file)]
    assert beside == [without]


def test_another_programs_module_of_this_name_is_left_alone() -> None:
    failures = Failures()
    observers = Observers(torch, failures)
    noted = StageEvents(ModuleRegistry())
    nodes = ComfyNodes(noted)
    nodes.awaited(observers)["execution"](ModuleType("execution"))
    observers.remove()
    assert (failures.count, noted.take(), nodes.types()) == (0, [], set())


def test_events_are_taken_once(comfy: Comfy) -> None:
    comfy.run({"1": ("Loader", nothing, {})})
    assert [type(event) for event in comfy.noted.take()] == [StageStarted, StageEnded]
    assert comfy.noted.take() == []
