"""What the snapshots ask of the catalogue: the files they name, the values that no file is known for, a ComfyUI's own folders."""

from __future__ import annotations

from pathlib import Path

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.name_sources import SURE_ENOUGH
from gpumodels_shared.schema import Model
from gpumodels_tui.catalogue.model_folders import comfyui_places, comfyui_root
from gpumodels_tui.catalogue.watch import Catalogue
from gpumodels_tui.sources.feed import FeedState, ProcessState


class Following:
    """Asks once for what stays the same. One thread at a time may use it."""

    def __init__(self, catalogue: Catalogue, with_places: bool = True) -> None:
        """Args:
        with_places: whether a ComfyUI's folders are of interest, and not only what snapshots name.
        """
        self._catalogue = catalogue
        self._with_places = with_places
        self._seen: FeedState | None = None
        self._known: set[str] = set()

    def see(self, feed: FeedState) -> None:
        """The feed as it is now; cheap where it is as it was. The largest models' names are wanted most, then the newest's."""
        if feed is self._seen:
            return
        self._seen = feed
        self._catalogue.follow(files_named(feed))
        self._catalogue.recognise(
            model.fingerprint
            for model in sorted(_models(feed), key=lambda model: (-model.resident_bytes, -model.loaded_at_ns))
            if model.fingerprint is not None and _is_without_file(model)
        )
        for process in feed.processes:
            if self._with_places and process.key not in self._known and process.snapshot is not None:
                self._known.add(process.key)
                self._catalogue.add(places_of(process))


def files_named(feed: FeedState) -> list[str]:
    """Every model file that a snapshot names, each once."""
    return list(dict.fromkeys(path for model in _models(feed) for path in (*model.files, *model.candidates)))


def needs_directories(feed: FeedState) -> bool:
    """Whether some model's file is to be found among all there are."""
    return any(model.fingerprint is not None and _is_without_file(model) for model in _models(feed))


def places_in(feed: FeedState) -> list[Path]:
    """The model directories of all live ComfyUIs."""
    return [place for process in feed.processes for place in places_of(process)]


def places_of(process: ProcessState) -> list[Path]:
    """The model directories of a live ComfyUI; of any other process none."""
    if process.snapshot is None or process.liveness is not Liveness.LIVE or not process.is_local:
        return []
    command = process.snapshot.process.command
    if not any(argument.endswith("main.py") for argument in command[1:4]):
        return []
    try:
        working_directory = Path(f"/proc/{process.pid}/cwd").readlink()
    except OSError:
        return []  # another user's, or gone, or not Linux
    root = comfyui_root(command, working_directory)
    return [] if root is None else comfyui_places(root, command)


def _models(feed: FeedState) -> list[Model]:
    return [model for process in feed.processes if process.snapshot is not None for model in process.snapshot.models]


def _is_without_file(model: Model) -> bool:
    """Whether values may tell more than the sidecar could."""
    return model.confidence < SURE_ENOUGH or not model.files
