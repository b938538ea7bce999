"""VBARs are asked what is in memory; what fails, is slow or can't be believed isn't asked again for a while."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from dynamic_vram import MIB, PAGE, ModelVBAR
from gpumodels.models.page_residency import PageInquirer, Residency
from gpumodels.support.failures import Failures


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inquirer(clock: Clock) -> PageInquirer:
    return PageInquirer(Failures(), clock)


def test_it_says_which_pages_are_in_memory(inquirer: PageInquirer) -> None:
    vbar = ModelVBAR(4)
    vbar.bring(1, 3, pinned=True)
    assert inquirer.ask(vbar) == Residency(bytes([0, 1, 0, 1]), 2 * PAGE)


@pytest.mark.parametrize(
    ("start", "size", "share"),
    [
        (0, PAGE, 1.0),
        (PAGE, PAGE, 0.0),
        (PAGE // 2, PAGE, 0.5),
        (PAGE - MIB, 4 * MIB, 0.25),
        (2 * PAGE, 8 * PAGE, 0.125),
        (40 * PAGE, PAGE, 0.0),
    ],
)
def test_a_weight_is_in_memory_as_far_as_its_pages_are(start: int, size: int, share: float) -> None:
    assert Residency(bytes([1, 0, 1]), 2 * PAGE).share(start, size, 3 * PAGE) == share


def test_if_only_the_sum_is_known_each_weight_has_the_same_share(inquirer: PageInquirer) -> None:
    class Older:
        def loaded_size(self) -> int:
            return 2 * PAGE

    found = inquirer.ask(Older())
    assert found == Residency(None, 2 * PAGE)
    assert [found.share(0, MIB, used) for used in (MIB, 2 * PAGE, 3 * PAGE + 1)] == [1.0, 1.0, 0.5]


ODD: dict[str, dict[str, Any]] = {
    "raises": {"get_residency": lambda _: 1 // 0},
    "says nothing": {"get_residency": lambda _: None},
    "no flags": {"get_residency": lambda _: ["1"]},
    "too many pages": {"get_nr_pages": lambda _: 1 << 40},
    "negative": {"loaded_size": lambda _: -1},
    "no number": {"loaded_size": lambda _: "all"},
}


@pytest.mark.parametrize("methods", ODD.values(), ids=ODD)
def test_odd_answers_are_counted_once_and_it_is_asked_again_later(methods: dict[str, Any], clock: Clock) -> None:
    failures = Failures()
    inquirer = PageInquirer(failures, clock)
    vbar = type("ModelVBAR", (ModelVBAR,), methods)(4)
    assert [inquirer.ask(vbar) for _ in range(3)] == [None, None, None]
    assert failures.count == 1
    clock.now = 61.0
    assert inquirer.ask(vbar) is None
    assert failures.count == 2
    vbar.__class__ = ModelVBAR
    clock.now = 200.0
    assert inquirer.ask(vbar) is not None


def test_one_that_takes_long_is_asked_less_often(inquirer: PageInquirer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 0.5, 0.0, 0.0])
    monkeypatch.setattr("gpumodels.models.page_residency.time.perf_counter", lambda: next(seconds))
    vbar = ModelVBAR(1)
    empty, full = Residency(b"\x00", 0), Residency(b"\x01", PAGE)
    assert inquirer.ask(vbar) == empty
    vbar.bring(0)
    assert inquirer.ask(vbar) == empty
    clock.now = 21.0
    assert inquirer.ask(vbar) == full


def test_one_that_was_freed_is_never_asked(inquirer: PageInquirer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library would follow a null pointer."""
    vbar = ModelVBAR(4)
    vbar._ptr = None
    assert (inquirer.ask(vbar), vbar.asked) == (Residency(b"", 0), 0)


def test_none_is_asked_once_their_library_has_ended(inquirer: PageInquirer, monkeypatch: pytest.MonkeyPatch) -> None:
    vbar = ModelVBAR(4)
    control: Any = ModuleType("comfy_aimdo.control")
    control.lib = None
    monkeypatch.setitem(sys.modules, "comfy_aimdo.control", control)
    assert (inquirer.ask(vbar), vbar.asked) == (None, 0)


def test_another_object_with_the_same_id_starts_afresh(clock: Clock) -> None:
    inquirer = PageInquirer(Failures(), clock)
    vbar = type("ModelVBAR", (ModelVBAR,), ODD["raises"])(4)
    inquirer.ask(vbar)
    vbar.__class__ = ModelVBAR
    assert inquirer.ask(vbar) is None
    inquirer.forget_all_but(set())
    assert inquirer.ask(vbar) is not None
