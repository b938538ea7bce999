"""How one object holds another, in words; none of their code runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from torch import nn

from gpumodels.holders.descriptions import MAX_TEXT, class_in_words, described_path, is_noise, shortened
from gpumodels.support.weak_table import WeakTable


class Hostile:
    """Whose code must not run."""

    def __init__(self, held: Any) -> None:
        object.__setattr__(self, "held", held)

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(name)

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        raise AssertionError

    def __repr__(self) -> str:
        raise AssertionError


def text(*path: Any) -> str:
    return "".join(step.text for step in described_path(path))


def test_foreign_code_does_not_run() -> None:
    model = nn.Linear(2, 2)
    assert text(Hostile(model), model) == ".held"
    hostile = Hostile(model)
    assert text([1, hostile], hostile) == "[1]"
    key = ("a", "b")
    assert text({"x": 1, key: hostile}, hostile) == "[tuple]"


@pytest.mark.parametrize("kind", [set, frozenset])
def test_an_element_of_a_set(kind: Any) -> None:
    model = nn.Linear(2, 2)
    assert text(kind([model]), model) == " → an element of a set"


class Entry(NamedTuple):
    """With the names of ComfyUI's."""

    ui: Any
    outputs: Any


class Plain(tuple[Any, ...]):
    """Without names."""

    __slots__ = ()


def test_a_named_tuple_is_said_by_its_field() -> None:
    model = nn.Linear(2, 2)
    assert text(Entry({}, model), model) == ".outputs"
    assert text(Plain([1, model]), model) == "[1]"


def test_a_bound_method_and_an_exception() -> None:
    model = nn.Linear(2, 2)
    assert text(model.forward, model) == " → method Linear.forward"
    assert text(nn.Parameter, model) == "", "a class is said by its start"


def test_a_long_name_is_cut() -> None:
    assert len(shortened("x" * 1000)) == MAX_TEXT
    assert len(class_in_words(type("C" * 1000, (), {}))) < 2 * MAX_TEXT


def test_weak_references_hold_nothing() -> None:
    model = nn.Linear(2, 2)
    table: WeakTable[int] = WeakTable()
    assert is_noise(table.put(model, 1), model)
    assert not is_noise([model], model)
