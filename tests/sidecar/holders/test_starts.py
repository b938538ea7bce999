"""What chains begin with."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import nn

from gpumodels.holders.starts import Starts


def a_module(monkeypatch: pytest.MonkeyPatch, name: str, **variables: Any) -> dict[str, Any]:
    module = ModuleType(name)
    vars(module).update(variables)
    monkeypatch.setitem(sys.modules, name, module)
    return vars(module)


def text_of(holder: Any, *path: Any) -> str:
    start = Starts().of(holder, path)
    assert start is not None
    return start[0].text


def test_a_global_with_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    namespace = a_module(monkeypatch, "an_app", pipe=model, __file__="/srv/app.py")
    assert text_of(namespace, model) == "global pipe in an_app (app.py)"
    start = Starts().of(namespace, [model])
    assert start is not None
    assert start[0].variable == ("/srv/app.py", "pipe")


@pytest.mark.parametrize(("name", "text"), [("_12", "IPython Out[12]"), ("__", "IPython's last outputs (__)")])
def test_what_ipython_keeps(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    model = nn.Linear(2, 2)
    outputs = {3: model}
    namespace = a_module(monkeypatch, "__main__", In=[], Out=outputs, **{name: model})
    assert text_of(namespace, model) == text
    start = Starts().of(namespace, [outputs, model])
    assert start is not None
    assert (start[0].text, start[1]) == ("IPython Out[3]", 2)


def test_the_interpreters_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(2, 2)
    monkeypatch.setattr(sys, "last_value", model, raising=False)
    assert text_of(vars(sys), model) == "the last error that nobody caught (sys.last_value)"
    monkeypatch.setattr("builtins._", model, raising=False)
    assert text_of(vars(sys.modules["builtins"]), model) == "the last value of the interactive interpreter (_)"


def test_a_thread_that_runs() -> None:
    thread = threading.current_thread()
    assert text_of(thread, {}) == f"thread {thread.name}, running"
    assert Starts().of(threading.Thread(name="not started"), [{}]) is None


class HierarchicalCache:
    """With the attributes of ComfyUI's."""

    __module__ = "comfy_execution.caching"

    def __init__(self) -> None:
        self.model = nn.Linear(2, 2)
        self.entry = [self.model]
        key = frozenset({"CheckpointLoaderSimple", 7})
        self.cache = {frozenset({"other"}): [], key: self.entry}
        self.cache_key_set: Any = SimpleNamespace(keys={"9": frozenset({"other"}), "4": frozenset({7, "CheckpointLoaderSimple"})})
        self.dynprompt: Any = SimpleNamespace(
            original_prompt={"4": {"class_type": "CheckpointLoaderSimple"}}, ephemeral_prompt={}
        )


def test_comfyuis_cache_says_which_node_it_keeps() -> None:
    cache = HierarchicalCache()
    path = [vars(cache), cache.cache, cache.entry, cache.model]
    start = Starts().of(cache, path)
    assert start is not None
    assert (start[0].text, start[1]) == ("ComfyUI's execution cache: output of node 4 CheckpointLoaderSimple", 3)
    assert Starts().of(cache, path[1:]) == (start[0], 2), "from Python 3.11 on, attributes are in the object itself"


@pytest.mark.parametrize("missing", ["cache_key_set", "dynprompt", "cache"])
def test_another_version_of_comfyui_loses_a_detail_and_not_the_chain(missing: str) -> None:
    cache = HierarchicalCache()
    path = [vars(cache), cache.cache, cache.entry, cache.model]
    setattr(cache, missing, None)
    assert text_of(cache, *path).startswith("ComfyUI's execution cache")


def test_a_node_says_its_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    a_module(monkeypatch, "nodes_of_a_pack", __file__="/comfy/custom_nodes/ComfyUI-WanVideoWrapper/nodes.py")
    node = type(
        "WanVideoModelLoader",
        (),
        {"__module__": "nodes_of_a_pack", "RETURN_TYPES": ("MODEL",), "FUNCTION": "load", "__slots__": ()},
    )()
    assert text_of(node, nn.Linear(2, 2)) == "WanVideoModelLoader (node pack ComfyUI-WanVideoWrapper)"


def test_what_goes_on_behind_is_no_start() -> None:
    assert Starts().of([1], [1]) is None
    assert Starts().of(nn.Linear(2, 2), [{}]) is None
