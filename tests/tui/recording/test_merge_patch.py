"""Patches as RFC 7396 has them."""

from __future__ import annotations

from typing import Any

import pytest

from gpumodels_tui.recording.merge_patch import patch_between, patched, without_nulls


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "foo"}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_the_examples_of_the_standard(document: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]) -> None:
    before = repr(document)
    assert patched(document, patch) == result
    assert repr(document) == before


def test_a_patch_makes_the_second_of_the_first_and_says_nothing_of_what_is_equal() -> None:
    before = {"same": {"x": [1]}, "gone": 1, "inner": {"a": 1, "b": {"c": [1]}}, "list": [{"a": 1}]}
    after = {"same": {"x": [1]}, "inner": {"a": 2, "b": {}}, "list": [{"a": 2}], "new": {"d": 1}}
    patch = patch_between(before, after)
    assert patch == {"gone": None, "inner": {"a": 2, "b": {"c": None}}, "list": [{"a": 2}], "new": {"d": 1}}
    assert patched(before, patch) == after
    assert patch_between(after, after) == {}


def test_what_a_patch_leaves_alone_is_the_identical_object() -> None:
    before = {"a": {"x": 1}, "b": {"y": 1}}
    assert patched(before, {"b": {"y": 2}})["a"] is before["a"]


def test_nulls_are_left_out_but_not_from_lists() -> None:
    assert without_nulls({"a": None, "b": {"c": None}, "d": [None, {"e": None}]}) == {"b": {}, "d": [None, {"e": None}]}
