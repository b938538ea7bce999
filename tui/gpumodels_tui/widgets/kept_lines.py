"""A widget whose lines are kept as they were drawn, and that draws those that differ on the terminal itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from textual.css.query import NoMatches
from textual.errors import NoWidget
from textual.geometry import Offset, Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from gpumodels_tui.theme import STYLES
from gpumodels_tui.tty.direct import writer_of

TOOLTIP: Final = "textual-tooltip"
"""The only widget that Textual draws in front of others on the same screen."""


class KeptLines(Widget):
    """Draws lines that have no border, padding or other effect of a style but the background.

    For any such effect Textual looks through the styles of the widget and of all around it, once for each widget on the screen
    whenever a cell of one differs. A reading that changes each second would cost three times as much.
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._kept: dict[int, tuple[object, Strip]] = {}
        self._kept_for: tuple[object, ...] = ()
        self._kept_layout: object = None
        self._place: Offset | None = None
        """Where the last layout put the widget on the terminal; None if not all of it is seen."""

    def source_of(self, y: int) -> object:
        """What this line is drawn from, besides the size, the theme, and what `layout_key` tells; compared by identity."""
        raise NotImplementedError

    def layout_key(self) -> object:
        """What all lines are drawn from, compared by identity."""
        return None

    def on_background(self, strip: Strip) -> Strip:
        """The strip on the widget's background; the terminal's own needs none."""
        return strip if STYLES.theme.theme.ansi else strip.apply_style(self.rich_style)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of this region; those that are not kept are drawn."""
        strips = self._lines_drawn(crop.line_range)
        if crop.column_span != (0, self.size.width):
            return [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def _lines_drawn(self, lines: Iterable[int]) -> list[Strip]:
        filters = self.get_line_filters()
        theme = STYLES.theme
        kept_for = (self.size, theme, None if theme.theme.ansi else self.rich_style, *filters)
        layout = self.layout_key()
        if kept_for != self._kept_for or layout is not self._kept_layout:
            self._kept_for, self._kept_layout = kept_for, layout
            self._kept.clear()
        strips: list[Strip] = []
        for y in lines:
            source = self.source_of(y)
            kept = self._kept.get(y)
            if kept is None or kept[0] is not source:
                strip = self.render_line(y)
                for one in filters:
                    strip = strip.apply_filter(one, self.background_colors[1])
                kept = self._kept[y] = source, strip
            strips.append(kept[1])
        return strips

    def repaint(self, regions: Sequence[Region]) -> None:
        """Draw these parts of single lines on the terminal, or let Textual do it if something may be in front of them."""
        if not regions:
            return
        write = writer_of(self.app)
        offset = None if write is None else self._place_in_front()
        if write is not None and offset is not None and write(self._drawing(regions, offset)):
            return
        for region in regions:
            self.refresh(region)

    def _drawing(self, regions: Sequence[Region], offset: Offset) -> str:
        console, cursor = self.app.console, self.app.cursor_position
        lines = self._lines_drawn([region.y for region in regions])
        drawing = [
            f"\x1b[{offset.y + region.y + 1};{offset.x + region.x + 1}H{line.crop(*region.column_span).render(console)}"
            for region, line in zip(regions, lines, strict=True)
        ]
        return "".join((*drawing, f"\x1b[{cursor.y + 1};{cursor.x + 1}H"))

    def on_mount(self) -> None:
        """From now on note where each layout puts the widget."""
        self.screen.screen_layout_refresh_signal.subscribe(self, self._laid_out, immediate=True)

    def _laid_out(self, screen: Screen[object]) -> None:
        """Note the place, if all of the widget is seen.

        Right behind a layout the terminal shows this place; at other times Textual may know the next one already.
        """
        self._place = None
        try:
            geometry = screen.find_widget(self)
        except NoWidget:
            return
        if geometry.region == geometry.visible_region and geometry.region.size == self.size:
            self._place = geometry.region.offset

    def _place_in_front(self) -> Offset | None:
        """Where the widget is on the terminal, if nothing can be in front of it."""
        screen = self.screen
        if self._place is None or not screen.is_active:
            return None
        try:
            if screen.get_child_by_id(TOOLTIP).display:
                return None
        except NoMatches:
            pass
        return self._place
