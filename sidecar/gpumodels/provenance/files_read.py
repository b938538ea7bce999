"""Model files that this process read, and what of them can be compared: among these, a model's values are looked for first."""

from __future__ import annotations

import heapq
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from gpumodels.provenance.host_samples import RawSample
from gpumodels.support.brief_lock import BriefLock
from gpumodels.support.resident import resident
from gpumodels_shared.file_names import checkpoint_of
from gpumodels_shared.fingerprint import FileValues, rank

MAX_FILES: Final = 512
MAX_KEPT_SAMPLES: Final = 100_000
"""Samples of files that can't be read again by position (pickles, GGUF), all together: some 20 MB."""
MAX_SAMPLES_OF_ONE: Final = MAX_KEPT_SAMPLES // 2
"""A file of more tensors is known by those that models' samples are chosen from first; it drives no other out."""


@resident
class Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    size_bytes: int
    modified_ns: int


def stamp_of(path: str) -> Stamp | None:
    """The file's, as it is now; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


@resident
class SampledFile:
    """A file by the samples that were taken while the host read it: the start of every tensor, nothing further in."""

    def __init__(self, samples: Mapping[str, RawSample]) -> None:
        if len(samples) > MAX_SAMPLES_OF_ONE:
            samples = {key: samples[key] for key in heapq.nsmallest(MAX_SAMPLES_OF_ONE, samples, key=rank)}
        self._samples = samples
        self.tensors = {key: (sample.dtype, sample.shape) for key, sample in samples.items()}

    def read(self, key: str, start: int, count: int) -> bytes:
        """The sample, if it is what is asked for."""
        sample = self._samples[key]
        return sample.data if start == 0 else b""


@resident
class JoinedFiles:
    """The shards of one checkpoint as one file."""

    def __init__(self, files: Sequence[FileValues]) -> None:
        self._holders = {key: file for file in files for key in file.tensors}
        self.tensors = {key: file.tensors[key] for key, file in self._holders.items()}

    def read(self, key: str, start: int, count: int) -> bytes:
        """What the shard that holds the tensor says."""
        return self._holders[key].read(key, start, count)


@resident
@dataclass(frozen=True, slots=True)
class ReadFile:
    """One file."""

    path: str
    number: int
    """Another number, another content: it was read anew when it had changed, or in a way that brought other values."""
    values: FileValues | None
    """None: it can be read again, for as long as it has the same stamp."""
    stamp: Stamp | None = None
    """What the file was when it was read; None where nobody saw that."""
    read_ns: int = 0
    """When it was read last, realtime nanoseconds; 0 where nobody saw that."""


@resident
class _Reader:
    """A thread of the host's. Its id would be another one's when it has ended."""

    has_loaded = False
    """It fills models with what it reads; else it reads for others, as the threads of a pool do."""


@resident
class FilesRead:
    """The newest ones. Added to in the host's threads."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, ReadFile] = OrderedDict()
        self.version = 0
        """Goes up when a file is read."""
        self._lock = BriefLock()
        self._thread = threading.local()
        self._since_load: OrderedDict[str, _Reader] = OrderedDict()
        """Paths that were read since something was loaded that may be from them, and by whom."""

    def add(self, path: str, values: FileValues | None = None) -> Stamp | None:
        """The host reads this file; what it is at this moment."""
        stamp = stamp_of(path)
        with self._lock:
            known = self._files.pop(path, None)
            if known is None or values is not None or known.stamp != stamp:
                self.version += 1
                self._files[path] = ReadFile(path, self.version, values, stamp, time.time_ns())
            else:
                self._files[path] = replace(known, read_ns=time.time_ns())
            self._since_load.pop(path, None)
            self._since_load[path] = self._reader()
            while len(self._since_load) > MAX_FILES:
                self._since_load.popitem(last=False)
            self._forget_oldest()
        return stamp

    def taken_since_load(self) -> tuple[str, ...]:
        """What was read since this was last asked: by this thread, or, if it read nothing, by threads that load nothing."""
        with self._lock:
            this = self._reader()
            this.has_loaded = True
            own = [path for path, reader in self._since_load.items() if reader is this]
            taken = own or [path for path, reader in self._since_load.items() if not reader.has_loaded]
            for path in taken:
                del self._since_load[path]
        return tuple(taken)

    def account_for(self, known: Callable[[str], bool]) -> None:
        """It is known which model these files were read for: they are no explanation of what is loaded next."""
        for path in list(self._since_load):
            if known(path):
                self._since_load.pop(path, None)

    def add_mapped(self, path: str) -> Stamp | None:
        """The host has this file mapped, and may have read it long ago; what it is at this moment."""
        stamp = stamp_of(path)
        with self._lock:
            known = self._files.get(path)
            if known is None or known.stamp != stamp:
                self.version += 1
                self._files[path] = ReadFile(path, self.version, None, stamp)
                self._forget_oldest()
        return stamp

    def paths(self) -> list[str]:
        """The files' paths, the newest last."""
        return list(self._files)

    def of(self, paths: Sequence[str]) -> list[ReadFile]:
        """These files, as they were read, or as ones that nobody saw being read."""
        return [self._files.get(path) or ReadFile(path, 0, None) for path in paths]

    def bytes_since(self, version: int) -> float:
        """The sizes of the files that were read since then, all together; infinite where one isn't known."""
        since = [file.stamp for file in list(self._files.values()) if file.number > version]
        return sum(math.inf if stamp is None else stamp.size_bytes for stamp in since)

    def groups(self) -> dict[str, tuple[ReadFile, ...]]:
        """Files by checkpoint: a single file, or all the shards of one. The newest come last."""
        found: dict[str, list[ReadFile]] = {}
        for file in list(self._files.values()):
            found.setdefault(checkpoint_of(file.path), []).append(file)
        return {whole: tuple(sorted(files, key=lambda file: file.path)) for whole, files in found.items()}

    def _reader(self) -> _Reader:
        reader: _Reader | None = getattr(self._thread, "reader", None)
        if reader is None:
            reader = self._thread.reader = _Reader()
        return reader

    def _forget_oldest(self) -> None:
        while len(self._files) > MAX_FILES or self._kept_samples() > MAX_KEPT_SAMPLES:
            self._files.popitem(last=False)

    def _kept_samples(self) -> int:
        return sum(len(file.values.tensors) for file in self._files.values() if file.values is not None)
