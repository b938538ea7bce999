"""Finds the file of a model whose loading wasn't seen: by its values, among the files that were read or that its config names.

Nothing is guessed: values agree exactly or not at all, and where they can't be had, names and shapes count only if a single
file has them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.agreement import agreement
from gpumodels.naming.evidence import ComparedCheckpoint, MatchedFiles
from gpumodels.naming.model_samples import Currency, ModelSamples, SampleReader
from gpumodels.naming.shape_matching import ShapeMatching
from gpumodels.naming.stated_files import files_at, was_read
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.checkpoint_values import READABLE, CheckpointValues
from gpumodels.provenance.files_before import FilesBefore
from gpumodels.provenance.files_read import ReadFile, stamp_of
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import (
    COARSE_CLOCK_NS,
    MOST_OF_A_FEW,
    NUMBERS,
    TENSORS,
    DecodedSample,
    FileIndex,
    Match,
    best_files,
    decode_samples,
    same_names_and_shapes,
)
from gpumodels_shared.schema import Fingerprint
from gpumodels_shared.shards import checkpoint_of


@never_pickled
class FileMatching:
    """Compares models with files. Remembers nothing about models."""

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
        self._by_shapes = ShapeMatching(registry, origin_tracker, checkpoints, samples, pause)

    def match(
        self,
        found: FoundModel,
        samples: ModelSamples,
        stated_origins: Sequence[str],
        among: tuple[str, ...] | None,
        before: MatchedFiles | None = None,
        named: Sequence[str] = (),
        rivals: Sequence[int] = (),
        files_before: FilesBefore | None = None,
    ) -> MatchedFiles:
        """The files that the model agrees with. Holds no module or tensor while it pauses.

        Args:
            found: the model.
            samples: its values; where there are none, names and shapes are compared.
            stated_origins: where its config and its pipeline say that it was loaded from; the files there are compared, too.
            among: the only files whose names and shapes count, if it is known which were read for it.
            before: the last answer: the same values are as old as they were then, and are compared only with files read since.
            named: files that the host was told to use when it built the model, whether it was seen to read them or not.
            rivals: when the other models of this structure were built whose files aren't known either.
            files_before: where it may be from if it was there before it could be observed; else None. Its values decide, as with
                all files; where there are none, such a file is but a guess.
        """
        files_read, groups = self._origin_tracker.files_read, self._groups()
        if not samples.samples:
            by_shapes = self._by_shapes.match(found, samples, groups, among, before, rivals)
            if files_before is None or by_shapes.paths:
                return by_shapes
            return self._by_shapes.guess(found, samples, files_before)
        stated_paths = [
            files_read.path_of(stamp_of(path)) or path for stated in stated_origins for path in files_at(stated)
        ]  # a file that was read is compared once, by whichever path
        for path in stated_paths:
            known = groups.get(checkpoint_of(path), ())
            if path not in {file.path for file in known}:
                groups[checkpoint_of(path)] = (*known, ReadFile(path, 0, None))
        for path in named:
            if path.endswith(READABLE) and files_read.path_of(stamp_of(path)) is None:
                groups.setdefault(checkpoint_of(path), (ReadFile(path, 0, None),))
        for checkpoint, files in files_before.all().items() if files_before is not None else ():
            if files[0].path.endswith(READABLE) and all(files_read.path_of(stamp_of(file.path)) is None for file in files):
                groups.setdefault(checkpoint, files)
        fingerprint = Fingerprint(samples.samples, self._first_seen_ns(found, samples))
        compared: dict[str, ComparedCheckpoint] = {}
        outdated = self._samples.currency_of(samples)
        if before is not None and before.fingerprint is not None and before.fingerprint.samples == samples.samples:
            if before.match is not None and before.match.is_full:
                return before
            fingerprint = before.fingerprint
            compared.update(before.compared)
        stated = {
            checkpoint
            for checkpoint, files in groups.items()
            if any(was_read(origin, [file.path for file in files]) for origin in stated_origins)
        }
        stated.update(map(checkpoint_of, stated_paths))
        contradicts_config = False
        wanted = decode_samples(fingerprint)
        for checkpoint, files in groups.items():
            self._pause()
            match, has_same_tensors = self._compare(
                samples, fingerprint, wanted, checkpoint, files, compared, is_stated=checkpoint in stated
            )
            contradicts_config |= has_same_tensors and not (match.is_full or match.is_patched)
        best = best_files({checkpoint: one.match for checkpoint, one in compared.items() if checkpoint in groups})
        if len(best) > 1:  # of equal ones, those that this process wrote are copies
            best = tuple(name for name in best if not self._is_own(groups[name])) or best
        paths = tuple(file.path for checkpoint in best for file in groups[checkpoint])
        most = max((compared[checkpoint].match for checkpoint in best), key=lambda match: match.weight, default=None)
        if outdated is not Currency.CURRENT:
            if not best:
                by_shapes = self._by_shapes.match(found, samples, groups, among, before, rivals)
                if by_shapes.paths:
                    is_guess = by_shapes.is_guess or (among is None and outdated is Currency.OUTDATED)
                    return replace(by_shapes, is_guess=is_guess)
            contradicts_config = False
        is_outdated = outdated is not Currency.CURRENT
        if not best and files_before is not None and found.adapter is None:
            guess = self._by_shapes.guess(found, samples, files_before, is_unreadable=True)
            if guess.paths:
                return replace(guess, fingerprint=fingerprint, compared=compared, is_outdated=is_outdated)
        return MatchedFiles(fingerprint, paths, most, contradicts_config and not best, is_outdated, compared=compared)

    def unclaimed(self, found: FoundModel, samples: ModelSamples) -> tuple[str, ...]:
        """The files with tensors of the model's names and shapes that aren't known to have been read for another model."""
        matched = self._by_shapes.match(found, samples, self._groups(), None, None, ())
        return () if matched.is_guess else matched.paths

    def _groups(self) -> dict[str, tuple[ReadFile, ...]]:
        """Files by checkpoint, without those that the host keeps offloaded weights in."""
        files_read, offload_paths = self._origin_tracker.files_read, self._origin_tracker.own_files.offload_paths
        return {
            checkpoint: files
            for checkpoint, files in files_read.groups().items()
            if not any(file.path in offload_paths for file in files)
        }

    def _is_own(self, files: Sequence[ReadFile]) -> bool:
        return all(self._origin_tracker.own_files.get(file.path) is not None for file in files)

    def _first_seen_ns(self, found: FoundModel, samples: ModelSamples) -> int:
        """When the model held these values first: now, or before they were saved if it did then."""
        saved_ns = self._origin_tracker.saved.first_ns(RawSample(one.dtype, one.shape, one.data) for one in samples.samples)
        if saved_ns is not None and self._registry.built_ns(found.core) < saved_ns:
            return saved_ns - COARSE_CLOCK_NS  # the file's own time may lag behind
        return time.time_ns()

    def _compare(
        self,
        samples: ModelSamples,
        fingerprint: Fingerprint,
        wanted: Sequence[DecodedSample],
        checkpoint: str,
        files: Sequence[ReadFile],
        compared: dict[str, ComparedCheckpoint],
        is_stated: bool,
    ) -> tuple[Match, bool]:
        """How the checkpoint agrees; and, if a config names it, whether it has tensors of all these names and shapes."""
        numbers = tuple(file.number for file in files)
        known = compared.get(checkpoint)
        if known is not None and known.file_numbers == numbers and not is_stated:
            return known.match, False
        match, has_same_tensors = Match(0, len(fingerprint.samples)), False
        if not any(_written_after(file, fingerprint.taken_at_ns) for file in files):
            with self._checkpoints.values_of(checkpoint, files) as values:
                if values is not None:
                    with suppress(OSError):  # it was removed just now: no evidence
                        match = self._checkpoints.match(checkpoint, files, values, wanted)
                        match = self._weighed(match, samples, self._checkpoints.index_of(checkpoint, files, values), is_stated)
                        shapes = {sample.key: sample.shape for sample in fingerprint.samples}
                        has_same_tensors = is_stated and same_names_and_shapes(shapes, values.tensors)
        compared[checkpoint] = ComparedCheckpoint(numbers, match)
        return match, has_same_tensors

    def _weighed(self, match: Match, samples: ModelSamples, index: FileIndex, is_stated: bool) -> Match:
        """The same, where some samples agree and others don't: by more of them, since a few don't tell half from a third.

        What something was merged into is the file's, if half of the samples agree. If fewer do, this may be the file that the
        model was trained from, and not its own. That all agree but for rounding is found out where a few agree exactly, or where
        the model says that it is from there.
        """
        if match.is_full or (match.matched < MOST_OF_A_FEW and not is_stated):
            return match
        chosen, weights = self._samples.more_of(samples)
        found = agreement(chosen, [index], self._pause, weights=weights)
        if found is None:
            # Too many tensors may be the renamed ones to tell what was changed from what is another's: the samples decide alone.
            is_mostly_kept = 2 * match.matched >= min(match.compared, TENSORS)  # of large ones alone there may be some more
            rest = match.compared_weight - match.weight if is_mostly_kept else 0.0
            return replace(match, changed_elements=rest)
        is_quantized = any(sample.dtype not in NUMBERS for sample in chosen)
        if is_quantized and found.compared < len(chosen) and match.compared == len(samples.samples):
            return match  # its blocks aren't this file's, and the rest, which may be, is not all of it
        elements = found.elements
        if elements.matched == elements.in_all:
            return Match(match.compared, match.compared, match.compared_weight, match.compared_weight)  # but for rounding
        scale = match.compared_weight / elements.in_all if elements.in_all else 0.0
        changed = scale * elements.related if match.is_patched or 2 * match.matched >= match.compared else 0.0
        return Match(match.matched, match.compared, scale * elements.matched, match.compared_weight, changed)


def _written_after(file: ReadFile, moment_ns: int) -> bool:
    """Whether the file is younger than the values: then they were saved to it, not loaded from it."""
    if file.stamp is not None:
        return file.stamp.modified_ns > moment_ns - COARSE_CLOCK_NS
    try:
        return os.stat(file.path).st_mtime_ns > moment_ns - COARSE_CLOCK_NS
    except OSError:
        return False  # it was removed after it was read
