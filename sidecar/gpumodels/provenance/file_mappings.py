"""Which file is mapped at an address: mappings observed as torch makes them, and those that the kernel lists."""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gpumodels.provenance.files_read import Stamp
from gpumodels.support.brief_lock import BriefLock
from gpumodels.support.never_pickled import never_pickled

MODEL_SUFFIXES: Final = (".safetensors", ".sft", ".gguf", ".pt", ".pth", ".bin", ".ckpt")
_SUFFIX_BYTES: Final = tuple(suffix.encode() for suffix in MODEL_SUFFIXES)


@never_pickled
@dataclass(frozen=True, slots=True)
class _Mapping:
    """An address range at which a file is mapped."""

    start: int
    end: int
    path: str
    stamp: Stamp | None
    """The file's stamp when it was mapped; the path may name another file by now."""
    is_freed: Callable[[], bool]
    """Whether the storage that owned the mapping was freed, so that the addresses may have been reused."""


@never_pickled
class FileMappings:
    """The known mappings. The host's threads write, they and the scan read: lists are replaced, never modified."""

    def __init__(self) -> None:
        self._lock = BriefLock()
        """For writers only; readers see lists that are never modified."""
        self._made: list[_Mapping] = []
        """Observed as torch made them, by address."""
        self._listed: list[_Mapping] = []
        """From the kernel's list, by address."""
        self._latest: _Mapping | None = None
        """The mapping found last: successive look-ups are mostly of one model's tensors, in the same file."""
        self._query: Callable[[], None] | None = None
        """Reads the kernel's list, which takes a millisecond: called once, for the first address that isn't known otherwise."""

        self.may_know = False
        """Whether a look-up can find anything: a mapping is known, or the kernel may be asked. Faster to read than a method."""

    def add(self, storage: Any, path: str, stamp: Stamp | None) -> None:
        """Add a storage that torch has just mapped from this file."""
        from torch.multiprocessing.reductions import StorageWeakRef

        expired: Callable[[], bool] = StorageWeakRef(storage).expired  # type: ignore[no-untyped-call]
        start = storage.data_ptr()
        with self._lock:
            kept = [mapping for mapping in self._made if not mapping.is_freed()]
            kept.append(_Mapping(start, start + storage.nbytes(), path, stamp, expired))
            kept.sort(key=lambda mapping: mapping.start)
            self._made = kept
            self.may_know = True

    def file_at(self, pointer: int, asks_kernel: bool = False) -> tuple[str, Stamp | None] | None:
        """The path of the file mapped at this address, and the file's stamp when it was mapped.

        Args:
            pointer: the address.
            asks_kernel: whether the kernel may be asked, if `allow_kernel_query` was called; not in the host's threads.
        """
        latest = self._latest
        if latest is not None and latest.start <= pointer < latest.end and not latest.is_freed():
            return latest.path, latest.stamp
        found = self._among(self._made, pointer)
        if found is None and asks_kernel and self._query is not None:
            query, self._query = self._query, None
            query()
            self.may_know = bool(self._made or self._listed)
        found = found or self._among(self._listed, pointer)
        if found is None:
            return None
        self._latest = found
        return found.path, found.stamp

    def _among(self, mappings: list[_Mapping], pointer: int) -> _Mapping | None:
        if not mappings or pointer < mappings[0].start:
            return None
        position = bisect_right(mappings, pointer, key=lambda mapping: mapping.start) - 1
        if position >= 0 and pointer < mappings[position].end and not mappings[position].is_freed():
            return mappings[position]
        return None

    def allow_kernel_query(self, note: Callable[[str], Stamp | None]) -> None:
        """Call `query_kernel(note)` when a look-up first needs it, until `forget_kernel_mappings`."""
        self._query = lambda: self.query_kernel(note)
        self.may_know = True

    def query_kernel(self, note: Callable[[str], Stamp | None]) -> None:
        """Learn from the kernel which model files are mapped right now, whoever mapped them.

        Args:
            note: called with each file's path; returns its stamp.
        """
        if not sys.platform.startswith("linux"):
            return
        found: list[_Mapping] = []
        stamps: dict[str, Stamp | None] = {}
        for line in Path("/proc/self/maps").read_bytes().splitlines():
            if not line.endswith(_SUFFIX_BYTES):
                continue
            fields = line.split(maxsplit=5)
            if len(fields) == 6:
                start, end = (int(address, 16) for address in fields[0].split(b"-"))
                path = os.fsdecode(fields[5])
                if path not in stamps:
                    stamps[path] = note(path)
                found.append(_Mapping(start, end, path, stamps[path], _never))
        self._listed = found
        self.may_know = bool(self._made or self._listed or self._query)

    def forget_kernel_mappings(self) -> None:
        """Drop what the kernel listed: it is true only at that moment, as addresses are reused."""
        self._query = None
        self._listed = []
        self._latest = None
        self.may_know = bool(self._made)


def _never() -> bool:
    return False
