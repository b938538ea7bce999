"""Notices that host memory ran out for this process's cgroup: at the limit of a container, of Slurm, of systemd."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gpumodels.support.never_pickled import never_pickled

CGROUPS: Final = Path("/sys/fs/cgroup")


@never_pickled
class HostLimit:
    """Reads `memory.events` of cgroup 2; there is none where the limit is another's, or the platform has no cgroups."""

    def __init__(self, own: Path = Path("/proc/self/cgroup"), cgroups: Path = CGROUPS) -> None:
        self._directory = _directory(own, cgroups)
        self._last = self._counts()

    def newly_failed(self) -> str | None:
        """What happened since the last call, in words; None if nothing did."""
        counts, before = self._counts(), self._last
        self._last = counts
        if counts is None or before is None:
            return None
        failed, killed = (max(0, now - then) for now, then in zip(counts, before, strict=True))
        if killed:
            return f"the kernel killed {killed} {'process' if killed == 1 else 'processes'} of this cgroup for its memory limit"
        return "host memory reached the limit of this cgroup" if failed else None

    def limit_bytes(self) -> int | None:
        """The cgroup's limit; None if it has none."""
        return self._number("memory.max")

    def used_bytes(self) -> int | None:
        """What the cgroup's processes use, the page cache included."""
        return self._number("memory.current")

    def _counts(self) -> tuple[int, int] | None:
        if self._directory is None:
            return None
        try:
            lines = (self._directory / "memory.events").read_text(encoding="ascii").splitlines()
            events = {key: int(count) for key, _, count in (line.partition(" ") for line in lines)}
        except (OSError, ValueError):
            return None
        return events.get("oom", 0), events.get("oom_kill", 0)

    def _number(self, name: str) -> int | None:
        if self._directory is None:
            return None
        try:
            return int((self._directory / name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # `max`: no limit
            return None


def _directory(own: Path, cgroups: Path) -> Path | None:
    try:
        lines = own.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("0::/"):
            directory = cgroups / line[4:]
            return directory if (directory / "memory.events").exists() else None
    return None
