"""Who holds an object: each kind of chain, found in this process. The words are tested with the rest."""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.holders.search import Findings, HolderSearch, expected_hold_seconds

pytestmark = pytest.mark.slow
"""Each question goes through all objects of the process that runs the tests."""

KEPT: dict[str, Any] = {}
"""What a test keeps, in a global variable."""


class Pipe:
    """A pipeline, with attributes in a dictionary."""

    def __init__(self) -> None:
        self.unet = nn.Sequential(nn.Linear(4, 4))


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("model",)

    def __init__(self) -> None:
        self.model = nn.Linear(3, 3)


class Settings:
    """A class that holds a model itself."""

    model: nn.Module


class Cyclic(nn.Module):
    """A layer that keeps its own bound method."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.own = self.forward


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    gc.collect()
    yield
    KEPT.clear()


def search(target: Callable[[], Any]) -> Findings:
    """Search in a thread of its own, as the sidecar does."""
    found: list[Findings] = []
    thread = threading.Thread(target=lambda: found.append(HolderSearch(target, lambda: None).run()))
    thread.start()
    thread.join()
    return found[0]


def chains_of(target: Callable[[], Any]) -> list[str]:
    texts = [chain.text for chain in search(target).chains]
    return [text for text in texts if "@py_assert" not in text]  # pytest's own variables


def test_an_attribute_of_a_global() -> None:
    KEPT["pipe"] = Pipe()
    assert chains_of(weakref.ref(KEPT["pipe"].unet)) == [f"global KEPT in {__name__} (test_search.py) → ['pipe'].unet"]


def test_a_part_of_a_model_is_said_as_it_is_written() -> None:
    KEPT["pipe"] = Pipe()
    (chain,) = chains_of(weakref.ref(KEPT["pipe"].unet[0]))
    assert chain.endswith("['pipe'].unet.0")


def test_lists_slots_and_classes() -> None:
    KEPT["many"] = [None, (nn.Linear(2, 2),)]
    assert chains_of(weakref.ref(KEPT["many"][1][0]))[0].endswith("['many'][1][0]")
    KEPT["slotted"] = Slotted()
    assert chains_of(weakref.ref(KEPT["slotted"].model))[0].endswith("['slotted'].model")
    Settings.model = nn.Linear(2, 2)
    assert chains_of(weakref.ref(Settings.model)) == [f"class Settings of {__name__} → .model"]
    del Settings.model


def a_closure(model: nn.Module) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        return model(value)

    return apply


def test_closures_defaults_and_partials() -> None:
    KEPT["f"] = a_closure(nn.Linear(2, 2))
    (chain,) = chains_of(weakref.ref(KEPT["f"].__closure__[0].cell_contents))
    assert "['f'] → closure of a_closure.<locals>.apply() (test_search.py:" in chain
    KEPT.clear()

    def with_default(value: Any, model: nn.Module = nn.Linear(2, 2)) -> Any:  # noqa: B008
        return model(value)

    KEPT["d"] = with_default
    assert with_default.__defaults__ is not None
    target = weakref.ref(with_default.__defaults__[0])
    del with_default
    assert "default argument of " in chains_of(target)[0]
    KEPT.clear()
    KEPT["p"] = functools.partial(print, nn.Linear(2, 2))
    assert chains_of(weakref.ref(KEPT["p"].args[0])) == [
        f"global KEPT in {__name__} (test_search.py) → ['p'] → functools.partial"
    ]


def test_a_hook_says_on_which_module_it_is() -> None:
    KEPT["layer"] = nn.Linear(2, 2)
    held = nn.Linear(3, 3)
    KEPT["layer"].register_forward_hook(lambda _module, _inputs, output: held(output))
    target = weakref.ref(held)
    chains = chains_of(target)
    assert any("['layer'] → forward hook of Linear of torch → closure of " in chain for chain in chains), chains


def a_generator() -> Iterator[int]:
    inner = nn.Linear(2, 2)
    KEPT["target"] = weakref.ref(inner)
    yield 1
    inner(torch.zeros(1, 2))


def test_a_suspended_generator() -> None:
    KEPT["g"] = a_generator()
    next(KEPT["g"])
    (chain,) = chains_of(KEPT["target"])
    assert "['g'] → local variable inner of a_generator(), suspended (test_search.py:" in chain


def test_a_running_function_of_another_thread() -> None:
    ready, over = threading.Event(), threading.Event()

    def generate() -> None:
        m = nn.Linear(2, 2)
        KEPT["target"] = weakref.ref(m)
        ready.set()
        over.wait()
        m.eval()

    thread = threading.Thread(target=generate, name="worker-3")
    thread.start()
    ready.wait()
    found = search(KEPT["target"])
    over.set()
    thread.join()
    (chain,) = [chain.text for chain in found.chains]
    assert chain.startswith("local variable m of generate() (test_search.py:")
    assert chain.endswith("), running in thread worker-3")
    del found
    assert KEPT["target"]() is None, "nothing was kept"


def fails() -> None:
    big = nn.Linear(2, 2)
    KEPT["target"] = weakref.ref(big)
    raise ValueError


def test_the_traceback_of_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        fails()
    except ValueError as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)
    chains = chains_of(KEPT["target"])
    expected = "the last error that nobody caught (sys.last_value) → the traceback of ValueError → local variable big of fails()"
    assert any(chain.startswith(expected) for chain in chains), chains


def test_only_a_cycle_of_its_own() -> None:
    gc.disable()
    try:
        target = weakref.ref(Cyclic())
        found = search(target)
        assert (found.chains, found.is_garbage, found.by_c_code) == ((), True, ())
        KEPT["model"] = target()
        assert not search(target).is_garbage
    finally:
        gc.enable()


def test_what_c_code_holds_is_said_and_is_no_garbage() -> None:
    model = nn.Linear(2, 2)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))
    target = weakref.ref(model)
    del model
    found = search(target)
    assert (found.chains, found.is_garbage, found.by_c_code) == ((), False, ("Linear: 1",))
    held = target()
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(held))


def test_what_is_frozen_may_hold_it() -> None:
    model = nn.Linear(2, 2)
    KEPT["target"] = weakref.ref(model)
    holder = [model]
    del model
    gc.freeze()
    try:
        found = search(KEPT["target"])
    finally:
        gc.unfreeze()
    assert holder
    assert found.hidden_objects > 0
    assert not found.is_garbage


def test_a_dead_model_has_no_holders() -> None:
    target = weakref.ref(nn.Linear(2, 2))
    found = search(target)
    assert (found.chains, found.visited) == ((), 0)


def test_the_host_runs_between_two_questions_and_ends_the_search() -> None:
    class Stopping(BaseException):
        pass

    KEPT["pipe"] = Pipe()
    target = weakref.ref(KEPT["pipe"].unet)
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == 2:
            raise Stopping

    with pytest.raises(Stopping):
        HolderSearch(target, pause).run()
    KEPT.clear()
    assert target() is None, "nothing was kept"


def test_a_search_is_over_when_its_time_is() -> None:
    KEPT["pipe"] = Pipe()
    times = iter(range(100))
    found = HolderSearch(weakref.ref(KEPT["pipe"].unet), lambda: None, clock=lambda: float(next(times))).run()
    assert not found.is_complete


def test_how_long_a_question_takes_is_expected_before() -> None:
    found = search(weakref.ref(nn.Linear(2, 2)))
    assert found.longest_hold_seconds >= 0
    assert 0 < expected_hold_seconds() < 60
