"""The user's settings. Precedence is decided only here: flag, environment, configuration file, default.

The file is `config.toml` in the user's configuration directory (`~/.config/gpumodels`, or in XDG_CONFIG_HOME):

    models = ["/data/models", "~/loras"]    # read and watch the model files below these
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import platformdirs
from msgspec import Struct

from gpumodels_tui.catalogue.model_folders import default_model_folders

APPLICATION: Final = "gpumodels"

CACHE_FILE: Final = "catalogue-1.sqlite"
"""The file of `catalogue.cache`; the number is the version of its schema, so that each schema has a file of its own."""

MAX_CONFIG_BYTES: Final = 64 * 1024

TOML: Final = "tomllib" if sys.version_info >= (3, 11) else "tomli"


class ModelDirectories(Struct, frozen=True):
    """The directories to search for model files."""

    directories: tuple[Path, ...]
    are_chosen: bool
    """Whether the user chose them; otherwise they are the default model folders that exist."""
    problem: str | None = None
    """Why the configuration file was ignored."""


def model_directories(
    flags: Sequence[str], environment: Mapping[str, str], config: Path | None = None, home: Path | None = None
) -> ModelDirectories:
    """The first that is given: `--models`, GPUMODELS_MODELS, `models` in the file; else the default model folders."""
    for chosen in (flags, environment.get("GPUMODELS_MODELS", "").split(os.pathsep)):
        if any(chosen):
            return ModelDirectories(tuple(as_path(one) for one in chosen if one), True)
    stated, problem = _stated(config or config_path())
    if stated:
        return ModelDirectories(tuple(as_path(one) for one in stated), True)
    return ModelDirectories(tuple(default_model_folders(environment, home or Path.home())), False, problem)


def as_path(text: str) -> Path:
    """The absolute path, with `~` and `~user` expanded if the user exists."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # `~nobody` without such a user is an ordinary name
        path = path.expanduser()
    return path.absolute()


def config_path() -> Path:
    """The path of the configuration file."""
    return platformdirs.user_config_path(APPLICATION, appauthor=False) / "config.toml"


def cache_path() -> Path:
    """The path of the database that keeps headers between runs."""
    return platformdirs.user_cache_path(APPLICATION, appauthor=False) / CACHE_FILE


def _stated(config: Path) -> tuple[list[str], str | None]:
    """The directories listed in the file, and a problem with the file, if there is one."""
    try:
        with config.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], f"{config}: {(error.strerror or type(error).__name__).lower()}; the file is ignored"
    try:
        loads = cast("Callable[[str], dict[str, object]]", importlib.import_module(TOML).loads)
        stated = loads(content.decode()).get("models", [])
    except ModuleNotFoundError:
        return [], f"{config}: can't be read without {TOML}; run: pip install {TOML}"
    except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8
        return [], f"{config}: {error}; the file is ignored"
    listed = [stated] if isinstance(stated, str) else stated
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return [], f'{config}: `models` must be a list of directories: models = ["/data/models"]; the file is ignored'
    return [one for one in listed if one], None
