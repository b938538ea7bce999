"""The directories that the viewer reads, chosen once at startup, and the readers for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gpumodels_shared.records import Record

if TYPE_CHECKING:
    from gpumodels_tui.catalogue.watch import Catalogue
    from gpumodels_tui.outside.looking import OutsideLooks
    from gpumodels_tui.sources.feed import SnapshotFeed
    from gpumodels_tui.sources.gpus import Hardware


class Sources(Record):
    """The chosen directories. Readers made from them belong to the caller, who closes them."""

    feed_directories: tuple[Path, ...] | None = None
    """Where to find the sidecars' snapshot files; None for the default directories."""
    model_directories: tuple[Path, ...] = ()
    """Directories whose model files are read and watched, besides the files that snapshots name."""
    are_chosen: bool = True
    """Whether the user asked for these; the default directories are only needed when a model's file must be found."""
    cache: Path | None = None
    """The database that keeps headers between runs; None for no cache."""
    warnings: tuple[str, ...] = ()
    """Problems with the chosen directories or the configuration."""
    group: str | None = None
    """The group whose members share their files with us; None for `GPUMODELS_GROUP`."""
    ask_servers: bool = False
    """Whether ollama, llama.cpp and vLLM on this machine are asked what they have loaded."""

    def feed(self) -> SnapshotFeed:
        """A reader of the sidecars' snapshot files."""
        from gpumodels_tui.sources.feed import SnapshotFeed  # readers are imported only when they are needed

        return SnapshotFeed(self.feed_directories, group=self.group)

    def hardware(self) -> Hardware:
        """A reader of this machine's GPUs and host memory."""
        from gpumodels_tui.sources.gpus import Hardware

        return Hardware()

    def outside(self) -> OutsideLooks:
        """What looks at processes without a sidecar."""
        from gpumodels_tui.outside.looking import OutsideLooks

        return OutsideLooks(self.ask_servers)

    def catalogue(self, on_change: Callable[[], None] | None = None) -> Catalogue:
        """A catalogue of the model files, not yet started."""
        from gpumodels_tui.catalogue.cache import Cache  # not needed without model files
        from gpumodels_tui.catalogue.watch import Catalogue

        cache = None if self.cache is None else Cache(self.cache)
        return Catalogue(self.model_directories, on_change, cache=cache, notices=self.warnings)
