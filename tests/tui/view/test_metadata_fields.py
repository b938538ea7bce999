"""Tests of how values are written in people's terms; which keys they come from is told in `test_enrichment`."""

from __future__ import annotations

from collections import Counter

import pytest

from gpumodels_tui.view.metadata_fields import ABSENT, FIELDS

WRITTEN = {label: write for label, _, write in FIELDS}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1024x1024", "1024×1024"),
        ("768X1344", "768×1344"),
        ("(768, 1344)", "768×1344"),
        ("[512,768]", "512×768"),
        ("1024", "1024×1024"),
        ("", ""),
        ("up to 4k", "up to 4k"),
        ("16, 512, 512", "16, 512, 512"),
        ("()", "()"),
    ],
)
def test_a_resolution_is_two_numbers_or_stands_as_it_is(value: str, shown: str) -> None:
    assert WRITTEN["resolution"](value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2026-05-28T20:26:40", "2026-05-28"),
        ("2026-05-28", "2026-05-28"),
        ("1780000000.25", "2026-05-28"),
        ("0", "1970-01-01"),
        ("28.5.2026", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e300", None),
        ("9" * 5_000, None),
    ],
)
def test_a_date_is_a_day_whatever_the_tool_wrote_or_nothing(value: str, shown: str | None) -> None:
    assert WRITTEN["date"](value) == shown


def test_a_hash_has_no_prefix() -> None:
    assert [WRITTEN["hash"](value) for value in ("0xabcdef", "abcdef")] == ["abcdef", "abcdef"]


def test_all_other_fields_stand_as_they_are() -> None:
    plain = WRITTEN.keys() - {"resolution", "date", "hash"}
    assert {WRITTEN[label](" 0x1024x1024 ") for label in plain} == {" 0x1024x1024 "}


def test_each_key_says_one_thing_and_each_thing_stands_once() -> None:
    counted = Counter(key for _, keys, _ in FIELDS for key in keys)
    assert [key for key, count in counted.items() if count > 1] == []
    assert len(WRITTEN) == len(FIELDS)


def test_words_that_say_nothing_are_lower_case_as_they_are_compared() -> None:
    assert {word.lower().strip() for word in ABSENT} == ABSENT
