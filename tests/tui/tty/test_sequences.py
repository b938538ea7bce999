"""Whole sequences from whatever pieces the line delivers, and a lone escape character soon."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumodels_tui.tty.sequences import ESCAPE, ESCAPE_SECONDS, GIVE_UP_SECONDS, LATE_SECONDS, Sequences

SEQUENCES: Final = (
    "\x1b[<35;30;20M",
    "\x1b[<0;3;4m",
    "\x1b[?2026;2$y",
    "\x1b[?2048;0$y",
    "\x1b[?62;4c",
    "\x1b[12;40R",
    "\x1b[A",
    "\x1b[1;5C",
    "\x1b[5~",
    "\x1b[Z",
    "\x1bOA",
    "\x1bOP",
    "\x1b[I",
    "\x1b[97;5u",
    "\x1b[[A",
    "\x1b[M !!",
    "\x1b]11;rgb:0000/0000/0000\x1b\\",
    "\x1bP>|tmux 3.4\x1b\\",
)


def arrived(*pieces: str, every: float, then: float = GIVE_UP_SECONDS) -> list[str]:
    """What is complete after these pieces arrived with so much time between them, and after some more time."""
    sequences, now, whole = Sequences(), 0.0, []
    for piece in pieces:
        while (until := sequences.deadline) is not None and until <= now:
            whole += sequences.feed("", until)
        whole += sequences.feed(piece, now)
        now += every
    while (until := sequences.deadline) is not None and until <= now + then:
        whole += sequences.feed("", until)
    return whole


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_sequence_in_two_pieces_is_never_typed(sequence: str) -> None:
    for cut in range(1, len(sequence)):
        whole = arrived(sequence[:cut], sequence[cut:], "j", every=0.25)
        escaped = [ESCAPE] if cut == 1 else []
        if sequence[1] in "[O":
            assert whole == [*escaped, sequence, "j"], cut
        elif cut > 1:
            assert whole == [sequence, "j"], cut


@pytest.mark.parametrize("sequence", [one for one in SEQUENCES if one[1] in "[O"])
@pytest.mark.parametrize("every", [0.0, 0.0033, 0.015, 0.25])
def test_a_sequence_that_arrives_byte_by_byte_is_never_typed(sequence: str, every: float) -> None:
    assert [one for one in arrived(*sequence, every=every) if one != ESCAPE] == [sequence]


def test_a_lone_escape_is_the_key_after_ten_milliseconds() -> None:
    sequences = Sequences()
    assert sequences.feed(ESCAPE, 10.0) == []
    assert sequences.deadline == pytest.approx(10.0 + ESCAPE_SECONDS)
    assert sequences.feed("", 10.0 + ESCAPE_SECONDS - 0.001) == []
    assert sequences.feed("", 10.0 + ESCAPE_SECONDS) == [ESCAPE]
    assert sequences.deadline is None


def test_a_line_that_was_late_once_is_given_more_time() -> None:
    sequences = Sequences()
    now, escapes = 0.0, 0
    for _ in range(3):
        sequences.feed(ESCAPE, now)
        until = sequences.deadline
        assert until is not None
        if until <= now + 0.25:
            escapes += len(sequences.feed("", until))
        assert sequences.feed("[<35;30;20M", now + 0.25) == ["\x1b[<35;30;20M"]
        now += 10
    assert escapes == 1


def test_a_line_that_delivers_a_sequence_in_pieces_is_trusted_with_no_lone_escape_before_their_time() -> None:
    sequences = Sequences()
    assert sequences.feed("\x1b[<35;", 0.0) == []
    assert sequences.feed("30;20M", 0.25) == ["\x1b[<35;30;20M"]
    assert sequences.feed(ESCAPE, 10.0) == []
    assert sequences.deadline == pytest.approx(10.375)
    assert sequences.feed("[<35;30;21M", 10.25) == ["\x1b[<35;30;21M"]
    assert sequences.feed(ESCAPE, 20.0) == []
    assert sequences.feed("", 20.375) == [ESCAPE]


def test_a_piece_that_is_hardly_late_costs_the_next_escape_nothing() -> None:
    sequences = Sequences()
    sequences.feed("\x1b[<35;", 0.0)
    sequences.feed("30;20M", ESCAPE_SECONDS / 2)
    sequences.feed(ESCAPE, 10.0)
    assert sequences.deadline == pytest.approx(10.0 + ESCAPE_SECONDS)


def test_keys_typed_after_escape_are_typed() -> None:
    assert arrived(ESCAPE, "j", every=0.1) == [ESCAPE, "j"]
    assert arrived(ESCAPE, "[", every=0.1) == [ESCAPE, "["]
    assert arrived(ESCAPE, "[", "j", every=0.1) == [ESCAPE, "[", "j"]
    assert arrived(ESCAPE, "[", every=LATE_SECONDS + 0.1) == [ESCAPE, "["]
    assert arrived(ESCAPE, ESCAPE, "q", every=0.1) == [ESCAPE, ESCAPE, "q"]
    assert arrived(ESCAPE + ESCAPE, "q", every=0.1) == [ESCAPE, ESCAPE, "q"]


def test_a_terminal_that_names_the_key_never_means_it_by_a_lone_escape() -> None:
    sequences = Sequences()
    assert sequences.feed("\x1b[27u", 0.0) == ["\x1b[27u"]
    assert sequences.feed(ESCAPE, 1.0) == []
    assert sequences.feed("", 1.0 + ESCAPE_SECONDS) == []
    assert sequences.feed("[<35;30;20M", 1.25) == ["\x1b[<35;30;20M"]


def test_a_damaged_sequence_is_dropped_and_what_follows_is_not() -> None:
    assert arrived("\x1b[<35;3\x1b[Aq", every=0.0) == ["\x1b[A", "q"]
    assert arrived("\x1b[<35;3\rq", every=0.0) == ["\r", "q"]
    assert arrived("\x1b[<35;3", "q", every=GIVE_UP_SECONDS + 0.1) == ["q"]


def test_pasted_text_is_one_thing_in_however_many_pieces() -> None:
    pasted = "\x1b[200~q\x1b[A?\n\x1b[201~"
    for cut in range(2, len(pasted)):
        assert arrived(pasted[:cut], pasted[cut:] + "j", every=0.25) == [pasted, "j"]


@given(st.lists(st.sampled_from([*SEQUENCES, *"abjk?/ qé模\r\t\x03"]), max_size=12), st.data())
def test_no_cut_behind_an_escape_changes_what_arrives(typed: list[str], data: st.DataObject) -> None:
    text = "".join(typed)
    pieces, start = [], 0
    while start < len(text):
        end = data.draw(st.integers(start + 1, len(text)))
        while text[end - 1] == ESCAPE and end < len(text):
            end += 1
        pieces.append(text[start:end])
        start = end
    assert arrived(*pieces, every=0.25) == typed
