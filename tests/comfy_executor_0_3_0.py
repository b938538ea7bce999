"""A stand-in of the shape of the `execution` module of ComfyUI 0.3.0: plain functions, one of which knows a node's id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_executor import DynamicPrompt, Node


def get_output_data(obj: Node, input_data_all: Mapping[str, list[Any]]) -> tuple[list[Any], dict[str, Any], bool]:
    """Run a node."""
    return [obj.function(**{name: values[0] for name, values in input_data_all.items()})], {}, False


def execute(
    server: Any, dynprompt: DynamicPrompt, caches: dict[str, Any], current_item: str, prompt_id: str
) -> tuple[str, BaseException | None]:
    """Run a node, unless its outputs are cached."""
    entry = dynprompt.node(current_item)
    if current_item in caches:
        return ("SUCCESS", None)
    try:
        inputs = {name: [value] for name, value in entry["inputs"].items()}
        caches[current_item], _, _ = get_output_data(Node(entry["function"]), inputs)
    except Exception as ex:  # noqa: BLE001  # as ComfyUI does
        return ("FAILURE", ex)
    return ("SUCCESS", None)


class PromptExecutor:
    """Runs prompts."""

    def __init__(self) -> None:
        self.caches: dict[str, Any] = {}
        self.results: list[tuple[str, str]] = []

    def execute(self, prompt: Mapping[str, Mapping[str, Any]], prompt_id: str) -> None:
        """Run a prompt's nodes in their order."""
        dynprompt = DynamicPrompt(prompt)
        for node in prompt:
            result, error = execute(None, dynprompt, self.caches, node, prompt_id)
            self.results.append((node, result))
            if error is not None:
                return
