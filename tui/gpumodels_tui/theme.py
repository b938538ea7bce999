"""The themes of the screens. Text has a role; a theme (`ScreenTheme`) gives each role a style, and one theme at a time is in use.

The default is the terminal's own sixteen colours, so that it fits both light and dark terminals and updates stay short. No
information is shown by colour alone: monochrome shows the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rich.style import Style
from rich.terminal_theme import TerminalTheme
from textual.theme import Theme

from gpumodels_shared.records import Record

PLAIN: Final = ""
STRONG: Final = "strong"
MUTED: Final = "muted"
HEADING: Final = "heading"
ACCENT: Final = "accent"
BAR: Final = "bar"
TRACK: Final = "track"
OFF: Final = "off"
"""Bytes that are not on the device."""
OFF_FILL: Final = "off fill"
"""The same as a filled bar with text on it."""
WARNING: Final = "warning"
FIRST: Final = "first"
SECOND: Final = "second"
THIRD: Final = "third"
OTHERS: Final = "others"
"""The models in a bar: the three largest, and all others."""
TRAINING: Final = "training"
CACHES: Final = "caches"
REST: Final = "rest"
"""Memory that belongs to no model, training state or cache."""

CURSOR: Final = Style(reverse=True)
"""The line under the cursor, in its full width."""

CHOSEN: Final = Style(bold=True)
"""The chosen line of a list without a cursor."""


class ScreenTheme(Record):
    """A theme: Textual's colours, and the styles of our roles."""

    theme: Theme
    styles: Mapping[str, Style]
    description: str
    """Its description in the palette."""


def _theme(
    name: str,
    description: str,
    colours: Mapping[str, str],
    *,
    ground: str = "",
    text: str = "",
    dark: bool = True,
    bold: bool = False,
) -> ScreenTheme:
    """Make a theme from its colours by name: `accent` (headings and keys), `bar`, `warning`, `muted`, and the parts of bars.

    Without a `ground` it uses the terminal's background and ANSI colours.
    """
    ansi = not ground

    def named(colour: str) -> str:
        return f"ansi_{colour}" if ansi else colour

    ground_colour, text_colour = (named("default"), named("default")) if ansi else (ground, text)
    accent, muted = named(colours["accent"]), named(colours["muted"])
    theme = Theme(
        name=name,
        ansi=ansi,
        primary=accent,
        secondary=named(colours[THIRD]),
        accent=accent,
        warning=named(colours["warning"]),
        error=named(colours["error"]),
        success=named(colours["bar"]),
        foreground=text_colour,
        background=ground_colour,
        surface=ground_colour,
        panel=ground_colour,
        boost=ground_colour,
        dark=dark,
        variables={
            "footer-background": ground_colour,
            "footer-foreground": text_colour,
            "footer-key-foreground": accent,
            "footer-description-foreground": text_colour,
            "border": accent,
            "scrollbar": muted,
            "scrollbar-hover": accent,
            "scrollbar-active": accent,
            "scrollbar-background": ground_colour,
            "scrollbar-background-hover": ground_colour,
            "scrollbar-background-active": ground_colour,
            "scrollbar-corner-color": ground_colour,
            "input-cursor-background": text_colour,
            "input-cursor-foreground": ground_colour,
        }
        | ({"ansi-background": ground_colour, "ansi-foreground": text_colour} if ansi else {}),
    )
    faint = Style(dim=True) if ansi else Style(color=colours["muted"])
    styles = {
        PLAIN: Style(bold=True) if bold else Style(),
        STRONG: Style(bold=True),
        MUTED: faint,
        HEADING: Style(color=colours["accent"], bold=True),
        ACCENT: Style(color=colours["accent"]),
        BAR: Style(color=colours["bar"]),
        TRACK: Style(color=colours["muted"]),
        OFF: Style(color=colours["off"]),
        OFF_FILL: Style(color=colours["off"], reverse=True),
        WARNING: Style(color=colours["warning"], bold=True),
        **{role: Style(color=colours[role]) for role in (FIRST, SECOND, THIRD, OTHERS, TRAINING, CACHES, REST)},
    }
    return ScreenTheme(theme, styles, description)


_COLOURS: Final = {
    "accent": "cyan",
    "bar": "green",
    "muted": "bright_black",
    "off": "yellow",
    "warning": "yellow",
    "error": "red",
    FIRST: "green",
    SECOND: "cyan",
    THIRD: "blue",
    OTHERS: "bright_black",
    TRAINING: "magenta",
    CACHES: "yellow",
    REST: "bright_black",
}

THEMES: Final[Mapping[str, ScreenTheme]] = {
    screen_theme.theme.name: screen_theme
    for screen_theme in (
        _theme("terminal", "the terminal's own sixteen colours", _COLOURS),
        _theme(
            "dark",
            "light text on a dark background",
            _COLOURS
            | {
                "accent": "#56b6c2",
                "bar": "#98c379",
                "muted": "#7d8799",
                "off": "#e5c07b",
                "warning": "#f0b35a",
                "error": "#f07178",
                FIRST: "#98c379",
                SECOND: "#56b6c2",
                THIRD: "#61afef",
                OTHERS: "#8a93a5",
                TRAINING: "#c678dd",
                CACHES: "#e5c07b",
                REST: "#7d8799",
            },
            ground="#1b1f26",
            text="#d6d9df",
        ),
        _theme(
            "light",
            "dark text on a light background",
            _COLOURS
            | {
                "accent": "#0b6e7a",
                "bar": "#2f7d32",
                "muted": "#6b7280",
                "off": "#8a5a00",
                "warning": "#9a4b00",
                "error": "#b3261e",
                FIRST: "#2f7d32",
                SECOND: "#0b6e7a",
                THIRD: "#1f5fbf",
                OTHERS: "#6b7280",
                TRAINING: "#8b2fa8",
                CACHES: "#8a5a00",
                REST: "#6b7280",
            },
            ground="#fbfaf7",
            text="#24292f",
            dark=False,
        ),
        _theme(
            "high-contrast",
            "bold and bright on black",
            _COLOURS
            | {
                "accent": "#00ffff",
                "bar": "#00ff00",
                "muted": "#d0d0d0",
                "off": "#ffff00",
                "warning": "#ffff00",
                "error": "#ff6060",
                FIRST: "#00ff00",
                SECOND: "#00ffff",
                THIRD: "#80b0ff",
                OTHERS: "#ffffff",
                TRAINING: "#ff80ff",
                CACHES: "#ffff00",
                REST: "#d0d0d0",
            },
            ground="#000000",
            text="#ffffff",
            bold=True,
        ),
        _theme("monochrome", "no colours", dict.fromkeys(_COLOURS, "default")),
    )
}
"""By name, the default first."""

DEFAULT_THEME: Final = "terminal"
MONOCHROME: Final = "monochrome"
"""The theme for NO_COLOR."""


class _Styles(Mapping[str, Style]):
    """The styles of the theme in use, which is the same for all screens."""

    def __init__(self) -> None:
        self.theme = THEMES[DEFAULT_THEME]

    def __getitem__(self, role: str) -> Style:
        return self.theme.styles[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self.theme.styles)

    def __len__(self) -> int:
        return len(self.theme.styles)


STYLES: Final = _Styles()
"""The styles in use, by role."""


def use_theme(name: str) -> ScreenTheme:
    """Switch to this theme."""
    STYLES.theme = THEMES[name]
    return STYLES.theme


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
        (110, 118, 134),
        (255, 135, 142),
        (181, 222, 151),
        (248, 213, 148),
        (135, 199, 255),
        (218, 150, 240),
        (116, 211, 222),
        (240, 243, 248),
    ],
)
"""The sixteen colours in exported screenshots, which have no terminal to define them. The background is that of Rich's SVG."""
