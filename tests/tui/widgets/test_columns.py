"""Which columns have room, how wide they become, and what their titles say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpumodels_tui.widgets.cells import text
from gpumodels_tui.widgets.columns import GAP, Column, arrange


def a_column(title: str, least: int, most: int = 0, importance: int = 0, eager: int = 0) -> Column[str]:
    return Column(title, lambda row, _: text(row), least=least, most=most, importance=importance, eager=eager)


def test_the_least_important_column_goes_first_and_the_others_take_its_room() -> None:
    columns = [a_column("a", 10, most=30, importance=9), a_column("b", 10, importance=1), a_column("c", 10, importance=5)]
    assert [place.column.title for place in arrange(columns, 40)] == ["a", "b", "c"]
    narrow = arrange(columns, 25)
    assert [(place.column.title, place.width) for place in narrow] == [("a", 14), ("c", 10)]
    assert [place.width for place in arrange(columns, 6)] == [6]


def test_an_eager_column_grows_before_the_others() -> None:
    columns = [a_column("a", 5, most=50), a_column("b", 5, most=20, eager=15)]
    assert [place.width for place in arrange(columns, 5 + GAP + 13)] == [5, 13]
    assert [place.width for place in arrange(columns, 5 + GAP + 15 + 6)] == [8, 18]
    assert [place.width for place in arrange(columns, 100)] == [50, 20]


def test_a_title_gives_way_to_its_short_form_and_that_to_the_mark_of_the_order() -> None:
    column: Column[str] = Column("off device", lambda row, _: text(row), least=7, short_title="off dev")
    assert column.heading(10) == "off device"
    assert column.heading(9) == "off dev"
    assert column.heading(8, "↓") == "off dev↓"
    assert column.heading(7, "↓") == "off de↓"
    assert a_column("age", 4).heading(2, "↑") == "a↑"


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 40), st.integers(0, 9)), max_size=8), st.integers(0, 150))
def test_columns_never_leave_the_width_they_have(shapes: list[tuple[int, int, int]], width: int) -> None:
    placed_columns = arrange([a_column(str(index), *shape) for index, shape in enumerate(shapes)], width)
    assert all(place.x + place.width <= max(width, 0) for place in placed_columns)
