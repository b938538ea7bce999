"""Notices that screens show instead of a list: no processes, no models, no matches, no room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.theme import ACCENT, MUTED, STRONG, STYLES

LEAST_COLUMNS: Final = 60
LEAST_LINES: Final = 10

WAYS_TO_START: Final = (
    ("import gpumodels; gpumodels.start()", "in your code"),
    ("import gpumodels.auto", "the same, as a single import"),
    ("python -m gpumodels run your_script.py", "without changing your code"),
    ("python -m gpumodels demo", "a demo"),
)


def no_processes(directories: Sequence[str]) -> Text:
    """The notice that no process has a sidecar: the directories searched, and how to start one."""
    notice = Text(no_wrap=False)
    notice.append("No process with gpumodels is running.\n", STYLES[STRONG])
    notice.append(
        "Searched " + (", ".join(safe_text(directory) for directory in directories) or "no directory") + "\n\n", STYLES[MUTED]
    )
    notice.append("Start one, and its models will appear here:\n\n")
    longest = max(len(command) for command, _ in WAYS_TO_START)
    for command, meaning in WAYS_TO_START:
        notice.append(f"  {command:<{longest}}", STYLES[ACCENT])
        notice.append(f"  {meaning}\n", STYLES[MUTED])
    return notice


def no_models(title: str, elsewhere: Sequence[tuple[int, str, int]], state: str = "") -> Text:
    """The notice that the chosen device has no models.

    Args:
        title: The chosen device.
        state: What is unusual about it.
        elsewhere: Number, title and count of models of each device that has some.
    """
    notice = Text()
    state = f", which is {safe_text(state)}" if state else ""
    notice.append(f"No models on {safe_text(title)}{state}.\n\n", STYLES[STRONG])
    for number, other, count in elsewhere:
        notice.append(f"  {number}", STYLES[ACCENT])
        notice.append(f"  {safe_text(other)}: {counted(count, 'model')}\n")
    return notice


def no_match(words: str) -> Text:
    """The notice that nothing matches the filter."""
    return Text.assemble(
        (f'Nothing here has "{safe_text(words)}" in its name, kind, process or files.\n\n', STYLES[STRONG]),
        ("Esc", STYLES[ACCENT]),
        " shows everything again; ",
        ("0", STYLES[ACCENT]),
        " searches all devices.",
    )


def nothing_left(filters: str, title: str | None) -> Text:
    """The notice that the filters leave nothing.

    Args:
        filters: They in words.
        title: The chosen device; None for all.
    """
    where = "" if title is None else f" on {safe_text(title)}"
    notice = Text.assemble(
        (f"Nothing{where} matches {safe_text(filters)}.\n\n", STYLES[STRONG]), ("F", STYLES[ACCENT]), " shows everything again"
    )
    if title is not None:
        notice.append("; ").append("0", STYLES[ACCENT]).append(" searches all devices")
    return notice.append(".")


def no_room(columns: int, lines: int) -> Text:
    """The notice that the terminal is too small."""
    return Text(f"{columns}×{lines} is too small: {LEAST_COLUMNS}×{LEAST_LINES} needed", STYLES[STRONG])


def counted(count: int, noun: str) -> str:
    """The count with its noun, in the plural if needed: `1 model`, `2 models`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
