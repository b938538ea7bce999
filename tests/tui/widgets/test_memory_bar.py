"""A device's memory as a bar: everything that is used is seen, and the legend names every mark."""

from __future__ import annotations

import pytest

from gpumodels_tui.view.memory_parts import MemoryPart, PartKind
from gpumodels_tui.widgets.memory_bar import legend
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
