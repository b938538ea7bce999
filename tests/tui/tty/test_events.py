"""Keys by Textual's names, the mouse, pasted text and the focus."""

from __future__ import annotations

import pytest
from textual import events

from gpumodels_tui.tty.events import MessageReader

KEYS = {
    "j": ("j", "j"),
    "G": ("G", "G"),
    "é": ("é", "é"),
    "?": ("question_mark", "?"),
    "/": ("slash", "/"),
    " ": ("space", " "),
    "+": ("plus", "+"),
    "-": ("minus", "-"),
    "=": ("equals_sign", "="),
    "<": ("less_than_sign", "<"),
    "[": ("left_square_bracket", "["),
    "\r": ("enter", "\r"),
    "\n": ("ctrl+j", "\n"),
    "\t": ("tab", "\t"),
    "\x7f": ("backspace", "\x7f"),
    "\x1b": ("escape", "\x1b"),
    "\x03": ("ctrl+c", "\x03"),
    "\x1a": ("ctrl+z", "\x1a"),
    "\x00": ("ctrl+at", "\x00"),
    "\x1bj": ("alt+j", None),
    "\x1b[A": ("up", None),
    "\x1bOB": ("down", None),
    "\x1b[1;5C": ("ctrl+right", None),
    "\x1b[1;6D": ("ctrl+shift+left", None),
    "\x1b[1;3A": ("alt+up", None),
    "\x1b[H": ("home", None),
    "\x1b[4~": ("end", None),
    "\x1b[5~": ("pageup", None),
    "\x1b[3;5~": ("ctrl+delete", None),
    "\x1b[17~": ("f6", None),
    "\x1bOP": ("f1", None),
    "\x1b[[E": ("f5", None),
    "\x1b[Z": ("shift+tab", None),
    # kitty's protocol
    "\x1b[27u": ("escape", "\x1b"),
    "\x1b[27;129u": ("escape", "\x1b"),
    "\x1b[13u": ("enter", "\r"),
    "\x1b[9u": ("tab", "\t"),
    "\x1b[9;2u": ("shift+tab", None),
    "\x1b[127u": ("backspace", "\x7f"),
    "\x1b[106;;106u": ("j", "j"),
    "\x1b[103;2;71u": ("G", "G"),
    "\x1b[47;2;63u": ("question_mark", "?"),
    "\x1b[99;5u": ("ctrl+c", None),
    "\x1b[99:67;6u": ("ctrl+shift+c", None),
    "\x1b[32;;32u": ("space", " "),
    "\x1b[57419u": ("up", None),
}


@pytest.mark.parametrize(("sequence", "expected"), KEYS.items(), ids=map(ascii, KEYS))
def test_keys(sequence: str, expected: tuple[str, str | None]) -> None:
    message = MessageReader().message(sequence)
    assert isinstance(message, events.Key)
    assert (message.key, message.character) == expected


@pytest.mark.parametrize(
    "reply",
    ["\x1b[?2026;2$y", "\x1b[?2048;0$y", "\x1b[12;40R", "\x1b[?62;4c", "\x1b]11;rgb:0/0/0\x07", "\x1b[57441u", "\x1b[99~"],
)
def test_replies_and_unknown_sequences_mean_nothing(reply: str) -> None:
    assert MessageReader().message(reply) is None


def test_the_mouse() -> None:
    reader = MessageReader()
    down, moved, up = (reader.message(one) for one in ("\x1b[<0;3;4M", "\x1b[<32;5;9M", "\x1b[<0;5;9m"))
    assert isinstance(down, events.MouseDown)
    assert (down.x, down.y, down.button) == (2, 3, 1)
    assert isinstance(moved, events.MouseMove)
    assert (moved.x, moved.y, moved.delta_x, moved.delta_y) == (4, 8, 2, 5)
    assert isinstance(up, events.MouseUp)
    assert isinstance(reader.message("\x1b[<35;30;20M"), events.MouseMove)
    assert isinstance(reader.message("\x1b[<64;1;1M"), events.MouseScrollUp)
    scrolled = reader.message("\x1b[<81;1;1M")
    assert isinstance(scrolled, events.MouseScrollDown)
    assert scrolled.ctrl
    assert reader.message("\x1b[<0;0;-3M") is None


def test_pasted_text_and_focus() -> None:
    reader = MessageReader()
    pasted = reader.message("\x1b[200~wan 2.2\x00\x1b[201~")
    assert isinstance(pasted, events.Paste)
    assert pasted.text == "wan 2.2"
    assert isinstance(reader.message("\x1b[I"), events.AppFocus)
    assert isinstance(reader.message("\x1b[O"), events.AppBlur)
