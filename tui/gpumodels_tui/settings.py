"""What was chosen: flag, else environment, else configuration file, else default. The precedence stands here alone.

The file is `config.toml` in the user's configuration directory (`~/.config/gpumodels`; XDG_CONFIG_HOME counts):

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

from gpumodels_tui.catalogue.model_folders import default_places

APPLICATION: Final = "gpumodels"

CACHE_FILE: Final = "catalogue-1.sqlite"
"""Of `catalogue.cache`; the number is its schema's: another schema is another file."""

MAX_CONFIG_BYTES: Final = 64 * 1024

TOML: Final = "tomllib" if sys.version_info >= (3, 11) else "tomli"


class ModelDirectories(Struct, frozen=True):
    """Where model files are looked for."""

    directories: tuple[Path, ...]
    are_chosen: bool
    """By the user; otherwise they are the usual places, as far as they exist."""
    problem: str | None = None
    """Why the configuration file says nothing."""


def model_directories(
    flags: Sequence[str], environment: Mapping[str, str], config: Path | None = None, home: Path | None = None
) -> ModelDirectories:
    """The first that says anything: `--models`, GPUMODELS_MODELS, `models` in the file; else the usual places."""
    for chosen in (flags, environment.get("GPUMODELS_MODELS", "").split(os.pathsep)):
        if any(chosen):
            return ModelDirectories(tuple(as_path(one) for one in chosen if one), True)
    stated, problem = _stated(config or config_path())
    if stated:
        return ModelDirectories(tuple(as_path(one) for one in stated), True)
    return ModelDirectories(tuple(default_places(environment, home or Path.home())), False, problem)


def as_path(text: str) -> Path:
    """Absolute, `~` resolved where such a user exists."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # `~nobody`: no such user, so it is a name like any other
        path = path.expanduser()
    return path.absolute()


def config_path() -> Path:
    """The configuration file."""
    return platformdirs.user_config_path(APPLICATION, appauthor=False) / "config.toml"


def cache_path() -> Path:
    """Where headers are kept from one start to the next."""
    return platformdirs.user_cache_path(APPLICATION, appauthor=False) / CACHE_FILE


def _stated(config: Path) -> tuple[list[str], str | None]:
    """The directories that the file names, and what is wrong with it."""
    try:
        with config.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], f"{config}: {(error.strerror or type(error).__name__).lower()}; it is left out"
    try:
        loads = cast("Callable[[str], dict[str, object]]", importlib.import_module(TOML).loads)
        stated = loads(content.decode()).get("models", [])
    except ModuleNotFoundError:
        return [], f"{config}: can't be read without {TOML}; run: pip install {TOML}"
    except (ValueError, RecursionError) as error:  # TOML that is none, and text that is no UTF-8
        return [], f"{config}: {error}; it is left out"
    listed = [stated] if isinstance(stated, str) else stated
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return [], f'{config}: `models` must be a list of directories: models = ["/data/models"]; it is left out'
    return [one for one in listed if one], None
