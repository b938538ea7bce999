"""Ids of stages: a host's own, as those of ComfyUI's nodes, or made for the stages that a program names itself.

The latter count: `#7` is the seventh that is in no other, `#7.2` the second in it. `12#7` is in the node with the id 12.
"""

from __future__ import annotations

from typing import Final

COUNTED: Final = "#"
"""In every id that was made."""
INNER: Final = "."
"""Before the number of a stage within another."""


def is_within(inner: str, outer: str) -> bool:
    """Whether the stage with the one id is in that with the other."""
    return COUNTED in inner and bool(outer) and inner.startswith((outer + INNER, outer + COUNTED))


def shown_id(stage_id: str) -> str:
    """The id if it means something to people, as a node's; empty for one that was made."""
    return "" if COUNTED in stage_id else stage_id
