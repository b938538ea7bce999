"""The files that this process wrote, and where the values in them came from.

Libraries write weights to files of their own to free memory, and read them back: whatever these files are called, the values are
still from where they were loaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import Origin
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import WeakTable

MAX_FILES: Final = 20_000
"""The most files remembered; accelerate writes one for each tensor."""
MAX_HASHES: Final = 100_000
"""The most tensors whose values are remembered, as hashes: about 10 MB."""
MAX_RETURNED: Final = 1_000
"""From so many files each module may have got its own values again."""


@never_pickled
@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file that this process wrote."""

    sources: frozenset[str]
    """The files that its values came from; empty if that isn't known of all of them."""
    origin: Origin | None
    """Where its first tensor's values came from."""
    sample: RawSample | None
    """Of the only tensor in it; None if there are several, or it couldn't be sampled."""
    hashes: frozenset[int]
    """Of its tensors' samples."""


@never_pickled
class OwnFiles:
    """The files written most recently. The host's threads add to it."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, OwnFile] = OrderedDict()
        self._hashes = 0
        self.offload_paths: set[str] = set()
        """Files in which a library keeps weights while they are offloaded: they say nothing about where these came from."""
        self._returned: WeakTable[frozenset[str]] = WeakTable()
        """By module, the files from which its own values were loaded into it again."""

    def __len__(self) -> int:
        return len(self._files)

    def add(self, path: str, origins: Sequence[Origin | None], samples: Sequence[RawSample | None]) -> None:
        """Add a file that is about to be written.

        Args:
            path: its absolute path.
            origins: of each tensor's values.
            samples: of each tensor, in the same order.
        """
        known = [origin for origin in origins if origin is not None and origin.path]
        sources = frozenset(origin.path for origin in known) if known and len(known) == len(origins) else frozenset[str]()
        hashes = frozenset(hash(sample) for sample in samples if sample is not None)
        self._drop(path)
        self._files[path] = OwnFile(sources, known[0] if sources else None, samples[0] if len(samples) == 1 else None, hashes)
        self._hashes += len(hashes)
        while self._files and (len(self._files) > MAX_FILES or self._hashes > MAX_HASHES):
            self._drop(next(iter(self._files)))

    def add_offload_path(self, path: str) -> None:
        """Add a file to `offload_paths`."""
        if len(self.offload_paths) < MAX_FILES:
            self.offload_paths.add(path)

    def add_returned(self, module: Any, path: str) -> None:
        """Note that a module's values, which were written to this file, are loaded into it again."""
        known = self._returned.get(module) or frozenset()
        if len(known) < MAX_RETURNED:
            self._returned.put(module, known | {path})

    def is_returned(self, module: Any, path: str) -> bool:
        """Whether that was noted."""
        return path in (self._returned.get(module) or ())

    def get(self, path: str) -> OwnFile | None:
        """The file at this path; None if this process didn't write it."""
        return self._files.get(path)

    def _drop(self, path: str) -> None:
        dropped = self._files.pop(path, None)
        if dropped is not None:
            self._hashes -= len(dropped.hashes)
