"""Text from snapshots and model files: made harmless to draw, and unchanged if it was harmless."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumodels_shared.safe_text import MAX_COMBINING, safe_text


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Wan2_2-T2V-A14B-HIGH",
        "[bold]markup[/bold] is not ours to judge",
        "модель-βeta-モデル-模型-نموذج",
        "café naïve e\u0301",
        "हिन्दी ไทย",
        "🔥 fast 👍🏽 ❤️ 🇫🇷",
    ],
)
def test_an_ordinary_name_is_left_as_it_is(name: str) -> None:
    assert safe_text(name) == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("two\nlines\r\tand\0nothing\x7f", "two\\x0alines\\x0d\\x09and\\x00nothing\\x7f"),
        ("next\x85line", "next\\x85line"),
        ("paragraph\u2029separator\u2028", "paragraph\\u2029separator\\u2028"),
        ("model\u202etxt.exe", "model\\u202etxt.exe"),
        ("\u2066isolated\u2069\u200f\u061c", "\\u2066isolated\\u2069\\u200f\\u061c"),
        ("zero\u200bwidth\u200d\ufeff\u2060", "zero\\u200bwidth\\u200d\\ufeff\\u2060"),
        ("soft\u00adhyphen", "soft\\xadhyphen"),
        ("caf\udce9", "caf\\udce9"),
        ("private\ue000\U0010fffd", "private\\ue000\\U0010fffd"),
        ("unassigned\u0378\uffff", "unassigned\\u0378\\uffff"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("selected\ufe01\U000e0100", "selected\\ufe01\\U000e0100"),
        ("filler\u3164\u115f\u2800\u034f", "filler\\u3164\\u115f\\u2800\\u034f"),
    ],
)
def test_characters_that_steer_or_hide_are_made_visible(text: str, shown: str) -> None:
    assert safe_text(text) == shown


@pytest.mark.parametrize("mark", ["\u0301", "\u20dd", "\u0e47", "\ufe0f"])
def test_a_tower_of_combining_marks_is_cut_short(mark: str) -> None:
    assert safe_text("a" + mark * 500 + "b" + mark) == "a" + mark * MAX_COMBINING + "b" + mark


def test_a_mark_without_a_letter_does_not_sit_on_its_left_neighbour() -> None:
    assert safe_text("\u0301\u0301name\u0301") == "name\u0301"


def test_ten_kilobytes_are_cut() -> None:
    assert safe_text("x" * 10_000) == "x" * 999 + "…"
    assert safe_text("x" * 1000) == "x" * 1000
    assert safe_text("longer than that", limit=6) == "longe…"
    assert len(safe_text("\U0010fffd" * 10_000)) == 999 * 10 + 1


@given(st.text())
def test_safe_text_is_printable_and_steers_nothing(text: str) -> None:
    shown = safe_text(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for character in shown)
    assert safe_text(shown, limit=10_000) == shown
