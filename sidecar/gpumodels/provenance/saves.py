"""What this process saves: values that are written to a file were there before it, so the file isn't where they came from.

Seen at saving, when the values may not have been looked at yet: a model that is built and saved at once looks, a second later,
as if it had been loaded from that file.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from gpumodels.provenance.host_samples import RawSample
from gpumodels.support.resident import resident

MAX_KEPT: Final = 100_000
"""Tensors whose values are remembered, by a hash: some 10 MB."""


@resident
class SavedValues:
    """When values were first saved. Written to in the host's threads."""

    def __init__(self) -> None:
        self._saved_ns: OrderedDict[int, int] = OrderedDict()

    def note(self, samples: Iterable[RawSample]) -> None:
        """These are about to be written to a file."""
        now = time.time_ns()
        for sample in samples:
            self._saved_ns.setdefault(hash(sample), now)
        while len(self._saved_ns) > MAX_KEPT:
            self._saved_ns.popitem(last=False)

    def first_ns(self, samples: Iterable[RawSample]) -> int | None:
        """When the first half of these, or more, had been saved; None where they weren't."""
        known = [self._saved_ns.get(hash(sample)) for sample in samples]
        saved = sorted(moment for moment in known if moment is not None)
        half = (len(known) + 1) // 2
        return saved[half - 1] if saved and len(saved) >= half else None
