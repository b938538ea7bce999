"""Which file an address shows: mappings as torch makes them, and as the kernel lists those made before."""

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
from gpumodels.support.resident import resident

MODEL_SUFFIXES: Final = (".safetensors", ".sft", ".gguf", ".pt", ".pth", ".bin", ".ckpt")
_SUFFIX_BYTES: Final = tuple(suffix.encode() for suffix in MODEL_SUFFIXES)


@resident
@dataclass(frozen=True, slots=True)
class _Mapping:
    """One stretch of memory that shows a file."""

    start: int
    end: int
    path: str
    stamp: Stamp | None
    """The file's at that time: another one may have its name by now."""
    gone: Callable[[], bool]
    """Whether the storage that made it was freed, so that the addresses may be anybody's now."""


@resident
class FileMappings:
    """Written to in the host's threads, asked by these and by the scan: lists are replaced whole, never changed."""

    def __init__(self) -> None:
        self._lock = BriefLock()
        """For those who write; who reads has a list that nobody changes."""
        self._made: list[_Mapping] = []
        self._listed: list[_Mapping] = []
        self._latest: _Mapping | None = None
        """The one that was asked for last: a model's tensors are asked for in turn."""
        self._ask: Callable[[], None] | None = None
        """Asks the kernel, which takes a millisecond: not before an address is asked for that nothing else is known of."""

        self.may_tell = False
        """Whether anything is known of any address, or the kernel may be asked: attributes are looked at faster than methods."""

    def remember(self, storage: Any, path: str, stamp: Stamp | None) -> None:
        """A storage that torch mapped from this file just now."""
        from torch.multiprocessing.reductions import StorageWeakRef

        expired: Callable[[], bool] = StorageWeakRef(storage).expired  # type: ignore[no-untyped-call]
        start = storage.data_ptr()
        with self._lock:
            kept = [mapping for mapping in self._made if not mapping.gone()]
            kept.append(_Mapping(start, start + storage.nbytes(), path, stamp, expired))
            kept.sort(key=lambda mapping: mapping.start)
            self._made = kept
            self.may_tell = True

    def file_at(self, pointer: int, asks_kernel: bool = False) -> tuple[str, Stamp | None] | None:
        """The file that this address shows, and what it was when it was mapped.

        Args:
            pointer: the address.
            asks_kernel: whether the kernel may be asked, where that was allowed; not in a thread of the host's.
        """
        latest = self._latest
        if latest is not None and latest.start <= pointer < latest.end and not latest.gone():
            return latest.path, latest.stamp
        found = self._among(self._made, pointer)
        if found is None and asks_kernel and self._ask is not None:
            ask, self._ask = self._ask, None
            ask()
            self.may_tell = bool(self._made or self._listed)
        found = found or self._among(self._listed, pointer)
        if found is None:
            return None
        self._latest = found
        return found.path, found.stamp

    def _among(self, mappings: list[_Mapping], pointer: int) -> _Mapping | None:
        if not mappings or pointer < mappings[0].start:
            return None
        position = bisect_right(mappings, pointer, key=lambda mapping: mapping.start) - 1
        if position >= 0 and pointer < mappings[position].end and not mappings[position].gone():
            return mappings[position]
        return None

    def may_ask_kernel(self, note: Callable[[str], Stamp | None]) -> None:
        """Ask the kernel when it is needed, until `forget_kernels`; see `ask_kernel`."""
        self._ask = lambda: self.ask_kernel(note)
        self.may_tell = True

    def ask_kernel(self, note: Callable[[str], Stamp | None]) -> None:
        """Learn which model files are mapped right now, by whomever.

        Args:
            note: given each one's path; says what the file is.
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
        self.may_tell = bool(self._made or self._listed or self._ask)

    def forget_kernels(self) -> None:
        """The kernel's answer holds for the moment only: addresses are reused."""
        self._ask = None
        self._listed = []
        self._latest = None
        self.may_tell = bool(self._made)


def _never() -> bool:
    return False
