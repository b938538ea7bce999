"""The values in model files that this process read, or could have: as they were sampled, or by reading the files again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from gpumodels.provenance.files_read import JoinedFiles, ReadFile, stamp_of
from gpumodels.provenance.safetensors_values import SafetensorsValues
from gpumodels.support.resident import resident
from gpumodels_shared.fingerprint import FileIndex, FileValues, Match, SoughtSample

READABLE: Final = (".safetensors", ".sft")
MAX_KEPT_TENSORS: Final = 100_000
MAX_KEPT_VALUES: Final = 20_000
"""In the indexes of all checkpoints: some 12 MB."""


@resident
class CheckpointValues:
    """Headers of what was compared are kept, by checkpoint: many models are compared with the same files."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause
        self._known: dict[str, SafetensorsValues] = {}
        """The latest last."""
        self._indexes: dict[str, tuple[tuple[int, ...], FileIndex]] = {}
        """The same, with the numbers of their files."""

    def match(self, whole: str, files: Sequence[ReadFile], values: FileValues, samples: Sequence[SoughtSample]) -> Match:
        """How many of the samples agree with this checkpoint, whose values were just got by `values_of`."""
        numbers = tuple(file.number for file in files)
        known = self._indexes.pop(whole, None)
        index = known[1] if known is not None and known[0] == numbers and known[1].file is values else FileIndex(values)
        found = index.match(samples)
        self._indexes[whole] = numbers, index
        kept = sum(len(index) for _, index in self._indexes.values())
        while kept > MAX_KEPT_VALUES and len(self._indexes) > 1:
            kept -= len(self._indexes.pop(next(iter(self._indexes)))[1])
        return found

    @contextmanager
    def values_of(self, whole: str, files: Sequence[ReadFile]) -> Iterator[FileValues | None]:
        """One checkpoint's values; None where they can't be had, or where its files aren't those any more that were read."""
        sampled = [file.values for file in files if file.values is not None]
        if len(sampled) == len(files):
            yield sampled[0] if len(sampled) == 1 else JoinedFiles(sampled)
            return
        opened = self._opened(whole, files)
        try:
            yield opened
        finally:
            if opened is not None:
                opened.close()

    def _opened(self, whole: str, files: Sequence[ReadFile]) -> SafetensorsValues | None:
        known = self._known.pop(whole, None)
        paths = tuple(file.path for file in files)
        try:
            if not all(path.endswith(READABLE) for path in paths):
                return None
            stamps = tuple(map(stamp_of, paths))
            if any(file.stamp is not None and file.stamp != stamp for file, stamp in zip(files, stamps, strict=True)):
                return None
            if known is None or known.stamps != stamps:
                known = SafetensorsValues(paths, self._pause)
        except (OSError, ValueError):
            return None  # it went, changed, or isn't what its name says: no evidence
        self._known[whole] = known
        while sum(len(values.tensors) for values in self._known.values()) > MAX_KEPT_TENSORS:
            self._known.pop(next(iter(self._known)))
        return known
