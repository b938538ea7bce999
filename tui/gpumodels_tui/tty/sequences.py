"""Cuts what the terminal sends into characters and whole sequences, however late their pieces arrive."""

from __future__ import annotations

import re
from typing import Final

ESCAPE: Final = "\x1b"
PASTE_BEGINS: Final = "\x1b[200~"
PASTE_ENDS: Final = "\x1b[201~"

ESCAPE_SECONDS: Final = 0.01
"""How long to wait for the rest of a sequence before a lone escape character counts as the key; tmux waits as long."""
LONGEST_ESCAPE_SECONDS: Final = 0.5
"""The same on a line that was seen to be slow: on which the pieces of a sequence were longer apart."""
LATE_SECONDS: Final = 1.0
"""For so long after the key, what continues a sequence shows that the escape character was its beginning."""
TYPED_SECONDS: Final = 0.5
"""How long a bracket after the key may be the beginning of such a rest, before it counts as typed."""
GIVE_UP_SECONDS: Final = 2.0
"""When the rest of a sequence is not expected any more."""

_WHOLE: Final = re.compile(
    r"\x1b(?:"
    r"\[\[[A-E]"  # the Linux console's function keys
    r"|\[M[\x20-\uffff]{3}"  # the oldest way of reporting the mouse
    r"|\[[0-?]*[ -/]*[@-LN-Z\\-~]|\[[0-?]+[ -/]*M"
    r"|O[0-9]*[A-Za-z]"
    r"|[\]P_^X][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|[^\[O\]P_^X\x1b]"
    r")"
)
_BEGUN: Final = re.compile(r"\x1b(?:\[(?:\[|M[\x20-\uffff]{0,2}|[0-?]*[ -/]*)|O[0-9]*|[\]P_^X][^\x07\x1b]*\x1b?)?")
"""The beginning of a sequence, to its last character."""

_FROM_TERMINALS: Final = re.compile(
    r"\x1b(?:\[(?:<[\d;-]+[Mm]|[?>=]?[\d;:]*(?:\$y|[cntuRS~])|[\d;]*[A-HPQRSZ]|[IO]|\[[A-E]|M[\x20-\uffff]{3})|O[A-Z])"
)
"""What terminals send, as opposed to a bracket and more that somebody typed after the key."""


class Sequences:
    """Takes what arrives, with the time; returns what is complete: characters, sequences, and pasted text between its marks."""

    def __init__(self) -> None:
        self._held = ""
        self._since = 0.0
        """When the first character held was held, or the last one arrived."""
        self._pasted: str | None = None
        self._escaped_at = float("-inf")
        """When a lone escape character was taken for the key."""
        self._is_rest = False
        """Whether what is held begins behind an escape character that was taken for the key; it is held with it."""
        self._escape_seconds = ESCAPE_SECONDS
        self._names_escape = False
        """Whether this terminal sends the key as a sequence, so that a lone escape character never is one."""

    @property
    def deadline(self) -> float | None:
        """When `feed` is to be called even if nothing arrives; None if nothing is held."""
        return self._since + self._patience if self._held else None

    def feed(self, text: str, now: float) -> list[str]:
        """What is complete now, in order.

        Args:
            text: What has arrived, possibly nothing.
            now: The time in seconds, of a clock that never goes back.
        """
        whole: list[str] = []
        if text:
            if not self._held and self._pasted is None and text[0] in "[O" and now - self._escaped_at <= LATE_SECONDS:
                self._is_rest, text = True, ESCAPE + text
            elif len(self._held) > 1:
                self._expect_pieces(now - self._since)
            self._held += text
            self._since = now
        elif self._held and now >= self._since + self._patience:
            self._give_up(whole, now)
        self._take(whole, now)
        return whole

    @property
    def _patience(self) -> float:
        if self._held == ESCAPE and not self._names_escape:
            return self._escape_seconds
        return TYPED_SECONDS if self._is_rest else GIVE_UP_SECONDS

    def _give_up(self, whole: list[str], now: float) -> None:
        held, self._held = self._held, ""
        if self._is_rest:
            self._is_rest = False
            whole += held[1:]
        elif held == ESCAPE and not self._names_escape:
            self._escaped_at = now
            whole.append(ESCAPE)
        elif len(held) == 2:
            whole.append(held)  # the Alt key and a bracket

    def _take(self, whole: list[str], now: float) -> None:
        while self._held:
            if self._pasted is not None:
                if not self._take_pasted(whole):
                    return
                continue
            if self._held[0] != ESCAPE:
                whole.append(self._held[0])
                self._held = self._held[1:]
                continue
            found = _WHOLE.match(self._held)
            if found is not None:
                sequence = found[0]
                self._held = self._held[len(sequence) :]
                if self._is_rest:
                    self._take_rest(sequence, whole, now)
                else:
                    self._take_sequence(sequence, whole)
            elif _BEGUN.fullmatch(self._held):
                return
            else:
                self._take_damaged(whole)

    def _take_sequence(self, sequence: str, whole: list[str]) -> None:
        if sequence == PASTE_BEGINS:
            self._pasted = ""
            return
        if sequence.startswith("\x1b[") and sequence.endswith("u"):
            self._names_escape = True
        whole.append(sequence)

    def _take_rest(self, sequence: str, whole: list[str], now: float) -> None:
        self._is_rest = False
        if not _FROM_TERMINALS.fullmatch(sequence):
            whole += sequence[1:]
            return
        self._expect_pieces(now - self._escaped_at)
        self._take_sequence(sequence, whole)

    def _expect_pieces(self, seconds: float) -> None:
        """Give the next lone escape character more time if two pieces of a sequence were this far apart."""
        if seconds > self._escape_seconds:
            self._escape_seconds = min(1.5 * seconds, LONGEST_ESCAPE_SECONDS)

    def _take_damaged(self, whole: list[str]) -> None:
        """Drop a sequence that another one, or something that can't be part of one, cuts short."""
        begun = _BEGUN.match(self._held)
        end = max(begun.end() if begun is not None else 1, 1)
        if end > 1 and self._held[end - 1] == ESCAPE:
            end -= 1
        dropped, self._held = self._held[:end], self._held[end:]
        if self._is_rest:
            self._is_rest = False
            whole += dropped[1:]
        elif dropped == ESCAPE:
            whole.append(ESCAPE)

    def _take_pasted(self, whole: list[str]) -> bool:
        """Whether the end of the pasted text has arrived."""
        assert self._pasted is not None
        before, mark, rest = (self._pasted + self._held).partition(PASTE_ENDS)
        if not mark:
            self._pasted, self._held = before, ""
            return False
        whole.append(f"{PASTE_BEGINS}{before}{PASTE_ENDS}")
        self._pasted, self._held = None, rest
        return True
