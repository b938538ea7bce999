"""The timeline's events and graphs at any moment of a recording."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import Final

from gpumodels_tui.recording.reading import Recording
from gpumodels_tui.view.events import Event, History
from gpumodels_tui.view.recorder import KEPT_SECONDS, MOST_EVENTS, SAMPLE_SECONDS, Recorder

LOOKED_BACK: Final = 3 * MOST_EVENTS
"""How many events are folded into the list, which keeps `MOST_EVENTS`."""


class TimelineHistory:
    """Goes forwards cheaply: only what is new is folded into the list."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._recorder = Recorder()
        self._count = 0
        self._events: tuple[Event, ...] = ()
        self._sampled = -1
        self._history = History()

    def at(self, at_ns: int) -> History:
        """What a viewer would have had at this moment. The identical object while nothing is new."""
        count = bisect_right(self._recording.events, at_ns, key=attrgetter("at_ns"))
        sampled = bisect_right(self._recording.samples, at_ns, key=attrgetter("at_ns"))
        if count == self._count and sampled == self._sampled:
            return self._history
        if count < self._count:
            self._recorder, self._count = Recorder(), 0
        for event in self._recording.events[max(self._count, count - LOOKED_BACK) : count]:
            self._recorder.remember(event)
        if count != self._count or not count:
            self._events = self._recorder.events
        self._count, self._sampled = count, sampled
        self._history = History(self._events, self._samples(at_ns, sampled))
        return self._history

    def _samples(self, at_ns: int, count: int) -> dict[str, tuple[tuple[int, int | None], ...]]:
        """The most bytes used in each few seconds of the last hour; None from where on they are unknown."""
        first = bisect_right(self._recording.samples, at_ns - KEPT_SECONDS * 10**9, key=attrgetter("at_ns"))
        steps: dict[str, dict[int, int | None]] = {}
        before: int | None = None
        for sample in self._recording.samples[first:count]:
            second = sample.at_ns // 10**9 // SAMPLE_SECONDS * SAMPLE_SECONDS
            has_gap = before is not None and sample.at_ns - before > self._recording.gap_ns
            for key, values in steps.items():
                if (
                    before is not None
                    and (has_gap or key not in sample.used)
                    and values[last := next(reversed(values))] is not None
                ):
                    values[max(before // 10**9 + 1, last + 1)] = None
            for key, used in sample.used.items():
                values = steps.setdefault(key, {})
                values[second] = max(used, values.get(second) or 0)
            before = sample.at_ns
        return {key: tuple(sorted(values.items())) for key, values in steps.items()}
