"""What the help says of marks and short titles: all that can be on a screen, as it stands there."""

from __future__ import annotations

from gpumodels_tui.theme import HEADING, STYLES
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.widgets.event_table import SIGNS
from gpumodels_tui.widgets.explanations import BARS, EVENTS, LAYERS, MODELS, TITLES, Explanation, Group
from gpumodels_tui.widgets.layer_table import LayerTable
from gpumodels_tui.widgets.memory_bar import FREE, MARKS
from gpumodels_tui.widgets.model_table import ModelTable


def explained(groups: tuple[Group, ...]) -> list[Explanation]:
    return [one for _, group in groups for one in group]


def marks(of: tuple[Explanation, ...] | list[Explanation]) -> list[str]:
    return [mark for one in of for mark, _ in one.marks]


def titles(of: tuple[Explanation, ...] | list[Explanation]) -> set[str]:
    return {mark for one in of for mark, role in one.marks if role == HEADING}


def test_every_mark_of_a_memory_bar_is_explained_once() -> None:
    assert sorted(marks(BARS)) == sorted([*(mark for mark, _, _ in MARKS.values()), FREE])


def test_the_titles_that_are_explained_stand_above_a_column() -> None:
    models, layers = ModelTable(), LayerTable()
    models.show_devices(several=True, with_idle=True)
    above_models = {title for column in models.columns for title in (column.title, column.short_title)}
    above_layers = {title for column in layers.columns for title in (column.title, column.short_title)}
    assert {word for title in titles(TITLES) for word in ([title] if title in above_models else title.split())} <= above_models
    assert titles(explained(LAYERS)) <= above_layers


def test_an_event_is_explained_under_the_sign_that_it_has_in_the_list() -> None:
    signs = {f"{sign} {kind.value}" for kind, (sign, _) in SIGNS.items()}
    assert {mark for mark in marks(explained(EVENTS)) if any(mark.endswith(kind.value) for kind in EventKind)} <= signs
    assert f"! {EventKind.OUT_OF_MEMORY.value}" in marks(explained(EVENTS))


def test_all_that_is_explained_can_be_drawn_and_says_something() -> None:
    for one in explained((*MODELS, *LAYERS, *EVENTS)):
        assert one.words
        assert {role for _, role in one.marks} <= set(STYLES)
        assert len("".join(mark for mark, _ in one.marks)) <= 16  # one line, beside its words
