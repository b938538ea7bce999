"""Finds the file of a model whose values are out of reach: by tensor names and shapes, and by when files were read.

What is written into an accelerator's memory parameter by parameter calls nothing that is observed. A file that was read and has
a tensor of each name and shape may be what was written; one that is known to have been read for another model is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.evidence import MatchedFiles
from gpumodels.naming.model_samples import ModelSamples, SampleReader
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.checkpoint_values import READABLE, CheckpointValues
from gpumodels.provenance.files_before import FilesBefore
from gpumodels.provenance.files_read import ReadFile, stamp_of
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import same_names_and_shapes

MAX_GUESSES: Final = 16
"""If more files than this fit, they say nothing."""
BYTES_BESIDE_A_TENSOR: Final = 1024
"""So many bytes a file holds for each tensor besides its values, at most."""
READ_BEFORE_NS: Final = 120 * 10**9
"""A file may be read so long before the model is created that its values are loaded into."""


@never_pickled
class ShapeMatching:
    """Compares the names and shapes of models' tensors with those in files. Remembers nothing about models."""

    def __init__(
        self,
        registry: ModuleRegistry,
        origin_tracker: OriginTracker,
        checkpoints: CheckpointValues,
        samples: SampleReader,
        pause: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._origin_tracker = origin_tracker
        self._checkpoints = checkpoints
        self._samples = samples
        self._pause = pause

    def match(
        self,
        found: FoundModel,
        samples: ModelSamples,
        groups: Mapping[str, Sequence[ReadFile]],
        among: tuple[str, ...] | None,
        before: MatchedFiles | None,
        rivals: Sequence[int],
    ) -> MatchedFiles:
        """The files that have a tensor of its name and shape for each of the model's; of several, the one that was its turn.

        Args:
            found: the model.
            samples: its values, where some were in reach once.
            groups: files by checkpoint.
            among: the paths that may be it, if it is known which were read for it. Otherwise files that are known to have been
                read for another model are but a guess.
            before: the last answer, which holds until the model is written to again.
            rivals: when the other models of this structure were built whose files aren't known either.
        """
        writes = self._samples.writes(samples)
        is_own = among is None and before is not None and before.match is None and not before.is_guess
        own = frozenset(before.paths) if is_own and before is not None else frozenset[str]()
        if before is not None and own and before.writes == writes and _is_one(groups, own):
            return before
        built_ns = self._registry.built_ns(found.core)
        wanted = dict(self._samples.shapes(found))
        fitting = [
            checkpoint
            for checkpoint, files in groups.items()
            if self._may_be_from(files, built_ns - READ_BEFORE_NS, among) and self._fits(wanted, checkpoint, files)
        ]
        for_others = [checkpoint for checkpoint in fitting if among is None and self._is_explained(groups[checkpoint], own)]
        is_guess = len(for_others) == len(fitting) > 0
        if not is_guess:
            fitting = [checkpoint for checkpoint in fitting if checkpoint not in for_others]
        if among is None and len(fitting) > 1 and built_ns and not is_guess:
            reads = {checkpoint: max(file.read_ns for file in groups[checkpoint]) for checkpoint in fitting}
            turn = read_in_its_turn(built_ns, rivals, reads)
            fitting = fitting if turn is None else [turn]
        paths = tuple(file.path for checkpoint in fitting for file in groups[checkpoint])
        return MatchedFiles(None, paths, is_guess=is_guess, writes=writes)

    def guess(
        self, found: FoundModel, samples: ModelSamples, files_before: FilesBefore, is_unreadable: bool = False
    ) -> MatchedFiles:
        """The files that a model may be from which was there before it could be observed: of the best kind of which any fit.

        Pickles, whose names and shapes aren't known, fit by their size; so do all, if none fits by names and shapes: its tensors
        may have been fused.

        Args:
            found: the model.
            samples: its values, where some were in reach once.
            files_before: the files that the process may have read.
            is_unreadable: whether only files count whose values can't be compared.
        """
        writes = self._samples.writes(samples)
        wanted = dict(self._samples.shapes(found))
        for groups in files_before.by_kind():
            readable = {name: files for name, files in groups.items() if files[0].path.endswith(READABLE)}
            others = [files for name, files in groups.items() if name not in readable]
            by_shapes = [files for name, files in readable.items() if not is_unreadable and self._fits(wanted, name, files)]
            by_size = others if is_unreadable or by_shapes else [*readable.values(), *others]
            fitting = [*by_shapes, *(files for files in by_size if self._is_of_its_size(found, len(wanted), files))]
            if fitting:
                paths = tuple(file.path for files in fitting for file in files) if len(fitting) <= MAX_GUESSES else ()
                return MatchedFiles(None, paths, is_guess=bool(paths), writes=writes)
        return MatchedFiles(None, writes=writes)

    def _is_of_its_size(self, found: FoundModel, tensors: int, files: Sequence[ReadFile]) -> bool:
        self._pause()
        size = sum(stamp.size_bytes for file in files if (stamp := stamp_of(file.path)) is not None)
        return 0 <= size - found.held_bytes <= found.held_bytes // 100 + tensors * BYTES_BESIDE_A_TENSOR

    def _may_be_from(self, files: Sequence[ReadFile], since_ns: int, among: tuple[str, ...] | None) -> bool:
        self._pause()
        if any(0 < file.read_ns < since_ns for file in files):
            return False  # read long before there was such a model
        return among is None or any(file.path in among for file in files)

    def _is_explained(self, files: Sequence[ReadFile], own: frozenset[str]) -> bool:
        """Whether these are known to have been read for another model."""
        paths = {file.path for file in files}
        return paths.isdisjoint(own) and all(map(self._origin_tracker.files_read.is_explained, paths))

    def _fits(self, wanted: Mapping[str, tuple[int, ...]], checkpoint: str, files: Sequence[ReadFile]) -> bool:
        with self._checkpoints.values_of(checkpoint, files) as values:
            return values is not None and bool(wanted) and same_names_and_shapes(wanted, values.tensors)


def read_in_its_turn(built_ns: int, rivals: Sequence[int], reads: Mapping[str, int]) -> str | None:
    """Which of several files belongs to a model, where models were built and files were read in turn; else None.

    Args:
        built_ns: when the model was built.
        rivals: when others were that may be from these files.
        reads: when each of the files was read, by checkpoint.
    """
    events = sorted([(built, "") for built in (built_ns, *rivals)] + [(read, checkpoint) for checkpoint, read in reads.items()])
    is_read = [bool(checkpoint) for _, checkpoint in events]
    if len(rivals) + 1 != len(reads) or any(one is other for one, other in pairwise(is_read)):
        return None
    number = sorted((built_ns, *rivals)).index(built_ns)
    return sorted(reads, key=reads.__getitem__)[number]


def _is_one(groups: Mapping[str, Sequence[ReadFile]], paths: frozenset[str]) -> bool:
    """Whether these are the files of one checkpoint."""
    return sum(any(file.path in paths for file in files) for files in groups.values()) == 1
