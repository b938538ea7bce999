"""A device's memory as a bar: everything that is used is seen, and the legend names every mark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumodels_tui.view.memory_parts import MemoryPart, PartKind
from gpumodels_tui.widgets.cells import width_of
from gpumodels_tui.widgets.memory_bar import FREE, MARKS, legend, mark_of, memory_bar
from screen_text import words
from snapshots import GIB, MIB

PARTS = (
    MemoryPart(PartKind.FIRST_MODEL, 20 * GIB, "a"),
    MemoryPart(PartKind.MODELS, 4 * GIB),
    MemoryPart(PartKind.CACHES, 10 * GIB),
    MemoryPart(PartKind.OTHER, GIB),
    MemoryPart(PartKind.ALLOCATOR_CACHE, 512 * MIB),
)


def test_a_legend_names_every_mark_before_it_gives_their_bytes() -> None:
    assert legend(PARTS, 80 * GIB, 100).plain == (
        "█░ models 24.0 GB  ≡ caches 10 GB  · other 1.0 GB  : allocator 512 MB  ─ free 44 GB"
    )
    assert legend(PARTS, 80 * GIB, 76).plain == "█░ models 24.0 GB  ≡ caches 10 GB  · other 1.0 GB  : allocator 512 MB"
    assert legend(PARTS, 80 * GIB, 64).plain == "█░ models 24.0 GB  ≡ caches 10 GB  · other 1.0 GB  : allocator"
    assert legend(PARTS, 80 * GIB, 50).plain == "█░ models 24.0 GB  ≡ caches  · other  : allocator"
    assert legend(PARTS, 80 * GIB, 30).plain == "█░ models 24.0 GB  ≡ caches"


@pytest.mark.parametrize("width", range(20, 120))
def test_a_legend_is_never_longer_than_its_line(width: int) -> None:
    assert len(legend(PARTS, 80 * GIB, width).plain) <= width


def test_a_part_has_the_columns_of_its_share_and_what_is_free_is_a_thin_line() -> None:
    assert words(memory_bar(PARTS, 80 * GIB, 40)) == "█" * 10 + "░" * 2 + "≡" * 5 + "·" + FREE * 22


def test_what_is_used_at_all_is_seen() -> None:
    assert words(memory_bar([MemoryPart(PartKind.FIRST_MODEL, MIB)], 80 * GIB, 10)) == "█" + FREE * 9


def test_without_a_total_there_is_no_bar() -> None:
    assert memory_bar(PARTS, None, 40) == ()
    assert memory_bar(PARTS, 0, 40) == ()


@given(st.lists(st.tuples(st.sampled_from(PartKind), st.integers(0, 200)), max_size=12), st.integers(1, 100), st.integers(0, 60))
def test_a_bar_takes_exactly_its_columns_also_where_more_is_used_than_there_is(
    parts: list[tuple[PartKind, int]], total: int, width: int
) -> None:
    assert width_of(memory_bar([MemoryPart(kind, size) for kind, size in parts], total, width)) == width


def test_every_part_has_a_mark_of_its_own_that_is_not_the_one_of_free_memory() -> None:
    marks = [mark for mark, _, _ in MARKS.values()]
    assert set(MARKS) == set(PartKind)
    assert len({*marks, FREE}) == len(marks) + 1
    assert {len(mark) for mark in marks} == {1}


def test_a_model_is_marked_in_the_list_as_in_the_bar() -> None:
    assert words(mark_of(PARTS, "a")) == "█"
    assert words(mark_of(PARTS, "one of the others")) == "░"
