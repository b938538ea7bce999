"""Where the viewer looks, decided once at the start, and what it reads there with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gpumodels_tui.catalogue.watch import Catalogue
    from gpumodels_tui.sources.feed import SnapshotFeed
    from gpumodels_tui.sources.gpus import Hardware


class Sources(Struct, frozen=True):
    """Chosen directories. What is made from them belongs to whoever asked for it, who closes it."""

    feed_directories: tuple[Path, ...] | None = None
    """Where sidecars' files are looked for; None: where sidecars put them by themselves."""
    model_directories: tuple[Path, ...] = ()
    """Model files read and watched beside those that snapshots name."""
    are_chosen: bool = True
    """Whether the user asked for these; the usual places are of use only where a model's file must be found."""
    cache: Path | None = None
    """Where headers are kept from one start to the next; None: nowhere."""
    warnings: tuple[str, ...] = ()
    """What was wrong with the choosing."""

    def feed(self) -> SnapshotFeed:
        """The sidecars' files."""
        from gpumodels_tui.sources.feed import SnapshotFeed  # what reads is loaded when it is to read

        return SnapshotFeed(self.feed_directories)

    def hardware(self) -> Hardware:
        """The GPUs and host memory of this machine."""
        from gpumodels_tui.sources.gpus import Hardware

        return Hardware()

    def catalogue(self, on_change: Callable[[], None] | None = None) -> Catalogue:
        """The model files, not yet read."""
        from gpumodels_tui.catalogue.cache import Cache  # a glance without model files needs none of it
        from gpumodels_tui.catalogue.watch import Catalogue

        cache = None if self.cache is None else Cache(self.cache)
        return Catalogue(self.model_directories, on_change, cache=cache, notices=self.warnings)
