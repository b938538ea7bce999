"""Passes on to the catalogue what snapshots need: the files they name, values without a known file, and ComfyUI's folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.name_sources import MIN_NAME_CONFIDENCE, NameSource
from gpumodels_shared.schema import Model
from gpumodels_tui.catalogue.model_folders import comfyui_model_folders, comfyui_root
from gpumodels_tui.sources.feed import FeedState, ProcessState
from gpumodels_tui.sources.gpus import HardwareState

if TYPE_CHECKING:
    from gpumodels_tui.catalogue.watch import Catalogue


class Following:
    """Requests each file and folder only once. Only one thread at a time may use it."""

    def __init__(self, catalogue: Catalogue, with_model_folders: bool = True) -> None:
        """Args:
        with_places: Whether to add ComfyUI's model folders, besides the files that snapshots name.
        """
        self._catalogue = catalogue
        self._with_places = with_model_folders
        self._seen: FeedState | None = None
        self._from_outside: list[str] = []
        self._known: set[str] = set()

    def see(self, feed: FeedState, hardware: HardwareState | None = None) -> None:
        """Request what the feed needs; cheap if it hasn't changed. The largest models come first, then the newest.

        Args:
            feed: the sidecars' files.
            hardware: the devices, with what is known from outside of processes without a sidecar.
        """
        if hardware is not None and (files := files_seen(hardware)) != self._from_outside:
            self._from_outside = files
            self._catalogue.follow(files)
        if feed is self._seen:
            return
        self._seen = feed
        self._catalogue.follow(files_named(feed))
        self._catalogue.find_files_of(
            model.fingerprint
            for model in sorted(_models(feed), key=lambda model: (-model.resident_bytes, -model.loaded_at_ns))
            if model.fingerprint is not None and _is_without_file(model)
        )
        for process in feed.processes:
            if self._with_places and process.key not in self._known and process.snapshot is not None:
                self._known.add(process.key)
                self._catalogue.add(model_folders_of(process))


def files_named(feed: FeedState) -> list[str]:
    """All model files that snapshots name, each once."""
    return list(dict.fromkeys(path for model in _models(feed) for path in (*model.files, *model.candidates)))


def files_seen(hardware: HardwareState) -> list[str]:
    """The model files of processes without a sidecar, where their paths lead to the same files here."""
    return list(
        dict.fromkeys(
            path
            for process in hardware.running.values()
            for model in process.outside.models
            if model.is_here and not model.is_deleted
            for path in model.files
        )
    )


def needs_directories(feed: FeedState) -> bool:
    """Whether some model's file must be searched for in the model directories."""
    return any(model.fingerprint is not None and _is_without_file(model) for model in _models(feed))


def model_folders_in(feed: FeedState) -> list[Path]:
    """The model folders of all live ComfyUI processes."""
    return [folder for process in feed.processes for folder in model_folders_of(process)]


def model_folders_of(process: ProcessState) -> list[Path]:
    """The model folders of a live ComfyUI process; empty for any other process."""
    if process.snapshot is None or process.liveness is not Liveness.LIVE or not process.is_local:
        return []
    command = process.snapshot.process.command
    if not any(argument.endswith("main.py") for argument in command[1:4]):
        return []
    try:
        working_directory = Path(f"/proc/{process.pid}/cwd").readlink()
    except OSError:
        return []  # another user's process, or it has exited, or this isn't Linux
    root = comfyui_root(command, working_directory)
    return [] if root is None else comfyui_model_folders(root, command)


def _models(feed: FeedState) -> list[Model]:
    return [model for process in feed.processes if process.snapshot is not None for model in process.snapshot.models]


def _is_without_file(model: Model) -> bool:
    """Whether the sidecar couldn't name the model's file with certainty."""
    return model.confidence < MIN_NAME_CONFIDENCE or not model.files or model.name_source == NameSource.NODE_INPUT
