"""What a process did last, where its work has parts with names, as a ComfyUI node: what runs, and which took the memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Stage
from gpumodels_shared.stage_ids import shown_id
from gpumodels_shared.units import format_age, format_bytes
from gpumodels_tui.view.model_facts import Fact

MOST_NAMES: Final = 3
NANOSECONDS: Final = 1_000_000_000
LEAST_CHANGE_BYTES: Final = 1024**2
"""Less than this isn't said to have taken memory."""


def facts_of_stages(stages: Sequence[Stage], now: float) -> list[Fact]:
    """The parts that run now, and the one that took the most memory; its files are named.

    Args:
        stages: The last ones, oldest first.
        now: Seconds since the epoch.
    """
    running = [stage for stage in stages if stage.ended_at_ns is None]
    told = [f"{_name(stage)}, for {_age(stage.started_at_ns, now)}" for stage in running[:MOST_NAMES]]
    facts = [Fact("running", "; ".join(told) + (" …" if len(running) > MOST_NAMES else ""))] if told else []
    most = max(stages, key=_taken_bytes, default=None)
    if most is not None and most.ended_at_ns is not None and _taken_bytes(most) >= LEAST_CHANGE_BYTES:
        facts.append(Fact("took most", f"{_name(most)}: {_memory(most)}, {_age(most.ended_at_ns, now)} ago{_files(most)}"))
    return facts


def listed_stages(stages: Sequence[Stage], now: float) -> list[Fact]:
    """Those that are over, one a line, the last first.

    Args:
        stages: The last ones, oldest first.
        now: Seconds since the epoch.
    """
    over = [stage for stage in reversed(stages) if stage.ended_at_ns is not None]
    return [
        Fact("" if position else "ran", f"{_age(stage.ended_at_ns, now)} ago  {_name(stage)}, {_duration(stage)}{_told(stage)}")
        for position, stage in enumerate(over)
        if stage.ended_at_ns is not None
    ]


def _told(stage: Stage) -> str:
    memory = _memory(stage)
    return f": {memory}{_files(stage)}" if memory else _files(stage)


def _name(stage: Stage) -> str:
    name, shown = stage.name or "a node", shown_id(stage.id)
    return safe_text(f"{name} ({shown})" if shown else name, 120)


def _memory(stage: Stage) -> str:
    """`+6.5 GB to 7.1 GB on cuda:0, peak 9.0 GB`; empty if nothing is known."""
    before, after, peak = stage.bytes_before, stage.bytes_after, stage.peak_bytes
    place = "in host memory" if stage.device in (None, "cpu") else f"on {safe_text(stage.device or '', 40)}"
    parts = []
    if after is not None and before is not None:
        sign = "\u2212" if after < before else "+"
        change = f"{sign}{format_bytes(abs(after - before))} to" if after != before else "unchanged,"
        parts.append(f"{change} {format_bytes(after)} {place}")
    elif after is not None:
        parts.append(f"{format_bytes(after)} {place}")
    if peak is not None and after is not None and peak > max(after, before or 0):
        parts.append(f"peak {format_bytes(peak)}")
    return ", ".join(parts)


def _files(stage: Stage) -> str:
    names = [safe_text(path.rpartition("/")[2], 80) for path in stage.files[:MOST_NAMES]]
    return "".join(f", {name}" for name in names) + (" …" if len(stage.files) > MOST_NAMES else "")


def _taken_bytes(stage: Stage) -> int:
    known = stage.bytes_after is not None and stage.bytes_before is not None
    return (stage.bytes_after or 0) - (stage.bytes_before or 0) if known else 0


def _duration(stage: Stage) -> str:
    seconds = max(0, (stage.ended_at_ns or stage.started_at_ns) - stage.started_at_ns) / NANOSECONDS
    return f"{seconds:.1f} s" if seconds < 60 else format_age(seconds)


def _age(at_ns: int | None, now: float) -> str:
    return format_age(now - (at_ns or 0) / NANOSECONDS)
