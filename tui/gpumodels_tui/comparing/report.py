"""A difference as text for a terminal, as Markdown for an issue, and as JSON. No path and no argument is in the first two."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.comparing.differences import Change, Difference, without_folders

NOTHING = "Nothing differs of what both know."


def as_text(found: Difference) -> str:
    """Aligned lines, a block for the devices and one for each process."""
    blocks = [_heading(found)]
    for title, rows in _blocks(found):
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        blocks.append("\n".join([title, *lines]))
    return "\n\n".join(blocks) + "\n"


def as_markdown(found: Difference) -> str:
    """A table."""
    lines = [_escaped(_heading(found))]
    rows = [(title, *row) for title, its in _blocks(found) for row in its]
    if rows:
        lines += ["", "| where | what | name | change |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_json(found: Difference) -> str:
    """One document; names as they were found."""
    entries: dict[str, Any] = {"schema": 1, **msgspec.to_builtins(found)}
    return json.dumps(entries, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def _heading(found: Difference) -> str:
    hosts = [_shown(host) if host else "an unknown machine" for host in (found.before_host, found.after_host)]
    times = [_shown(at) if at else "an unknown time" for at in (found.before_at, found.after_at)]
    if hosts[0] != hosts[1]:
        line = f"From {times[0]} on {hosts[0]} to {times[1]} on {hosts[1]}: two machines, so every process is another one"
    else:
        line = f"From {times[0]} to {times[1]} on {hosts[0]}"
    return line if found.devices or found.processes else f"{line}\n\n{NOTHING}"


def _blocks(found: Difference) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    if found.devices:
        yield "devices", [_row(change) for change in found.devices]
    for process in found.processes:
        yield f"{_shown(process.name)}, pid {process.pid}", [_row(change) for change in process.changes]


def _row(change: Change) -> tuple[str, str, str]:
    name = _shown(change.name)
    was, now = change.before_bytes, change.after_bytes
    sizes = f"{format_bytes(was)} -> {format_bytes(now)} ({_signed(now - was)})" if was is not None and now is not None else ""
    if change.what in ("used", "part"):
        what = change.where
        return what, f"{name} in use".strip() if change.what == "used" else name, sizes
    if change.move is not None:
        return "moved", name, f"{format_bytes(change.move.bytes)} {change.move.source} -> {change.move.target}"
    if change.what == "renamed":
        return "renamed", name, f"was {_shown(change.previous or '')}"
    if change.what == "restarted":
        return "restarted", name, f"was pid {change.previous}"
    if change.what in ("grew", "shrank"):
        return change.what, name, ", ".join(f"{_signed(size)} {_at(place)}" for place, size in change.places.items())
    return change.what, name, ", ".join(f"{format_bytes(size)} {_at(place)}" for place, size in change.places.items())


def _at(place: str) -> str:
    return "in host memory" if place == "host" else f"on {_shown(place)}"


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else ''}{format_bytes(size)}"


def _shown(name: str) -> str:
    return safe_text(without_folders(name), 120)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]@#~])", r"\\\1", text)
