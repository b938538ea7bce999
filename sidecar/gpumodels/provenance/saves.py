"""Remembers the values that this process saves: they existed before the file did, so the file isn't where they came from.

They are noted when they are saved, which may be before the first scan: a model that is built and saved at once would look, a
second later, as if it had been loaded from that file.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from gpumodels.provenance.host_samples import RawSample
from gpumodels.support.never_pickled import never_pickled

MAX_KEPT: Final = 100_000
"""The most tensors whose values are remembered, as hashes: about 10 MB."""


@never_pickled
class SavedValues:
    """When values were first saved, realtime nanoseconds. The host's threads write to it."""

    def __init__(self) -> None:
        self._saved_ns: OrderedDict[int, int] = OrderedDict()

    def note(self, samples: Iterable[RawSample]) -> None:
        """Note samples of tensors that are about to be written to a file."""
        now = time.time_ns()
        for sample in samples:
            self._saved_ns.setdefault(hash(sample), now)
        while len(self._saved_ns) > MAX_KEPT:
            self._saved_ns.popitem(last=False)

    def first_ns(self, samples: Iterable[RawSample]) -> int | None:
        """When at least half of these samples had been saved, realtime nanoseconds; None if fewer were."""
        times = [self._saved_ns.get(hash(sample)) for sample in samples]
        saved = sorted(time_ns for time_ns in times if time_ns is not None)
        half = (len(times) + 1) // 2
        return saved[half - 1] if saved and len(saved) >= half else None
