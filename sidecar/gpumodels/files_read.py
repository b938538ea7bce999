"""Model files that this process read, and what of them can be compared: among these, a model's values are looked for first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gpumodels.sampling import RawSample
from gpumodels_shared.file_names import checkpoint_of
from gpumodels_shared.fingerprint import FileValues

MAX_FILES: Final = 512
MAX_KEPT_SAMPLES: Final = 100_000
"""Samples of files that can't be read again by position (pickles, GGUF), all together: some 20 MB."""


class SampledFile:
    """A file by the samples that were taken while the host read it: the start of every tensor, nothing further in."""

    def __init__(self, samples: Mapping[str, RawSample]) -> None:
        self._samples = samples
        self.tensors = {key: (sample.dtype, sample.shape) for key, sample in samples.items()}

    def read(self, key: str, start: int, count: int) -> bytes:
        """The sample, if it is what is asked for."""
        sample = self._samples[key]
        return sample.data if start == 0 else b""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """One file."""

    path: str
    number: int
    """Another number, another content: it was read anew in a way that brought other values."""
    values: FileValues | None
    """None: it can be read again."""


class FilesRead:
    """The newest ones. Added to in the host's threads."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, ReadFile] = OrderedDict()
        self.version = 0
        """Goes up when a file is read."""

    def add(self, path: str, values: FileValues | None = None) -> None:
        """The host reads this file."""
        known = self._files.pop(path, None)
        if known is None or values is not None:
            self.version += 1
            known = ReadFile(path, self.version, values)
        self._files[path] = known
        while len(self._files) > MAX_FILES or self._kept_samples() > MAX_KEPT_SAMPLES:
            self._files.popitem(last=False)

    def groups(self) -> dict[str, tuple[ReadFile, ...]]:
        """Files by checkpoint: a single file, or all the shards of one. The newest come last."""
        found: dict[str, list[ReadFile]] = {}
        for file in list(self._files.values()):
            found.setdefault(checkpoint_of(file.path), []).append(file)
        return {whole: tuple(sorted(files, key=lambda file: file.path)) for whole, files in found.items()}

    def _kept_samples(self) -> int:
        return sum(len(file.values.tensors) for file in self._files.values() if file.values is not None)
