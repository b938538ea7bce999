"""Whether a model still holds what its file holds: looked at anew when its values changed, and counted where it was patched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from gpumodels.naming.agreement import Agreement, agreement
from gpumodels.naming.model_samples import ModelSamples, SampleReader
from gpumodels.provenance.checkpoint_values import CheckpointValues
from gpumodels.provenance.files_read import ReadFile, Stamp
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.resident import resident
from gpumodels_shared.file_names import checkpoint_of
from gpumodels_shared.schema import TensorSample

MAX_TENSORS: Final = 20_000
"""Of a model with more, reading its file's header takes too much of the host's time."""
COUNT_AGAIN_SECONDS: Final = 60.0
"""A model in training is patched otherwise at every look; it isn't counted at every look."""


@resident
@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about one model and its files."""

    values: ModelSamples
    files: Mapping[str, Stamp | None]
    of_samples: Agreement
    of_all: Agreement | None = None
    """Of all tensors in reach, where some samples don't agree."""
    counted_at: float = float("-inf")
    """When, on a monotonic clock; infinity where it can't be."""


@resident
class Verification:
    """Compares models with the files that they are named by. Remembers nothing."""

    def __init__(
        self,
        origin_tracker: OriginTracker,
        checkpoints: CheckpointValues,
        own: SampleReader,
        pause: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin_tracker = origin_tracker
        self._checkpoints = checkpoints
        self._own = own
        self._pause = pause
        self._clock = clock

    def check(self, values: ModelSamples, files: Mapping[str, Stamp | None], before: Checked | None) -> Checked | None:
        """How the model agrees with these files; None where its values are out of reach, or the files aren't there as they were.

        Args:
            values: the model's samples, just taken.
            files: what it is named by, with what each was then.
            before: what was found out the last time, which is the answer again while nothing changed.
        """
        if before is not None and before.values is values and before.files == files:
            return self._counted(before)
        if not values.are_most or values.tensors > MAX_TENSORS:
            return None
        compared = self._compare(files, values.in_reach)
        if compared is None:
            return None
        counted_at = before.counted_at if before is not None and before.files == files else float("-inf")
        return self._counted(Checked(values, files, compared, counted_at=counted_at))

    def _counted(self, checked: Checked) -> Checked:
        """With all tensors counted, where that is due."""
        now = self._clock()
        if not checked.of_samples.is_patched or checked.of_all is not None or now - checked.counted_at < COUNT_AGAIN_SECONDS:
            return checked
        of_all = self._compare(checked.files, self._own.all_in_reach(checked.values.found))
        return replace(checked, of_all=of_all, counted_at=now if of_all is not None else float("inf"))

    def _compare(self, files: Mapping[str, Stamp | None], samples: Iterable[TensorSample]) -> Agreement | None:
        checkpoints: dict[str, list[ReadFile]] = {}
        for file in self._origin_tracker.files_read.of([*files]):
            if file.stamp != files[file.path]:
                return None
            checkpoints.setdefault(checkpoint_of(file.path), []).append(file)
        with ExitStack() as opened:
            found = [opened.enter_context(self._checkpoints.values_of(whole, those)) for whole, those in checkpoints.items()]
            there = [one for one in found if one is not None]
            return agreement(samples, there, self._pause) if there else None
