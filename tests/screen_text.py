"""What a screen shows, as plain lines; and pictures of it to compare with, kept as text and as SVG."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Final

from rich.cells import cell_len

from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.widgets.cells import Cell

EXPECTED: Final = Path(__file__).parent / "tui" / "expected_screens"
UPDATE: Final = "UPDATE_SCREENS"
"""Set this in the environment to write what is shown as what is expected; then read the difference."""

_COLUMN: Final = 12.2
_LINE: Final = 24.4
_PAINTED: Final = re.compile(r'<rect fill="([^"]*)" x="[\d.]+" y="([\d.]+)" width="([\d.]+)" height="[\d.]+" shape-rendering')
_STYLE: Final = re.compile(r"\.terminal-[^ ]*-(r\d+) \{([^}]*)\}")
_STYLED: Final = re.compile(r'<text class="terminal-[^"]*-(r\d+)" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')
_TEXT: Final = re.compile(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>')


def lines_shown(app: GpuModelsApp) -> list[str]:
    """The screen's lines, without blanks at their ends. Wide characters take two columns, as they do on a terminal."""
    width, height = app.size
    lines = [""] * height
    svg = app.export_screenshot(title="")
    for x, y, content in _TEXT.findall(svg[svg.index("-matrix") :]):
        line = int((float(y) - 1) // _LINE)
        if line < height:
            shown = lines[line]
            lines[line] = (
                shown + " " * (round(float(x) / _COLUMN) - _columns(shown)) + html.unescape(content).replace("\xa0", " ")
            )
    assert all(_columns(line) <= width for line in lines)
    return [line.rstrip() for line in lines]


def shown(app: GpuModelsApp) -> str:
    """All of it, to look for words in."""
    return "\n".join(lines_shown(app))


def words(cell: Cell) -> str:
    """What a cell of a table says, in whatever roles."""
    return "".join(content for content, _ in cell)


def painted_columns(app: GpuModelsApp) -> list[int]:
    """How many columns of each line have a ground of their own, instead of the terminal's."""
    columns = [0] * app.size.height
    for _, y, width in _PAINTED.findall(app.export_screenshot(title="")):
        columns[round((float(y) - 1.5) / _LINE)] += round(float(width) / _COLUMN)
    return columns


def grounds(app: GpuModelsApp) -> set[str]:
    """The colours that anything is drawn on, `#1b1f26`."""
    return {colour for colour, _, _ in _PAINTED.findall(app.export_screenshot(title=""))}


def assert_looks_like(app: GpuModelsApp, name: str, *, drawn: bool = True) -> None:
    """Compare with the expected screen of this name: what it says, then, if `drawn`, how."""
    text, picture = EXPECTED / f"{name}.txt", EXPECTED / f"{name}.svg"
    actual, svg = shown(app) + "\n", app.export_screenshot(title=name)
    if os.environ.get(UPDATE):
        EXPECTED.mkdir(exist_ok=True)
        text.write_text(actual, encoding="utf-8")
        if drawn:
            picture.write_text(svg, encoding="utf-8")
    assert actual == text.read_text(encoding="utf-8")
    if drawn:
        assert _drawn(svg) == _drawn(picture.read_text(encoding="utf-8"))


def _drawn(svg: str) -> list[tuple[str, ...]]:
    """The painted grounds, and each piece of text with its place and its style: the rest is rich's frame around it."""
    styles = dict(_STYLE.findall(svg))
    matrix = svg[svg.index("-matrix") :]
    pieces = [(styles[style], x, y, content) for style, x, y, content in _STYLED.findall(matrix)]
    return [*_PAINTED.findall(svg), *pieces]


def _columns(text: str) -> int:
    return cell_len(text)
