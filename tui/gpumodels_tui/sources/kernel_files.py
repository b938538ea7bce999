"""What the kernel says of devices and processes in files: those below /sys and /proc, or another root that stands for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gpumodels_tui.sources.figures import figure

ROOT_VARIABLE: Final = "GPUMODELS_SYSFS"
"""A directory with a `sys` and a `proc` of its own, read instead of the machine's."""

LONGEST: Final = 64 * 1024
"""Of each file no more than this is read; none of those that are read is nearly as long."""


class KernelFiles:
    """Reads files below one root. What isn't there, can't be read or makes no sense is None."""

    def __init__(self, root: Path | None = None) -> None:
        """Args:
        root: What holds `sys` and `proc`; None for the environment's choice, else the machine's own.
        """
        self.root = root if root is not None else Path(os.environ.get(ROOT_VARIABLE) or "/")

    def found(self, pattern: str) -> list[Path]:
        """The files and directories that match, by name."""
        try:
            return sorted(self.root.glob(pattern))
        except OSError:
            return []

    def text(self, path: Path) -> str | None:
        """What is in the file, without the blanks around it; None also if that is nothing."""
        try:
            with open(path, "rb") as file:
                return file.read(LONGEST).decode("utf-8", "replace").strip("\0 \t\r\n") or None
        except OSError:  # also what a driver answers while its device sleeps or is gone
            return None

    def number(self, path: Path, most: int) -> int | None:
        """The number in the file, decimal or with `0x`, if it is one from 0 to `most`."""
        return whole_number(self.text(path), most)

    def settings(self, path: Path, separator: str) -> dict[str, str]:
        """The lines `name<separator>value` of a file."""
        pairs = (line.partition(separator) for line in (self.text(path) or "").splitlines())
        return {name.strip(): value.strip() for name, found, value in pairs if found}

    def pids(self) -> Iterator[int]:
        """All processes that may be seen."""
        try:
            names = os.listdir(self.root / "proc")
        except OSError:
            return
        yield from (int(name) for name in names if name.isdecimal())

    def open_devices(self, pid: int, directory: str) -> list[str]:
        """Which descriptors of a process are devices of this directory of /dev; none if we may not look."""
        folder = f"{self.root / 'proc'}/{pid}/fd"
        found: list[str] = []
        try:
            names = os.listdir(folder)
        except OSError:
            return found
        for name in names:
            try:
                if os.readlink(f"{folder}/{name}").startswith(directory):  # noqa: PTH115  # a machine has thousands
                    found.append(name)
            except OSError:  # it was closed meanwhile
                continue
        return found


def whole_number(text: str | None, most: int) -> int | None:
    """The number that this text is, decimal or with `0x`, if it can be true."""
    try:
        return None if text is None else figure(int(text, 0), most)
    except ValueError:
        return None
