"""Stand-ins of the shape of ComfyUI's `execution` module: today's, whose functions are coroutines, and that of version 0.3.0.

Loaded by tests under ComfyUI's name for it: `loaded_as_execution`. Nodes are plain functions of their inputs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


class DynamicPrompt:
    """A prompt's nodes, and those of subgraphs that were expanded while it ran."""

    def __init__(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self.original_prompt = {node: {**entry} for node, entry in nodes.items()}
        self.ephemeral_prompt: dict[str, dict[str, Any]] = {}

    def node(self, node: str) -> dict[str, Any]:
        """The node of this id."""
        return self.ephemeral_prompt.get(node) or self.original_prompt[node]


class Node:
    """What runs a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


async def get_output_data(
    prompt_id: str, unique_id: str, obj: Node, input_data_all: Mapping[str, list[Any]], v3_data: Any = None
) -> tuple[list[Any], dict[str, Any], bool, bool]:
    """Run a node. The last two results: whether it expands to a subgraph, and whether it goes on in a task."""
    result = obj.function(**{name: values[0] for name, values in input_data_all.items()})
    if inspect.iscoroutine(result):
        task = asyncio.create_task(result)
        await asyncio.sleep(0)
        if not task.done():
            return [task], {}, False, True
        result = task.result()
    return [result], {}, type(result) is dict and "expand" in result, False


async def execute(
    server: Any,
    dynprompt: DynamicPrompt,
    caches: dict[str, Any],
    current_item: str,
    prompt_id: str,
    pending_subgraph_results: dict[str, Any],
    pending_async_nodes: dict[str, Any],
) -> tuple[str, BaseException | None]:
    """Run a node, unless its outputs are cached."""
    unique_id = current_item
    entry = dynprompt.node(unique_id)
    if unique_id in caches:
        return ("SUCCESS", None)
    try:
        if unique_id in pending_async_nodes:
            output = [task.result() for task in pending_async_nodes.pop(unique_id)]
            has_subgraph = False
        elif unique_id in pending_subgraph_results:
            output, has_subgraph = pending_subgraph_results.pop(unique_id), False
        else:
            inputs = {name: [value] for name, value in entry["inputs"].items()}
            output, _, has_subgraph, has_tasks = await get_output_data(prompt_id, unique_id, Node(entry["function"]), inputs)
            if has_tasks:
                pending_async_nodes[unique_id] = output
                return ("PENDING", None)
        if has_subgraph:
            dynprompt.ephemeral_prompt.update(output[0]["expand"])
            pending_subgraph_results[unique_id] = output
            return ("PENDING", None)
        caches[unique_id] = output
    except Exception as ex:  # noqa: BLE001  # as ComfyUI does
        return ("FAILURE", ex)
    return ("SUCCESS", None)


class PromptExecutor:
    """Runs prompts."""

    def __init__(self) -> None:
        self.caches: dict[str, Any] = {}
        self.results: list[tuple[str, str]] = []

    def execute(self, prompt: Mapping[str, Mapping[str, Any]], prompt_id: str) -> None:
        """Run a prompt."""
        asyncio.run(self.execute_async(prompt, prompt_id))

    async def execute_async(self, prompt: Mapping[str, Mapping[str, Any]], prompt_id: str) -> None:
        """Run a prompt: its nodes in their order, then those that expanded or go on again, until it is done or fails."""
        dynprompt = DynamicPrompt(prompt)
        subgraphs: dict[str, Any] = {}
        tasks: dict[str, Any] = {}
        waiting = list(prompt)
        while waiting:
            node = waiting.pop(0)
            for task in tasks.get(node, ()):
                await asyncio.wait([task])
            result, error = await execute(None, dynprompt, self.caches, node, prompt_id, subgraphs, tasks)
            self.results.append((node, result))
            if error is not None:
                return
            if result == "PENDING":
                waiting += [*(one for one in dynprompt.ephemeral_prompt if one not in self.caches), node]


def loaded_as_execution(name: str = __file__) -> ModuleType:
    """A new copy of this module, called `execution`, with the source that observing needs on Python 3.11.

    `sys.modules` knows nothing of it.
    """
    spec = importlib.util.spec_from_file_location("execution", name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
