"""Whether a model still holds what its files hold: compared again when values change; tensors are counted where it is patched."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.agreement import Agreement, Elements, agreement
from gpumodels.naming.evidence import FileAgreement
from gpumodels.naming.model_samples import ModelSamples, SampleReader
from gpumodels.naming.parts_of_files import is_made_of_a_part
from gpumodels.provenance.checkpoint_values import CheckpointValues
from gpumodels.provenance.files_read import ReadFile, Stamp
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import VALUES, FileIndex, FileValues, choose_samples, elements_of
from gpumodels_shared.schema import TensorSample
from gpumodels_shared.shards import checkpoint_of

MAX_TENSORS: Final = 20_000
"""For a model with more, reading its file's header takes too much of the host's time."""
DOUBTFUL_FROM: Final = 0.2
"""If the smaller of what agrees and what doesn't is more than this part, more samples are compared."""
COUNT_AGAIN_SECONDS: Final = 60.0
"""A model in training differs at every scan; its tensors are not counted at every scan."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about one model and its files, and from what."""

    samples: ModelSamples
    files: Mapping[str, Stamp | None]
    agreement: FileAgreement
    counted_at: float = float("-inf")
    """When all tensors were counted, on a monotonic clock; infinity where that is impossible."""


@never_pickled
class Verification:
    """Compares models with the files that they are named by. Remembers nothing."""

    def __init__(
        self,
        origin_tracker: OriginTracker,
        checkpoints: CheckpointValues,
        samples: SampleReader,
        pause: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin_tracker = origin_tracker
        self._checkpoints = checkpoints
        self._samples = samples
        self._pause = pause
        self._clock = clock

    def check(self, samples: ModelSamples, files: Mapping[str, Stamp | None], before: Checked | None) -> Checked | None:
        """How the model agrees with these files; None where its values are out of reach, or the files have changed.

        Args:
            samples: the model's, as they are now.
            files: what it is named by, each with its stamp at the time when it was read.
            before: the last answer, which is given again while nothing changes.
        """
        if before is not None and before.samples is samples and before.files == files:
            return self._counted(before)
        if not samples.are_most or samples.tensors > MAX_TENSORS:
            return None
        others: list[TensorSample] = []
        of_samples = self._compare(files, samples.in_reach, others, elements_of(samples.in_reach, samples.wanted.large))
        if of_samples is None:
            return None
        if _is_doubtful(of_samples.elements):
            more = self._samples.more_of(samples)
            of_more = self._compare(files, more.samples, weights=more.elements)
            of_samples = of_samples if of_more is None else replace(of_samples, counted_elements=of_more.elements)
        counted_at = before.counted_at if before is not None and before.files == files else float("-inf")
        return self._counted(Checked(samples, files, FileAgreement(of_samples, others=tuple(others)), counted_at))

    def _counted(self, checked: Checked) -> Checked:
        """The same with all tensors counted, where that is due."""
        now, known = self._clock(), checked.agreement
        if not known.of_samples.is_patched or known.of_all_tensors is not None or now - checked.counted_at < COUNT_AGAIN_SECONDS:
            return checked
        of_all = self._compare(checked.files, self._samples.in_host_memory(checked.samples.found))
        counted_at = now if of_all is not None else float("inf")
        return replace(checked, agreement=replace(known, of_all_tensors=of_all), counted_at=counted_at)

    def _compare(
        self,
        files: Mapping[str, Stamp | None],
        samples: Iterable[TensorSample],
        others: list[TensorSample] | None = None,
        weights: Sequence[float] | None = None,
    ) -> Agreement | None:
        with self._indexes_of(files) as readable:
            return agreement(samples, readable, self._pause, others=others, weights=weights) if readable else None

    @contextmanager
    def _indexes_of(self, files: Mapping[str, Stamp | None]) -> Iterator[Sequence[FileIndex]]:
        """A context with the index of each checkpoint that can be read; empty if a file has changed since it was read."""
        checkpoints: dict[str, list[ReadFile]] = {}
        for file in self._origin_tracker.files_read.of([*files]):
            if file.stamp != files[file.path]:
                checkpoints.clear()
                break
            checkpoints.setdefault(checkpoint_of(file.path), []).append(file)
        with ExitStack() as opened:
            found: list[FileIndex] = []
            for checkpoint, of_one in checkpoints.items():
                values = opened.enter_context(self._checkpoints.values_of(checkpoint, of_one))
                if values is not None:
                    found.append(self._checkpoints.index_of(checkpoint, of_one, values))
            yield found

    def compare_files(self, files: Sequence[ReadFile], others: Sequence[ReadFile]) -> Agreement | None:
        """How some tensors in the first files agree with the others; None where one of them can't be read."""
        stamps, other_stamps = ({file.path: file.stamp for file in several} for several in (files, others))
        with self._indexes_of(stamps) as of_files, self._indexes_of(other_stamps) as of_others:
            if not of_others:
                return None
            taken = [sample for one in of_files for sample in _samples_of(one.file, self._pause)]
            return agreement(taken, of_others, self._pause, weights=elements_of(taken)) if taken else None

    def has_little_of(self, found: FoundModel, files: Mapping[str, Stamp | None]) -> bool:
        """Whether the model is made of a part of these files, and of parts that they don't have; no, if they can't be read."""
        keys = {key for key, _ in self._samples.shapes(found)}
        with self._indexes_of(files) as readable:
            elements = {key: math.prod(shape) for one in readable for key, (_, shape) in one.file.tensors.items()}
        return bool(elements) and is_made_of_a_part(keys, elements)


def _is_doubtful(elements: Elements) -> bool:
    """Whether a few samples don't tell surely enough which part is the larger one."""
    smaller = min(elements.kept, elements.different)
    return DOUBTFUL_FROM * (elements.kept + elements.different) < smaller


def _samples_of(values: FileValues, pause: Callable[[], None]) -> Sequence[TensorSample]:
    """Samples of a file's tensors."""

    def sample(key: str) -> TensorSample | None:
        dtype, shape = values.tensors[key]
        data = values.read(key, 0, VALUES) if math.prod(shape) >= VALUES else b""
        return TensorSample(key, dtype, shape, data) if data else None

    return choose_samples({key: math.prod(shape) for key, (_, shape) in values.tensors.items()}, sample, pause)
