"""What the checks ask about: the chosen directories, the environment, and where the kernel tells of itself. Read when needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from gpumodels_shared.places import default_directory, other_users_directories
from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.sources.unattached import Unattached


class Machine:
    """This machine, as one user sees it from one terminal."""

    def __init__(
        self,
        sources: Sources,
        environment: Mapping[str, str],
        terminal: tuple[int, int] | None,
        proc: Path = Path("/proc"),
        dev: Path = Path("/dev"),
    ) -> None:
        """Args:
        sources: The chosen directories.
        environment: This command's.
        terminal: Columns and lines of the terminal on stdout; None if it isn't one.
        proc: Where the kernel tells of processes.
        dev: Where it has its devices.
        """
        self.sources = sources
        self.environment = environment
        self.terminal = terminal
        self.proc = proc
        self.dev = dev
        self.uid = os.geteuid()

    @property
    def own_directory(self) -> Path:
        """Where this user's sidecars write, if they were told the same as this command."""
        chosen = self.sources.feed_directories
        return chosen[0] if chosen else default_directory(self.environment)

    @cached_property
    def directories(self) -> tuple[Path, ...]:
        """All directories that are read."""
        if self.sources.feed_directories is not None:
            return self.sources.feed_directories
        others = [] if self.environment.get("GPUMODELS_DIR") else other_users_directories(self.group_in)
        return tuple(dict.fromkeys([self.own_directory, *others]))

    @property
    def group_in(self) -> Mapping[str, str]:
        """The group whose files are read too, as a setting: the one that was chosen, else the environment's."""
        group = self.sources.group
        return self.environment if group is None else {"GPUMODELS_GROUP": group}

    @cached_property
    def feed(self) -> FeedState:
        """All snapshot files."""
        feed = self.sources.feed()
        try:
            return feed.poll()
        finally:
            feed.close()

    @cached_property
    def hardware(self) -> HardwareState:
        """All devices. It asks the driver, which may take its time."""
        hardware = self.sources.hardware()
        unattached = Unattached(self.sources)
        try:
            return unattached.look_now(hardware.read(), self.feed)
        finally:
            hardware.close()
            unattached.stop()

    @property
    def has_nvidia_driver(self) -> bool:
        """Whether the kernel's part of it is loaded."""
        return (self.dev / "nvidiactl").exists() or (self.proc / "driver" / "nvidia" / "version").exists()
