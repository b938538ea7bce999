"""Facts as labelled lines: cut where there is one line each, and broken where a reader would break them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.console import Console

from gpumodels_tui.view.model_facts import Fact
from gpumodels_tui.widgets.facts_panel import facts_table

PATH = Fact("file", "/srv/models/diffusion_models/wan/Wan2_2-T2V-A14B-HIGH_bf16.safetensors", is_path=True)
SIZED = Fact("file", "/srv/models/wan/Wan2_2-T2V-A14B.safetensors  26.5 GB", is_path=True)
WORDS = Fact("title", "Wan 2.2 text to video, 14 billion parameters, high noise")


def drawn(facts: Sequence[Fact], width: int, *, wrap: bool = False) -> list[str]:
    console = Console(width=width, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(facts_table(facts, width, wrap))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_values_stand_below_each_other_behind_the_longest_label() -> None:
    assert drawn([Fact("dtype", "bf16"), Fact("parameters", "14.3 B")], 40) == ["dtype       bf16", "parameters  14.3 B"]


def test_one_line_keeps_the_beginning_of_words_and_the_end_of_a_path() -> None:
    assert drawn([WORDS], 30) == ["title  Wan 2.2 text to video,…"]
    assert drawn([PATH], 30) == ["file  …B-HIGH_bf16.safetensors"]


def test_a_path_is_broken_behind_its_slashes_and_its_size_stays_together() -> None:
    assert drawn([SIZED], 38, wrap=True) == [
        "file  /srv/models/wan/",
        "      Wan2_2-T2V-A14B.safetensors",
        "      26.5 GB",
    ]


def test_a_path_with_its_size_is_one_line_where_there_is_room() -> None:
    path, _, size = SIZED.value.partition("  ")
    assert drawn([SIZED], 70, wrap=True) == [f"file  {path}  {size}"]
    assert drawn([SIZED], 50, wrap=True) == [f"file  {path}", f"      {size}"]


def test_a_name_longer_than_a_line_is_broken_and_nothing_of_it_is_lost() -> None:
    lines = drawn([PATH], 26, wrap=True)
    assert len(lines) > 4
    assert "".join(line.removeprefix("file").strip() for line in lines) == PATH.value


def test_a_long_label_leaves_its_value_room() -> None:
    fact = Fact("a label that somebody wrote into a file's metadata", "its value")
    assert drawn([fact], 40) == ["a label that so…  its value"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("width", range(1, 60, 7))
def test_no_line_is_longer_than_the_panel(width: int, wrap: bool) -> None:
    assert all(len(line) <= width for line in drawn([PATH, SIZED, WORDS], width, wrap=wrap))


def test_markup_in_a_fact_is_drawn_as_it_stands() -> None:
    assert drawn([Fact("[b]label[/b]", "[red]value[/red]")], 60) == ["[b]label[/b]  [red]value[/red]"]
