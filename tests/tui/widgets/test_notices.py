"""What the screens say in words."""

from __future__ import annotations

from gpumodels_tui.widgets.notices import (
    LEAST_COLUMNS,
    LEAST_LINES,
    WAYS_TO_START,
    counted,
    no_match,
    no_models,
    no_processes,
    no_room,
)


def test_one_is_singular_and_every_other_number_plural() -> None:
    assert [counted(count, "model") for count in (0, 1, 2)] == ["0 models", "1 model", "2 models"]


def test_where_nobody_is_there_it_says_where_it_looked_and_every_way_to_start() -> None:
    said = no_processes(["/dev/shm/gpumodels-0", "/tmp/gpumodels-0"]).plain
    assert "Searched /dev/shm/gpumodels-0, /tmp/gpumodels-0\n" in said
    assert all(f"{command} " in said and meaning in said for command, meaning in WAYS_TO_START)
    assert "Searched no directory" in no_processes([]).plain


def test_an_empty_device_names_those_that_hold_models_with_the_numbers_that_choose_them() -> None:
    said = no_models("GPU 0  H100", [(2, "GPU 1  H100", 1), (3, "Host memory", 4)]).plain.splitlines()
    assert said[0] == "No models on GPU 0  H100."
    assert said[2:] == ["  2  GPU 1  H100: 1 model", "  3  Host memory: 4 models"]


def test_a_terminal_that_is_too_small_is_told_how_large_it_is_and_should_be() -> None:
    assert no_room(20, 4).plain == f"20×4 is too small: {LEAST_COLUMNS}×{LEAST_LINES} needed"


def test_names_from_outside_steer_no_terminal_and_are_no_markup() -> None:
    hostile = "[bold]\x1b[2J\u202e"
    for notice in (no_processes([hostile]), no_models(hostile, [(1, hostile, 1)]), no_match(hostile)):
        assert "[bold]\\x1b[2J\\u202e" in notice.plain
        assert "\x1b" not in notice.plain
