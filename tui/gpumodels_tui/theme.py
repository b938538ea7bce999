"""How the screens look: the terminal's own sixteen colours, so that light and dark come by themselves and updates stay short.

A role says what text is; a style says how it is drawn. Nothing is told by colour alone: monochrome shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.theme import Theme

THEME: Final = Theme(
    name="terminal",
    ansi=True,
    primary="ansi_cyan",
    secondary="ansi_blue",
    accent="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    variables={
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "footer-key-foreground": "ansi_cyan",
        "border": "ansi_cyan",
        "scrollbar": "ansi_bright_black",
        "scrollbar-hover": "ansi_white",
        "scrollbar-active": "ansi_white",
        "scrollbar-background": "ansi_default",
        "scrollbar-background-hover": "ansi_default",
        "scrollbar-background-active": "ansi_default",
        "scrollbar-corner-color": "ansi_default",
    },
)

PLAIN: Final = ""
STRONG: Final = "strong"
MUTED: Final = "muted"
HEADING: Final = "heading"
ACCENT: Final = "accent"
BAR: Final = "bar"
TRACK: Final = "track"
OFF: Final = "off"
"""Bytes that are not on the device."""
WARNING: Final = "warning"

STYLES: Final[Mapping[str, Style]] = {
    PLAIN: Style(),
    STRONG: Style(bold=True),
    MUTED: Style(dim=True),
    HEADING: Style(color="cyan", bold=True),
    ACCENT: Style(color="cyan"),
    BAR: Style(color="green"),
    TRACK: Style(color="bright_black"),
    OFF: Style(color="yellow"),
    WARNING: Style(color="yellow", bold=True),
}
"""By role."""

CURSOR: Final = Style(reverse=True)
"""The line under the cursor, whole."""

CHOSEN: Final = Style(bold=True)
"""The chosen line of a list that has no cursor."""

PICTURE_COLOURS: Final = TerminalTheme(
    (41, 41, 41),
    (197, 200, 198),
    [
        (27, 31, 41),
        (240, 113, 120),
        (152, 195, 121),
        (229, 192, 123),
        (97, 175, 239),
        (198, 120, 221),
        (86, 182, 194),
        (171, 178, 191),
    ],
    [
        (84, 92, 108),
        (255, 135, 142),
        (181, 222, 151),
        (248, 213, 148),
        (135, 199, 255),
        (218, 150, 240),
        (116, 211, 222),
        (240, 243, 248),
    ],
)
"""What the sixteen colours are in exported pictures, where there is no terminal to ask. The ground is Rich's, in its SVG."""
