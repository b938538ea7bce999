"""Copying through terminals that stand in the way of it."""

from __future__ import annotations

import pytest

from gpumodels_tui.clipboard import WAYS_OF_SCREEN, WAYS_OF_TMUX, also_through_tmux, what_it_needs


@pytest.mark.parametrize(
    ("environment", "needed"),
    [
        ({"TERM": "xterm-256color"}, ()),
        ({}, ()),
        ({"TERM": "screen-256color", "TMUX": "/tmp/tmux-0/default,1,0"}, (WAYS_OF_TMUX,)),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/tmux-0/default,1,0"}, (WAYS_OF_TMUX,)),
        ({"TERM": "screen", "STY": "1.pts-0.host"}, (WAYS_OF_SCREEN,)),
        # Through SSH only TERM comes along, and both call their terminal `screen`.
        ({"TERM": "tmux-256color"}, (WAYS_OF_TMUX,)),
        ({"TERM": "screen.xterm-256color"}, (WAYS_OF_TMUX, WAYS_OF_SCREEN)),
    ],
)
def test_what_a_multiplexer_needs_is_known_by_its_variables_or_its_terminals_name(
    environment: dict[str, str], needed: tuple[str, ...]
) -> None:
    assert what_it_needs(environment) == needed
    assert all(len(line) <= 76 for line in needed), "on a screen of 80 columns it is not cut"


def test_in_tmux_only_what_copies_is_sent_a_second_time_for_the_terminal_around_it() -> None:
    assert also_through_tmux("\x1b[1mmodels\x1b[0m") == "\x1b[1mmodels\x1b[0m"
    assert also_through_tmux("\x1b]52;c;YQ==\a") == "\x1b]52;c;YQ==\a\x1bPtmux;\x1b\x1b]52;c;YQ==\a\x1b\\"
