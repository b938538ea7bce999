"""The events of a recording as `--follow` would have printed them."""

from __future__ import annotations

from collections.abc import Iterator

from gpumodels_tui.recording.reading import Cursor, Recording
from gpumodels_tui.streaming.event_lines import EventLines
from gpumodels_tui.view.builder import ViewBuilder
from gpumodels_tui.view.filtering import filtered
from gpumodels_tui.view.filters import NO_FILTERS, Filters

SECOND_NS = 10**9


def recorded_lines(recording: Recording, lines: EventLines, since_ns: int = 0, filters: Filters = NO_FILTERS) -> Iterator[bytes]:
    """A line for each event from this moment on. What events lack is looked up in the moments around them.

    Raises:
        RecordingError: a moment can't be read.
    """
    earlier, later, builder = Cursor(recording), Cursor(recording), ViewBuilder()  # each only goes forwards
    around_ns = int(recording.every_seconds * 2 * SECOND_NS)
    seen: tuple[object, object] | None = None
    for event in recording.events:
        if event.at_ns < since_ns:
            continue
        _, before = earlier.at(event.at_ns - 1)
        _, after = later.at(event.at_ns + around_ns)
        if seen is None or seen[0] is not before or seen[1] is not after:
            lines.see(filtered(builder.build(*before), filters))
            lines.see(filtered(builder.build(*after), filters))
            seen = before, after
        if filters != NO_FILTERS and not lines.knows(event):
            continue
        if (line := lines.of(event)) is not None:
            yield line
