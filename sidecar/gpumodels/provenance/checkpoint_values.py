"""The values of the tensors in checkpoints: from the samples taken while the host read a file, or by reading the file again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from gpumodels.provenance.files_read import JoinedFiles, ReadFile, stamp_of
from gpumodels.provenance.safetensors_values import SafetensorsValues
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.file_names import is_named_by_content
from gpumodels_shared.fingerprint import DecodedSample, FileIndex, FileValues, Match

READABLE: Final = (".safetensors", ".sft")
MAX_KEPT_TENSORS: Final = 100_000
MAX_KEPT_VALUES: Final = 20_000
"""The most values kept in the indexes of all checkpoints: about 12 MB."""


@never_pickled
class CheckpointValues:
    """A cache of checkpoints' headers and compared values, since many models are compared with the same files."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause
        self._values: dict[str, SafetensorsValues] = {}
        """By checkpoint, least recently used first."""
        self._indexes: dict[str, tuple[tuple[int, ...], FileIndex]] = {}
        """By checkpoint, least recently used first: the `ReadFile.number`s of its files, and the index."""

    def match(self, checkpoint: str, files: Sequence[ReadFile], values: FileValues, samples: Sequence[DecodedSample]) -> Match:
        """How many of the samples agree with this checkpoint, whose `values` `values_of` just returned."""
        return self.index_of(checkpoint, files, values).match(samples)

    def index_of(self, checkpoint: str, files: Sequence[ReadFile], values: FileValues) -> FileIndex:
        """The index of this checkpoint, whose `values` `values_of` just returned: the same as long as it is the same."""
        numbers = tuple(file.number for file in files)
        kept = self._indexes.pop(checkpoint, None)
        index = kept[1] if kept is not None and kept[0] == numbers and kept[1].file is values else FileIndex(values)
        kept_values = len(index) + sum(len(other) for _, other in self._indexes.values())
        while kept_values > MAX_KEPT_VALUES and self._indexes:
            kept_values -= len(self._indexes.pop(next(iter(self._indexes)))[1])
        self._indexes[checkpoint] = numbers, index
        return index

    @contextmanager
    def values_of(self, checkpoint: str, files: Sequence[ReadFile]) -> Iterator[FileValues | None]:
        """A context with the checkpoint's values; None if its files can't be read, or have changed since the host read them."""
        sampled = [file.values for file in files if file.values is not None]
        if len(sampled) == len(files):
            yield sampled[0] if len(sampled) == 1 else JoinedFiles(sampled)
            return
        opened = self._opened(checkpoint, files)
        try:
            yield opened
        finally:
            if opened is not None:
                opened.close()

    def _opened(self, checkpoint: str, files: Sequence[ReadFile]) -> SafetensorsValues | None:
        known = self._values.pop(checkpoint, None)
        paths = tuple(file.path for file in files)
        try:
            if not all(path.endswith(READABLE) or is_named_by_content(path) for path in paths):
                return None
            stamps = tuple(map(stamp_of, paths))
            if any(file.stamp is not None and file.stamp != stamp for file, stamp in zip(files, stamps, strict=True)):
                return None
            if known is None or known.stamps != stamps:
                known = SafetensorsValues(paths, self._pause)
        except (OSError, ValueError):
            return None  # removed, changed, or not a safetensors file: no evidence
        self._values[checkpoint] = known
        while sum(len(values.tensors) for values in self._values.values()) > MAX_KEPT_TENSORS:
            self._values.pop(next(iter(self._values)))
        return known
