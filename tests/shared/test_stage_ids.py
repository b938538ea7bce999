from __future__ import annotations

import pytest

from gpumodels_shared.stage_ids import is_within, shown_id


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("#7.2", "#7", True),
        ("#7.2.1", "#7", True),
        ("#71", "#7", False),
        ("#7", "#7", False),
        ("#7", "#7.2", False),
        ("12#3", "12", True),
        ("12#3.1", "12#3", True),
        ("112#3", "12", False),
        ("12.1", "12", False),  # two nodes
        ("#1", "", False),
    ],
)
def test_an_id_says_what_a_stage_is_in(inner: str, outer: str, expected: bool) -> None:
    assert is_within(inner, outer) is expected


def test_people_are_shown_the_ids_of_nodes_only() -> None:
    assert (shown_id("12"), shown_id("#7.2"), shown_id("")) == ("12", "", "")
