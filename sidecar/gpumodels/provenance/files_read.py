"""The model files that this process read, and their values. A model's values are compared with these files first."""

from __future__ import annotations

import heapq
import math
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from gpumodels.provenance.host_samples import RawSample
from gpumodels.support.brief_lock import BriefLock
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import FileValues, rank
from gpumodels_shared.shards import checkpoint_of

MAX_FILES: Final = 512
MAX_KEPT_SAMPLES: Final = 100_000
"""The most samples kept of files that can't be read again by position (pickles, GGUF), all together: about 20 MB."""
MAX_SAMPLES_OF_ONE: Final = MAX_KEPT_SAMPLES // 2
"""The most samples kept of one file, so that it can't evict all others: those of the keys that fingerprints prefer."""


@never_pickled
class Stamp(NamedTuple):
    """A file's version: what differs after it was modified or replaced, and is the same by whichever path the file is reached."""

    inode: int
    size_bytes: int
    modified_ns: int
    device: int = 0


def stamp_of(path: str) -> Stamp | None:
    """The file's current stamp; None if it doesn't exist or isn't accessible."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_dev)


@never_pickled
class SampledFile:
    """A file of which only samples are known, taken while the host read it: the first values of every tensor."""

    def __init__(self, samples: Mapping[str, RawSample]) -> None:
        if len(samples) > MAX_SAMPLES_OF_ONE:
            samples = {key: samples[key] for key in heapq.nsmallest(MAX_SAMPLES_OF_ONE, samples, key=rank)}
        self._samples = samples
        self.tensors = {key: (sample.dtype, sample.shape) for key, sample in samples.items()}

    def read(self, key: str, start: int, count: int) -> bytes:
        """The tensor's sample, whatever `count` is; empty unless `start` is 0."""
        sample = self._samples[key]
        return sample.data if start == 0 else b""


@never_pickled
class JoinedFiles:
    """The shards of a checkpoint, read like a single file."""

    def __init__(self, files: Sequence[FileValues]) -> None:
        self._holders = {key: file for file in files for key in file.tensors}
        self.tensors = {key: file.tensors[key] for key, file in self._holders.items()}

    def read(self, key: str, start: int, count: int) -> bytes:
        """Read from the shard that holds the tensor; see `FileValues.read`."""
        return self._holders[key].read(key, start, count)


@never_pickled
@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that the host read or has mapped."""

    path: str
    number: int
    """Changes with the content: when the file was read again after it had changed, or in a way that gave new values."""
    values: FileValues | None
    """The samples taken while it was read. None: it can be read again, as long as it has the same stamp."""
    stamp: Stamp | None = None
    """The file's stamp when it was read; None if that wasn't observed."""
    read_ns: int = 0
    """When it was last read, realtime nanoseconds; 0 if that wasn't observed."""


@never_pickled
class _ReadingThread:
    """A thread of the host. Its thread id wouldn't do, as ids are reused."""

    has_loaded = False
    """Whether it loads into models what it reads; otherwise it reads for other threads, as those of a pool do."""


@never_pickled
class FilesRead:
    """The files read most recently, at most MAX_FILES. The host's threads add to it."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, ReadFile] = OrderedDict()
        self.version = 0
        """Increases when a file is read whose content isn't known yet."""
        self._lock = BriefLock()
        self._local = threading.local()
        self._since_load: OrderedDict[str, _ReadingThread] = OrderedDict()
        """Paths that were read since the last load that may have used them, and the threads that read them."""
        self._explained: set[str] = set()
        """Paths that weren't read since it was found out which model they were read for."""
        self._claims: dict[str, list[weakref.ref[Any]]] = {}
        """By path, the modules that may be what it was read for, since it was read last."""

    def add(self, path: str, values: FileValues | None = None) -> Stamp | None:
        """Add a file that the host is reading, and return its stamp.

        Args:
            path: its absolute path.
            values: samples of its tensors, if it can't be read again by position.
        """
        stamp = stamp_of(path)
        with self._lock:
            known = self._files.pop(path, None)
            if known is None or values is not None or known.stamp != stamp:
                self.version += 1
                self._files[path] = ReadFile(path, self.version, values, stamp, time.time_ns())
            else:
                self._files[path] = replace(known, read_ns=time.time_ns())
            self._since_load.pop(path, None)
            self._since_load[path] = self._this_thread()
            self._explained.discard(path)
            self._claims.pop(path, None)
            while len(self._since_load) > MAX_FILES:
                self._since_load.popitem(last=False)
            self._forget_oldest()
        return stamp

    def take_read_since_load(self) -> tuple[str, ...]:
        """Remove and return the paths read since the last load: by this thread, or, if none, by threads that never load."""
        with self._lock:
            this = self._this_thread()
            this.has_loaded = True
            own = [path for path, thread in self._since_load.items() if thread is this]
            taken = own or [path for path, thread in self._since_load.items() if not thread.has_loaded]
            for path in taken:
                del self._since_load[path]
        return tuple(taken)

    def drop_explained(self, known: Callable[[str], bool], is_certain: bool = True) -> None:
        """Drop files whose model is known from the candidates for the next load.

        Args:
            known: whether the model is known that the file at this path was read for.
            is_certain: whether it can't have been read for another.
        """
        explained = [path for path in list(self._files) if known(path)]
        with self._lock:
            self._explained.update(explained if is_certain else ())
            self._explained.intersection_update(self._files)
            for path in explained:
                self._since_load.pop(path, None)

    def is_explained(self, path: str) -> bool:
        """Whether it is known which model this file was read for, or that one is gone, and it wasn't read again since."""
        claims = self._claims.get(path)
        return path in self._explained or (claims is not None and all(claim() is None for claim in claims))

    def claim(self, paths: Sequence[str], module: weakref.ref[Any]) -> None:
        """Note that these files may have been read for this module: they aren't another's that is built after it is gone."""
        with self._lock:
            for path in paths:
                if path in self._files and not self.is_explained(path):
                    claims = [claim for claim in self._claims.get(path, ()) if claim() is not None and claim is not module]
                    self._claims[path] = [*claims, module]
            for path in self._claims.keys() - self._files.keys():
                del self._claims[path]

    def add_mapped(self, path: str) -> Stamp | None:
        """Add a file that the host has mapped, perhaps since long ago, and return its stamp."""
        stamp = stamp_of(path)
        with self._lock:
            known = self._files.get(path)
            if known is None or known.stamp != stamp:
                self.version += 1
                self._files[path] = ReadFile(path, self.version, None, stamp)
                self._forget_oldest()
        return stamp

    def paths(self) -> list[str]:
        """The files' paths, the most recently read last."""
        return list(self._files)

    def of(self, paths: Sequence[str]) -> list[ReadFile]:
        """The files at these paths; those that weren't read get the number 0 and no stamp."""
        return [self._files.get(path) or ReadFile(path, 0, None) for path in paths]

    def bytes_read_since(self, version: int) -> float:
        """The total size of the files read since `version`; infinite if a file's size isn't known."""
        stamps = [file.stamp for file in list(self._files.values()) if file.number > version]
        return sum(math.inf if stamp is None else stamp.size_bytes for stamp in stamps)

    def path_of(self, stamp: Stamp | None) -> str | None:
        """The path under which `groups` lists the file with this stamp; None if it lists none."""
        return next((file.path for file in self._distinct() if file.stamp == stamp), None) if stamp is not None else None

    def groups(self) -> dict[str, tuple[ReadFile, ...]]:
        """Files by checkpoint: a single file, or the shards of one that were read. The most recently read come last.

        A file that is known by several paths, as in a symlinked folder, is listed under the one by which the host read it last.
        """
        found: dict[str, list[ReadFile]] = {}
        for file in self._distinct():
            found.setdefault(checkpoint_of(file.path), []).append(file)
        return {checkpoint: tuple(sorted(files, key=lambda file: file.path)) for checkpoint, files in found.items()}

    def _distinct(self) -> list[ReadFile]:
        files = list(self._files.values())
        listed: dict[Stamp, ReadFile] = {}
        for file in files:
            if file.stamp is not None and (file.stamp not in listed or file.read_ns > listed[file.stamp].read_ns):
                listed[file.stamp] = file
        return [file for file in files if file.stamp is None or listed[file.stamp] is file]

    def _this_thread(self) -> _ReadingThread:
        thread: _ReadingThread | None = getattr(self._local, "thread", None)
        if thread is None:
            thread = self._local.thread = _ReadingThread()
        return thread

    def _forget_oldest(self) -> None:
        while len(self._files) > MAX_FILES or self._kept_samples() > MAX_KEPT_SAMPLES:
            self._files.popitem(last=False)

    def _kept_samples(self) -> int:
        return sum(len(file.values.tensors) for file in self._files.values() if file.values is not None)
