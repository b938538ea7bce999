"""The memory that processes hold on graphics cards, as the kernel tells it of their descriptors (`/proc/<pid>/fdinfo`).

Linux documents the keys in Documentation/gpu/drm-usage-stats.rst. Only processes that we may look into tell: our own, or all for
root. A card that nobody was seen on may still be in use.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gpumodels_tui.sources.figures import MOST_BYTES, figure
from gpumodels_tui.sources.kernel_files import KernelFiles

SEARCH_SECONDS: Final = 5.0
"""How long those that hold no card are left alone: looking at all descriptors of a machine takes a while."""

_MEMORY: Final = r"drm-(resident|memory|total)-([a-z]+)[0-9]*"
_KINDS: Final = ("resident", "memory", "total")
"""The first that a driver tells counts. `memory` is an older word for `resident`; `total` counts what isn't in memory, too."""
_UNITS: Final = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

Holdings = Mapping[str, Mapping[int, int | None]]
"""Bytes by pid, by PCI address; None if they aren't told."""


class DrmClients:
    """Finds the processes on cards. Those found are read each time; the others are searched now and then."""

    def __init__(self, files: KernelFiles, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._clock = clock
        self._search_at = float("-inf")
        self._holders: set[int] = set()

    def read(self, regions: Mapping[str, tuple[str, ...]]) -> dict[str, dict[int, int | None]]:
        """Bytes by process for these cards.

        Args:
            regions: By PCI address, which kinds of memory are counted: `vram` (amdgpu, xe), `local` (i915), `system`, `gtt`.
        """
        if not regions:
            return {}
        if self._clock() >= self._search_at:
            self._search_at = self._clock() + SEARCH_SECONDS
            self._holders = set(self._files.pids())
        found: dict[str, dict[int, int | None]] = {address: {} for address in regions}
        for pid in sorted(self._holders):
            held = self._held_by(pid, regions)
            if held is None:
                self._holders.discard(pid)
                continue
            for address, size in held.items():
                found[address][pid] = size
        return found

    def _held_by(self, pid: int, regions: Mapping[str, tuple[str, ...]]) -> dict[str, int | None] | None:
        """Bytes by card; None for a process that has no card open."""
        descriptors = self._files.open_devices(pid, "/dev/dri/")
        if not descriptors:
            return None
        clients: dict[tuple[str, str], int | None] = {}
        for descriptor in descriptors:
            said = self._files.settings(self._info(pid, descriptor), ":")
            address = said.get("drm-pdev", "").lower()
            if address in regions:  # copies of a descriptor are the same client
                clients[address, said.get("drm-client-id", f"fd {descriptor}")] = _bytes_in(said, regions[address])
        held: dict[str, int | None] = {}
        for (address, _), size in clients.items():
            before = held.get(address, 0)
            held[address] = None if size is None or before is None else before + size
        return held

    def _info(self, pid: int, descriptor: str) -> Path:
        return self._files.root / "proc" / str(pid) / "fdinfo" / descriptor


def _bytes_in(said: Mapping[str, str], regions: tuple[str, ...]) -> int | None:
    """What one client holds in these kinds of memory; None if the driver doesn't tell, or tells what can't be."""
    by_kind: dict[str, int | None] = {}
    for key, value in said.items():
        named = re.fullmatch(_MEMORY, key)
        if named is None or named[2] not in regions:
            continue
        number, _, unit = value.partition(" ")
        scale = _UNITS.get(unit.strip())
        size = figure(int(number) * scale, MOST_BYTES) if number.isascii() and number.isdecimal() and scale is not None else None
        before = by_kind.get(named[1], 0)
        by_kind[named[1]] = None if size is None or before is None else before + size
    return next((by_kind[kind] for kind in _KINDS if kind in by_kind), None)
