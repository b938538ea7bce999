"""Copying through the terminal (OSC 52), which a multiplexer passes on only if it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COPY: Final = "\x1b]52;"
"""How the sequence begins that copies to the terminal's clipboard; no terminal answers it."""
PASS_ON: Final = "\x1bPtmux;"
END: Final = "\x1b\\"

SENT: Final = "sent to the terminal's clipboard, if it takes it:"
WAYS_OF_TMUX: Final = "tmux needs `set -g set-clipboard on` (or `allow-passthrough on`) for that."
WAYS_OF_SCREEN: Final = "GNU screen may not pass it on; the path can be selected here."


def is_in_tmux(environment: Mapping[str, str]) -> bool:
    """Whether the terminal is certainly a tmux on this machine."""
    return bool(environment.get("TMUX"))


def what_it_needs(environment: Mapping[str, str]) -> tuple[str, ...]:
    """What the user may have to do before a copied text arrives in the clipboard; a sentence each.

    TERM tells of a multiplexer on the other side of an SSH connection, where its variables are not passed on.
    """
    terminal = environment.get("TERM", "")
    if is_in_tmux(environment) or terminal.startswith("tmux"):
        return (WAYS_OF_TMUX,)
    if environment.get("STY"):
        return (WAYS_OF_SCREEN,)
    # Both call their terminal so: tmux before version 3.2, or with an older configuration.
    return (WAYS_OF_TMUX, WAYS_OF_SCREEN) if terminal.startswith("screen") else ()


def also_through_tmux(data: str) -> str:
    """The data; a sequence that copies is sent a second time for the terminal around tmux, which needs `allow-passthrough`."""
    if not data.startswith(COPY):
        return data
    return data + PASS_ON + data.replace("\x1b", "\x1b\x1b") + END
