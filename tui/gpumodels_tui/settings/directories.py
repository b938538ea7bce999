"""The directories and files that the settings name, and those that the viewer keeps."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_tui.catalogue.model_folders import default_model_folders

APPLICATION: Final = "gpumodels"

CACHE_FILE: Final = "catalogue-1.sqlite"
"""The file of `catalogue.cache`; the number is the version of its schema, so that each schema has a file of its own."""

MACHINES_CONFIG: Final = Path("/etc/gpumodels/config.toml")


class ModelDirectories(Record):
    """The directories to search for model files."""

    directories: tuple[Path, ...]
    are_chosen: bool
    """Whether the user chose them; otherwise they are the default model folders that exist."""


def model_directories(chosen: Sequence[str], environment: Mapping[str, str], home: Path | None = None) -> ModelDirectories:
    """Those that were chosen; else the default model folders."""
    if any(chosen):
        return ModelDirectories(tuple(as_path(one) for one in chosen if one), True)
    return ModelDirectories(tuple(default_model_folders(environment, home or Path.home())), False)


def as_path(text: str) -> Path:
    """The absolute path, with `~` and `~user` expanded if the user exists."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # `~nobody` without such a user is an ordinary name
        path = path.expanduser()
    return path.absolute()


def config_path() -> Path:
    """The path of the user's configuration file."""
    return _users_directory("config") / "config.toml"


def config_paths() -> tuple[Path, Path]:
    """The configuration files, the stronger first: the user's and the machine's."""
    return config_path(), MACHINES_CONFIG


def cache_path() -> Path:
    """The path of the database that keeps headers between runs."""
    return _users_directory("cache") / CACHE_FILE


def _users_directory(kind: str) -> Path:
    """Where this user's programs keep files of this kind: on Linux by the XDG specification, elsewhere as `platformdirs` knows.

    For Linux alone, importing it takes longer than everything else that is done with the configuration.
    """
    platform: str = sys.platform
    if platform == "linux":
        stated = os.environ.get(f"XDG_{kind.upper()}_HOME", "")
        # The specification has relative ones ignored.
        return (Path(stated) if Path(stated).is_absolute() else Path.home() / f".{kind}") / APPLICATION
    import platformdirs

    if kind == "config":
        return platformdirs.user_config_path(APPLICATION, appauthor=False)
    return platformdirs.user_cache_path(APPLICATION, appauthor=False)
