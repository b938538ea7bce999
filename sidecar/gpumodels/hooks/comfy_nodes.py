"""Which nodes ComfyUI runs, and which model files their inputs may name.

ComfyUI executes one node after the other by `execute`, which returns whatever happened, errors and interruptions included. A node
that isn't cached runs in `get_output_data`. An asynchronous node goes on running after both have returned; a later `execute`
collects its results.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any, Final

from gpumodels.hooks.stage_events import StageEvents
from gpumodels.observing.observers import Observers
from gpumodels.support.instances import is_a, name_of, state_of
from gpumodels.support.never_pickled import never_pickled

MODULE: Final = "execution"
MODEL_SUFFIXES: Final = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".pt2", ".bin", ".pkl", ".gguf", ".onnx")
MAX_VALUES: Final = 256
"""Values of a node's inputs that are searched for names of files."""
MAX_DEPTH: Final = 5
MAX_NAME: Final = 1024

_NodeKey = tuple[str, str]
"""A prompt's id, and a node's id in it."""


@never_pickled
@dataclass(slots=True)
class _Running:
    """A node that runs now."""

    number: int
    thread: int
    is_asynchronous: bool = False
    """Whether its results are collected by a later call of `execute` than that in which it began."""


@never_pickled
class ComfyNodes:
    """Notes the nodes' starts and ends in the host's threads, for the sidecar's thread to take.

    Args:
        events: where they are noted.
        note_error: is given the exception by which a node failed.
    """

    def __init__(self, events: StageEvents, note_error: Callable[[Any], None] | None = None) -> None:
        self._events = events
        self._note_error = note_error
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
        number, thread = self._events.begin(key[1], name, named), threading.get_ident()
        self._running[key] = _Running(number, thread)
        self._events.nodes_by_thread[thread] = number, key[1]

    def _output_ended(self, frame: FrameType, result: Any) -> None:
        key = self._outputs.pop(id(frame), None)
        running = self._running.get(key) if key is not None else None
        if key is None or running is None:
            return
        if type(result) is tuple and len(result) > 3 and result[3] is True:  # it has tasks that go on
            running.is_asynchronous = True
            self._leave_thread(running)  # other nodes run in it while this one waits
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
        if running is not None:
            self._leave_thread(running)
            self._events.end(running.number)

    def _leave_thread(self, running: _Running) -> None:
        number, _ = self._events.nodes_by_thread.get(running.thread, (0, ""))
        if number == running.number:
            self._events.nodes_by_thread.pop(running.thread, None)


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
