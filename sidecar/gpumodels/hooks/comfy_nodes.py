"""Which nodes ComfyUI runs, which model files their inputs may name, and the memory at the start and the end of each.

ComfyUI executes one node after the other by `execute`, which returns whatever happened, errors and interruptions included. A node
that isn't cached runs in `get_output_data`. An asynchronous node goes on running after both have returned; a later `execute`
collects its results.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.observing.observers import Observers
from gpumodels.support.accelerator_memory import AcceleratorMemory, MainAccelerator, PagedMemory
from gpumodels.support.instances import is_a, name_of, state_of
from gpumodels.support.never_pickled import never_pickled

MODULE: Final = "execution"
MODEL_SUFFIXES: Final = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".pt2", ".bin", ".pkl", ".gguf", ".onnx")
CHANGE_BYTES: Final = 100 * 1024**2
"""If a node changed the memory by this much, the models are scanned once it ends."""
MAX_EVENTS: Final = 4096
MAX_VALUES: Final = 256
"""Values of a node's inputs that are searched for names of files."""
MAX_DEPTH: Final = 5
MAX_NAME: Final = 1024

_NodeKey = tuple[str, str]
"""A prompt's id, and a node's id in it."""


@never_pickled
class Moment(NamedTuple):
    """The start or the end of a node."""

    at_ns: int
    """Realtime nanoseconds."""
    memory: AcceleratorMemory | None
    """None where the process uses no accelerator."""
    contents_version: int
    """`ModuleRegistry.contents_version`: which models there were."""


@never_pickled
class NodeStarted(NamedTuple):
    """A node begins to run."""

    number: int
    """Tells runs apart."""
    id: str
    """The node's id in its workflow."""
    name: str
    """The node's type."""
    named: tuple[str, ...]
    """Values of its inputs that may name model files."""
    moment: Moment


@never_pickled
class NodeEnded(NamedTuple):
    """A node's run is over, or has failed."""

    number: int
    moment: Moment


@never_pickled
@dataclass(slots=True)
class _Running:
    """A node that runs now."""

    number: int
    memory: AcceleratorMemory | None
    is_asynchronous: bool = False
    """Whether its results are collected by a later call of `execute` than that in which it began."""


@never_pickled
class ComfyNodes:
    """Notes the nodes' starts and ends in the host's threads, for the sidecar's thread to take.

    Args:
        registry: is asked for a scan.
        accelerator: whose memory is read.
        paged_memory: what dynamic VRAM holds on a device beside torch's allocator; None where it isn't used.
        note_error: is given the exception by which a node failed.
    """

    def __init__(
        self,
        registry: ModuleRegistry,
        accelerator: MainAccelerator,
        paged_memory: Callable[[str], PagedMemory | None],
        note_error: Callable[[Any], None] | None = None,
    ) -> None:
        self._registry = registry
        self._accelerator = accelerator
        self._paged_memory = paged_memory
        self._note_error = note_error
        self._events: deque[NodeStarted | NodeEnded] = deque(maxlen=MAX_EVENTS)
        self._count = 0
        self._executing: tuple[_NodeKey, str] | None = None
        """The node for which `execute` was last called, and its type."""
        self._executes: dict[int, _NodeKey] = {}
        """By the id of its frame, the node of each call of `execute` that hasn't returned."""
        self._outputs: dict[int, _NodeKey] = {}
        """The same for `get_output_data`, including calls that raised."""
        self._running: dict[_NodeKey, _Running] = {}

    def observe(self, observers: Observers) -> None:
        """Observe nothing yet: torch itself has no nodes."""

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """ComfyUI's module that executes prompts, with the function to call once it is imported."""

        def comfy(module: ModuleType) -> None:
            executor = getattr(module, "PromptExecutor", None)
            outputs, execute = getattr(module, "get_output_data", None), getattr(module, "execute", None)
            if executor is None or outputs is None or execute is None:
                return  # another program's module of this name
            observers.observe(outputs, "noting a node", self._output_began, self._output_ended)
            observers.observe(execute, "noting a node", self._execute_began, self._execute_ended)
            whole = vars(executor).get("execute")
            observers.observe(whole, "noting a prompt", self._prompt_began, self._prompt_ended)

        return {MODULE: comfy}

    def types(self) -> set[type]:
        """No objects are searched for."""
        return set()

    def add_all(self, found: Iterable[Any]) -> None:
        """Nothing was searched for."""

    def take(self) -> list[NodeStarted | NodeEnded]:
        """The starts and ends since the last call, in their order. For the sidecar's thread."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def _execute_began(self, frame: FrameType) -> None:
        arguments = frame.f_locals
        item = _text(arguments.get("current_item"))
        key = (_text(arguments.get("prompt_id")), item)
        self._executing = key, _type_in(arguments.get("dynprompt"), item)
        self._executes[id(frame)] = key

    def _execute_ended(self, frame: FrameType, result: Any) -> None:
        if self._note_error is not None and type(result) is tuple and result and is_a(result[-1], BaseException):
            self._note_error(result[-1])  # it returns what happened, why and the error itself
        # The frame's variables aren't read again: where it failed, they would then refer to the exception, and it to them.
        key = self._executes.pop(id(frame), None)
        running = self._running.get(key) if key is not None else None
        if key is None or running is None:
            return
        if running.is_asynchronous:
            running.is_asynchronous = False  # the next call collects its results
        else:
            self._end(key)

    def _output_began(self, frame: FrameType) -> None:
        arguments = frame.f_locals
        key, name = self._executing or (("", ""), "")
        if "unique_id" in arguments:
            given = (_text(arguments.get("prompt_id")), _text(arguments["unique_id"]))
            key, name = given, name if given == key else ""
        if not name:
            node = arguments.get("obj")
            name = name_of(node if is_a(node, type) else type(node))
        named = tuple(dict.fromkeys(_file_names_in(arguments.get("input_data_all"))))
        if key in self._running:
            self._end(key)
        self._outputs[id(frame)] = key
        self._count += 1
        moment = self._now()
        self._running[key] = _Running(self._count, moment.memory)
        self._events.append(NodeStarted(self._count, key[1], name, named, moment))

    def _output_ended(self, frame: FrameType, result: Any) -> None:
        key = self._outputs.pop(id(frame), None)
        running = self._running.get(key) if key is not None else None
        if key is None or running is None:
            return
        if type(result) is tuple and len(result) > 3 and result[3] is True:  # it has tasks that go on
            running.is_asynchronous = True
        else:
            self._end(key)

    def _prompt_began(self, _frame: FrameType) -> None:
        self._end_all()

    def _prompt_ended(self, _frame: FrameType, _result: Any) -> None:
        self._end_all()

    def _end_all(self) -> None:
        """End what a prompt that was broken off has left."""
        for key in list(self._running):
            self._end(key)
        self._executes.clear()
        self._outputs.clear()
        self._executing = None

    def _end(self, key: _NodeKey) -> None:
        running = self._running.pop(key, None)
        if running is None:
            return
        moment = self._now()
        self._events.append(NodeEnded(running.number, moment))
        before = running.memory.allocated_bytes if running.memory is not None else 0
        after = moment.memory.allocated_bytes if moment.memory is not None else 0
        if before is not None and after is not None and abs(after - before) > CHANGE_BYTES:
            self._registry.request_scan()

    def _now(self) -> Moment:
        memory = self._accelerator.read()
        paged = self._paged_memory(memory.device) if memory is not None else None
        if memory is not None and paged is not None:  # of pages, nobody counts the peak
            allocated, in_pages = memory.allocated_bytes, paged.size_bytes
            held = allocated + in_pages if allocated is not None and in_pages is not None else None
            memory = AcceleratorMemory(memory.device, held)
        return Moment(time.time_ns(), memory, self._registry.contents_version)


def _text(value: Any) -> str:
    return value if type(value) is str else ""


def _type_in(prompt: Any, item: str) -> str:
    """The type of the node with this id in a `DynamicPrompt`, one from an expanded subgraph included; empty if unknown."""
    state = state_of(prompt) if prompt is not None else {}
    for table in ("ephemeral_prompt", "original_prompt"):
        nodes = state.get(table)
        node = nodes.get(item) if type(nodes) is dict else None
        if type(node) is dict:
            return _text(node.get("class_type"))
    return ""


def _file_names_in(inputs: Any) -> Iterator[str]:
    """The texts in a node's inputs that end like a model file, from plain lists and dictionaries."""
    waiting = deque([(inputs, 0)])
    for _ in range(MAX_VALUES):
        if not waiting:
            return
        value, depth = waiting.popleft()
        if type(value) is str:
            if len(value) <= MAX_NAME and value[-16:].lower().endswith(MODEL_SUFFIXES):
                yield value
        elif depth < MAX_DEPTH and type(value) in (dict, list, tuple):
            held = list(value.values()) if type(value) is dict else value[:MAX_VALUES]
            waiting.extend((one, depth + 1) for one in held)
