"""Who holds a model, in lines for people. Safe to draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_count
from gpumodels_tui.sources.asking import Found

MOST_HOLDERS_IN_C: Final = 5
LONGEST_LINE: Final = 400


def lines_of(found: Found) -> list[str]:
    """Each chain in a line, the shortest first; else why there is none."""
    lines = [safe_text(chain.text, LONGEST_LINE) for chain in found.chains]
    return lines + list(_remarks(found))


def cost_of(found: Found) -> str:
    """What the search cost the process."""
    return (
        f"searched {format_count(found.visited)} objects in {found.seconds:.1f} s; "
        f"the interpreter was held for {found.longest_hold_seconds * 1000:.0f} ms at most"
    )


def in_milliseconds(seconds: float) -> str:
    """`about 25 ms`."""
    return f"about {max(1, round(seconds * 1000))} ms"


def _remarks(found: Found) -> Iterator[str]:
    if found.is_garbage:
        yield "only a reference cycle: Python's garbage collector will free it"
    if not found.chains and found.by_c_code:
        held = ", ".join(safe_text(one, 80) for one in found.by_c_code[:MOST_HOLDERS_IN_C])
        yield f"held by C code, which doesn't tell what it holds (references by object: {held})"
    if not found.chains and found.hidden_objects:
        hidden = format_count(found.hidden_objects)
        yield f"gc.freeze() has hidden {hidden} objects from the search: any of them may hold it, and so may what they hold"
    if not found.chains and not found.is_garbage and not found.by_c_code and not found.hidden_objects and found.is_complete:
        yield "nothing holds it any more"
    if not found.is_complete:
        yield "the search ended at its limits: there may be more"
