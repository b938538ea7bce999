"""Hosts that execute workflows as ComfyUI does: coroutines and plain functions that run nodes, fail and are interrupted."""

from __future__ import annotations

import asyncio
import gc
import importlib
import shutil
import sys
import traceback
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn

from comfy_executor import __file__ as today
from host_unchanged.observing import bits, function_facts, outcome, plain, scanned
from host_unchanged.table import program

FUNCTIONS = ("get_output_data", "execute", "PromptExecutor.execute")


def _imported(file: str) -> Any:
    """The stand-in for ComfyUI's module, imported by ComfyUI's name for it."""
    shutil.copy(file, "execution.py")
    sys.path.insert(0, str(Path.cwd()))
    sys.modules.pop("execution", None)
    importlib.invalidate_caches()
    try:
        return importlib.import_module("execution")
    finally:
        sys.path.remove(str(Path.cwd()))


def _facts(module: Any) -> Any:
    found = []
    for path in FUNCTIONS:
        function: Any = module
        for name in path.split("."):
            function = getattr(function, name)
        found.append([function_facts(function), asyncio.iscoroutinefunction(function)])
    return found


class _Held:
    """What a node is given."""


def _loads(model_path: str, held: object) -> list[float]:
    torch.manual_seed(1)
    model = nn.Linear(4, 4)
    values: list[float] = model(torch.ones(1, 4)).flatten().tolist()
    return values


def _fails(held: object, **_inputs: object) -> None:
    raise RuntimeError("a node failed")


async def _waits(held: object) -> int:
    await asyncio.sleep(0.001)
    return 1


def _a_prompt(module: Any, *functions: Any) -> Any:
    held = _Held()
    ref = weakref.ref(held)
    executor = module.PromptExecutor()
    inputs: dict[str, object] = {"held": held}
    prompt = {
        str(number): {
            "class_type": "Loader",
            "function": function,
            "inputs": inputs | ({"model_path": "one.safetensors"} if function is _loads else {}),
        }
        for number, function in enumerate(functions)
    }
    gc.collect()
    gc.disable()
    try:
        outcomes = [outcome(executor.execute, prompt, "prompt"), outcome(executor.execute, prompt, "prompt")]
        found = [outcomes, executor.results, bits([executor.caches.get("0")])]
        del held, prompt, executor, outcomes
        inputs.clear()
        return [*found, ref() is None]
    finally:
        gc.enable()


@program
def nodes_of_comfyui() -> Any:
    module = _imported(today)
    results = [_a_prompt(module, *functions) for functions in ([_loads], [_fails], [_waits, _waits], [_waits, _fails])]
    scanned()
    return [results, _facts(module)]


@program
def nodes_of_comfyui_0_3_0() -> Any:
    module = _imported(str(Path(today).with_name("comfy_executor_0_3_0.py")))
    results = [_a_prompt(module, *functions) for functions in ([_loads], [_fails])]
    scanned()
    return [results, _facts(module)]


@program
def tracebacks_of_nodes() -> Any:
    module = _imported(today)

    def fails(**_inputs: object) -> None:
        raise KeyboardInterrupt

    try:
        module.PromptExecutor().execute({"1": {"class_type": "Loader", "function": fails, "inputs": {}}}, "prompt")
    except KeyboardInterrupt:
        return plain(traceback.format_exc())
    return "not interrupted"
