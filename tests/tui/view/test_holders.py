"""Who holds a model, in lines."""

from __future__ import annotations

import pytest

from gpumodels_tui.sources.asking import Chain, Found
from gpumodels_tui.view.holders import cost_of, in_milliseconds, lines_of


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (Found(chains=(Chain("global pipe in __main__.unet"),)), ["global pipe in __main__.unet"]),
        (Found(is_garbage=True), ["only a reference cycle: Python's garbage collector will free it"]),
        (
            Found(by_c_code=("Linear: 1",)),
            ["held by C code, which doesn't tell what it holds (references by object: Linear: 1)"],
        ),
        (
            Found(hidden_objects=2_000_000),
            ["gc.freeze() has hidden 2.0 M objects from the search: any of them may hold it, and so may what they hold"],
        ),
        (Found(), ["nothing holds it any more"]),
        (
            Found(chains=(Chain("x"),), is_complete=False, hidden_objects=3),
            ["x", "the search ended at its limits: there may be more"],
        ),
    ],
)
def test_each_outcome_is_said(found: Found, lines: list[str]) -> None:
    assert lines_of(found) == lines


def test_what_it_cost_is_said() -> None:
    found = Found(visited=12, seconds=0.34, longest_hold_seconds=0.0251)
    assert cost_of(found) == "searched 12 objects in 0.3 s; the interpreter was held for 25 ms at most"
    assert (in_milliseconds(0.0251), in_milliseconds(0.0)) == ("about 25 ms", "about 1 ms")


def test_nothing_hostile_is_drawn() -> None:
    (line,) = lines_of(Found(chains=(Chain("global \x1b]0;x\x07\u202e"),)))
    assert not {"\x1b", "\x07", "\u202e"} & set(line)
