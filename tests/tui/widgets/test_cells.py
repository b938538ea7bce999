"""Cells take exactly the columns that they are given, whatever characters are in them."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gpumodels_tui.widgets.cells import bar, ending, fits, fitted, shortened, text, width_of

WIDE = st.text(alphabet="aé名🚀e\u0301", max_size=40)


@given(WIDE, st.integers(0, 30))
def test_shortened_text_never_takes_more_columns_than_it_may(content: str, width: int) -> None:
    assert cell_len(shortened(content, width)) <= width


@given(st.lists(st.tuples(WIDE, st.sampled_from(["", "muted"])), max_size=4), st.integers(1, 30), st.booleans())
def test_fitted_cells_take_exactly_their_columns(cell: list[tuple[str, str]], width: int, right: bool) -> None:
    assert width_of(fitted(tuple(cell), width, right)) == width


def test_what_terminals_count_differently_is_left_out_of_cells() -> None:
    assert text("❤️ 👍🏽 1️⃣ 模型🚀") == (("❤ 👍 1\u20e3 模型🚀", ""),)


@given(st.floats(0, 2), st.integers(1, 80))
def test_bars_take_exactly_their_columns(share: float, width: int) -> None:
    assert width_of(bar(share, width)) == width


def test_a_bar_shows_something_for_anything_and_nothing_for_nothing() -> None:
    assert bar(0, 4) == (("────", "track"),)
    assert bar(0.0001, 4)[0] == ("╸", "bar")
    assert bar(1, 4) == (("━━━━", "bar"),)


NAMES: Final = [
    *[],
    *[
        "模型名字",
        "한국어 모델",
        "cafe\u0301 n\u0303",
        "שלום עולם",
        "مُحَمَّد",
        "नमस्ते",
        "ไทย",
        "🇩🇪 Modell",
        "👍🏽 ok",
        "❤\ufe0f",
        "ｆｕｌｌ",
    ],
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", range(1, 14))
def test_text_of_any_script_takes_its_columns_from_either_end(name: str, width: int) -> None:
    shown = "".join(content for content, _ in text(name))
    assert cell_len("".join(content for content, _ in fitted(text(name), width))) == width
    for cut in (shortened(shown, width), ending(shown, width)):
        assert cell_len(cut) <= width
        assert (cut == shown) == fits(shown, width)


def test_a_cut_beginning_leaves_no_mark_on_the_ellipsis() -> None:
    assert ending("abcde\u0301f", 2) == "…f"
    assert ending("/srv/models/wan.safetensors", 12) == "…safetensors"
    assert ending("/srv/cafe\u0301/x", 4) == "…e\u0301/x"


def test_flags_become_letters_since_terminals_disagree_on_their_width() -> None:
    assert text("🇩🇪 x") == (("DE x", ""),)


def test_a_text_of_many_marks_is_measured_and_not_estimated() -> None:
    assert fits("e\u0301" * 4, 4)
    assert not fits("e\u0301" * 5, 4)
    assert not fits("模" * 3, 5)
