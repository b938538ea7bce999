"""Cells take exactly the columns that they are given, whatever characters are in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gpumodels_tui.widgets.cells import bar, fitted, shortened, text, width_of

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
