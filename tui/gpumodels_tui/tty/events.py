"""From whole sequences to Textual's messages: keys, the mouse, pasted text, and the focus of the terminal."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from textual import events
from textual.keys import KEY_NAME_REPLACEMENTS
from textual.message import Message

from gpumodels_tui.tty.sequences import PASTE_BEGINS, PASTE_ENDS

_MOUSE: Final = re.compile(r"\x1b\[<(\d+);(-?\d+);(-?\d+)([Mm])")
_KEY: Final = re.compile(
    r"\x1b(?:\[|O)(?P<code>\d*)(?::[\d:]*)?(?:;(?P<modifiers>\d*)(?::\d*)?)?(?:;(?P<text>[\d:]*))?(?P<end>[~A-Zu])"
)
"""`CSI code ; modifiers ; text end`, as xterm has it and as kitty's keyboard protocol extends it."""

_NAMED: Final = {
    "\r": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x1b": "escape",
    "\x00": "ctrl+at",
    "\x1c": "ctrl+backslash",
    "\x1d": "ctrl+right_square_bracket",
    "\x1e": "ctrl+circumflex_accent",
    "\x1f": "ctrl+underscore",
}
_LETTERS: Final = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "F": "end",
    "H": "home",
    "P": "f1",
    "Q": "f2",
    "R": "f3",
    "S": "f4",
}
_NUMBERS: Final = {
    1: "home",
    2: "insert",
    3: "delete",
    4: "end",
    5: "pageup",
    6: "pagedown",
    7: "home",
    8: "end",
    **{11 + number: f"f{1 + number}" for number in range(5)},
    **{17 + number: f"f{6 + number}" for number in range(5)},
    **{23 + number: f"f{11 + number}" for number in range(2)},
}
_KEYPAD: Final = {
    **{57399 + number: str(number) for number in range(10)},
    57409: ".",
    57410: "/",
    57411: "*",
    57412: "-",
    57413: "+",
    57414: "\r",
    57415: "=",
    57417: "left",
    57418: "right",
    57419: "up",
    57420: "down",
    57421: "pageup",
    57422: "pagedown",
    57423: "home",
    57424: "end",
    57425: "insert",
    57426: "delete",
}
"""Kitty's numbers for the keypad."""
_MODIFIERS: Final = ((2, "alt"), (4, "ctrl"), (32, "meta"), (8, "super"))
_SHIFT: Final = 1
_SPECIAL: Final = {
    "\x1b[Z": "shift+tab",
    "\x1b\t": "shift+tab",
    **{f"\x1b[[{letter}": f"f{number}" for number, letter in enumerate("ABCDE", start=1)},
}


class MessageReader:
    """Turns sequences into messages; it remembers where the mouse was."""

    def __init__(self) -> None:
        self._x = self._y = 0

    def message(self, sequence: str) -> Message | None:
        """The message that this character or sequence means; None for what means nothing to the screens, such as replies."""
        if sequence.startswith(PASTE_BEGINS):
            return events.Paste(sequence[len(PASTE_BEGINS) : -len(PASTE_ENDS)].replace("\x00", ""))
        if sequence == "\x1b[I":
            return events.AppFocus()
        if sequence == "\x1b[O":
            return events.AppBlur()
        if (mouse := _MOUSE.fullmatch(sequence)) is not None:
            return self._mouse(int(mouse[1]), int(mouse[2]) - 1, int(mouse[3]) - 1, mouse[4] == "M")
        return _key(sequence)

    def _mouse(self, buttons: int, x: int, y: int, is_down: bool) -> Message | None:
        if x < 0 or y < 0:
            return None
        kind: type[events.MouseEvent]
        button = 0
        if buttons & 64:
            wheel = (events.MouseScrollUp, events.MouseScrollDown, events.MouseScrollLeft, events.MouseScrollRight)
            kind = wheel[buttons & 3]
        else:
            button = (buttons + 1) & 3
            kind = events.MouseMove if buttons & 32 or not button else events.MouseDown if is_down else events.MouseUp
        delta_x, delta_y = x - self._x, y - self._y
        self._x, self._y = x, y
        shift, meta, ctrl = bool(buttons & 4), bool(buttons & 8), bool(buttons & 16)
        return kind(None, x, y, delta_x, delta_y, button, shift, meta, ctrl, screen_x=x, screen_y=y)


def _key(sequence: str) -> events.Key | None:
    if (name := _SPECIAL.get(sequence)) is not None:
        return events.Key(name, None)
    if len(sequence) == 1:
        return events.Key(_name(sequence), sequence)
    if len(sequence) == 2:
        name = _name(sequence[1])
        return events.Key(f"alt+shift+{name.lower()}" if len(name) == 1 and name.isupper() else f"alt+{name}", None)
    found = _KEY.fullmatch(sequence)
    if found is None:
        return None
    code, bits = int(found["code"] or 1), max(int(found["modifiers"] or 1) - 1, 0)
    if found["end"] == "u":
        return _extended_key(code, bits, found["text"] or "")
    named = _NUMBERS.get(code) if found["end"] == "~" else _LETTERS.get(found["end"]) if code == 1 else None
    return None if named is None else events.Key(_modified(named, bits), None)


def _extended_key(code: int, bits: int, text: str) -> events.Key | None:
    """A key of kitty's protocol: its code point, and the text that it types."""
    typed = "".join(chr(int(one)) for one in text.split(":") if one and int(one) < 0x110000)
    if len(typed) == 1:
        return events.Key(_name(typed), typed)
    base = _KEYPAD.get(code) or (chr(code) if code < 0xE000 else "")
    if not base or (bits and len(base) == 1 and base.isupper()):
        return None
    named = base if len(base) > 1 else _name(base)
    held = bits & ~0b11000000  # the locks
    if not held:
        return events.Key(named, base if len(base) == 1 else None)
    if held == _SHIFT and len(base) == 1 and base.isprintable() and base != " ":
        return events.Key(_name(base.upper()), base.upper())
    return events.Key(_modified(named, held), None)


def _modified(name: str, bits: int) -> str:
    held = [word for bit, word in _MODIFIERS if bits & bit]
    return "+".join([*sorted([*held, *(["shift"] if bits & _SHIFT else [])]), name])


def _name(character: str) -> str:
    """Textual's name of the key that types this character."""
    if (named := _NAMED.get(character)) is not None:
        return named
    if character < " ":
        return f"ctrl+{chr(ord(character) + 96)}"
    if character.isalnum():
        return character
    name = unicodedata.name(character, character).lower().replace("-", "_").replace(" ", "_")
    return KEY_NAME_REPLACEMENTS.get(name, name)
