"""Lines that a table draws on the terminal itself, and when it leaves them to Textual."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.widgets import Static

from gpumodels_tui.theme import THEMES, use_theme
from gpumodels_tui.tty.direct import offer
from gpumodels_tui.widgets.cells import text
from gpumodels_tui.widgets.columns import Column
from gpumodels_tui.widgets.line_table import LineTable

SIZE: Final = (40, 12)
Row = tuple[str, int]


class Words(LineTable[Row]):
    """A key and a number."""

    def __init__(self) -> None:
        columns = [
            Column[Row]("word", lambda row, _: text(row[0]), least=10, most=30),
            Column[Row]("size", lambda row, _: text(str(row[1])), least=6, right=True),
        ]
        super().__init__(columns)
        self.left_to_textual: list[Region] = []

    def key_of(self, row: Row) -> Hashable:
        return row[0]

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Words:
        self.left_to_textual += regions
        super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self


class TableApp(App[None]):
    CSS = "Words { height: 6; } #above { height: 2; }"

    def __init__(self) -> None:
        super().__init__()
        self.table = Words()
        self.written: list[str] = []
        self.accepts = True

    def compose(self) -> ComposeResult:
        yield Static("above", id="above")
        yield self.table

    def on_mount(self) -> None:
        offer(self, self.write)

    def write(self, drawing: str) -> bool:
        if self.accepts:
            self.written.append(drawing)
        return self.accepts

    def change(self, *numbers: int) -> list[Region]:
        """Show rows with these numbers. Returns what is left to Textual."""
        self.written.clear()
        self.table.left_to_textual.clear()
        self.table.show(rows(*numbers))
        return list(self.table.left_to_textual)


def rows(*numbers: int) -> Sequence[Row]:
    return [(f"row-{position}", number) for position, number in enumerate(numbers)]


async def test_a_changed_cell_is_drawn_where_it_is_and_nothing_is_left_to_textual() -> None:
    app = TableApp()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.change(1, 2, 3)
        await pilot.pause()
        assert app.change(1, 77, 3) == []
        (drawing,) = app.written
        # Two lines are above the table, and one is its heading; the cursor goes back to where Textual left it.
        cell = app.table.placed_columns[1]
        assert drawing.startswith(f"\x1b[5;{cell.x + 1}H")
        assert Text.from_ansi(drawing).plain.strip() == "77"
        assert drawing.endswith("\x1b[1;1H")


async def test_what_is_drawn_is_what_textual_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    app = TableApp()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        for name in THEMES:
            monkeypatch.setattr("gpumodels_tui.theme.STYLES.theme", THEMES[name])
            app.change(*range(9))
            app.change(*(number * 1000 for number in range(9)))
            regions = [Region(0, y, app.table.size.width, 1) for y in range(app.table.size.height)]
            lines = app.table.render_lines(Region(0, 0, *app.table.size))
            for region, line in zip(regions, lines, strict=True):
                assert app.table.render_lines(region) == [line]
                part = Region(3, region.y, 20, 1)
                assert app.table.render_lines(part) == [line.crop(3, 23)]
        use_theme("terminal")


async def test_what_may_be_behind_something_is_left_to_textual() -> None:
    app = TableApp()
    async with app.run_test(size=SIZE, tooltips=True) as pilot:
        await pilot.pause()
        app.change(1, 2, 3)
        await pilot.pause()
        app.accepts = False  # the terminal shows something unknown
        assert len(app.change(1, 2, 4)) == 1
        app.accepts = True
        assert app.change(1, 2, 5) == []

        await app.push_screen(ModalScreen())
        assert len(app.change(1, 2, 6)) == 1
        assert app.written == []
        app.pop_screen()
        await pilot.pause()
        assert app.change(1, 2, 7) == []

        tooltip = app.screen.get_child_by_id("textual-tooltip")
        tooltip.display = True
        assert len(app.change(1, 2, 8)) == 1
        tooltip.display = False
        assert app.change(1, 2, 9) == []

        app.query_one("#above").styles.height = 9  # so that the table ends below the screen
        await pilot.pause()
        assert len(app.change(1, 2, 10)) == 1
        assert app.written == []


async def test_lines_are_drawn_again_in_another_theme_or_size() -> None:
    app = TableApp()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.change(1, 2, 3)
        everything = Region(0, 0, *app.table.size)
        before = app.table.render_lines(everything)
        assert all(old is new for old, new in zip(before, app.table.render_lines(everything), strict=True))
        use_theme("dark")
        try:
            assert app.table.render_lines(everything) != before
        finally:
            use_theme("terminal")
        assert app.table.render_lines(everything) == before
        await pilot.resize_terminal(30, 12)
        await pilot.pause()
        assert {line.cell_length for line in app.table.render_lines(Region(0, 0, *app.table.size))} == {30}


async def test_cells_are_drawn_where_the_last_layout_put_the_table() -> None:
    app = TableApp()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        app.change(1, 2, 3)
        await pilot.pause()
        app.query_one("#above").styles.height = 3
        assert app.change(1, 2, 4) == []
        assert "\x1b[6;" in app.written[0], "where the terminal still shows it"
        await pilot.pause()
        assert app.change(1, 2, 5) == []
        assert "\x1b[7;" in app.written[0]
