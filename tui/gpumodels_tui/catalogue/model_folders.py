"""Finds the usual model folders: the Hugging Face cache, and ComfyUI's own folders and those in its YAML file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from gpumodels_shared.hub_cache import expanded, hub_cache

MAX_YAML_BYTES: Final = 64 * 1024
EXTRA_PATHS: Final = "extra_model_paths.yaml"
EXTRA_PATHS_FLAG: Final = "--extra-model-paths-config"
BASE_FLAG: Final = "--base-directory"


def default_model_folders(environment: Mapping[str, str], home: Path) -> list[Path]:
    """The model folders that exist on this machine for this user."""
    hub = hub_cache(environment, str(home))
    # Set to nothing, it is the directory that a process happens to work in, which may hold anything.
    folders = [Path.cwd() / hub] if hub and _is_directory(Path(hub)) else []
    comfyui = home / "ComfyUI"
    if is_comfyui(comfyui):
        folders += comfyui_model_folders(comfyui, ())
    return list(dict.fromkeys(folders))


def is_comfyui(root: Path) -> bool:
    """Whether this directory contains ComfyUI's own files."""
    try:
        return (root / "main.py").is_file() and (root / "folder_paths.py").is_file() and (root / "comfy").is_dir()
    except OSError:
        return False


def comfyui_root(command: Sequence[str], working_directory: Path) -> Path | None:
    """ComfyUI's directory, if this is the command line of a ComfyUI process."""
    for argument in command[1:4]:
        if argument.endswith("main.py") and "\0" not in argument:
            root = (working_directory / argument).parent
            return root if is_comfyui(root) else None
    return None


def comfyui_model_folders(root: Path, arguments: Sequence[str]) -> list[Path]:
    """The existing model folders of a ComfyUI at `root` that was started with these arguments."""
    bases = [Path(base) for base in _values(arguments, BASE_FLAG)] or [root]
    folders = [root / base / "models" for base in bases]
    files = [root / EXTRA_PATHS, *(root / file for file in _values(arguments, EXTRA_PATHS_FLAG))]
    for file in files:
        folders += extra_model_paths(file)
    return [folder for folder in dict.fromkeys(folders) if _is_directory(folder)]


def extra_model_paths(file: Path) -> list[Path]:
    """The directories listed in ComfyUI's YAML file.

    Each section maps kinds of models to paths, one per line. ComfyUI expands `~` and variables in a section's `base_path` only,
    and joins it with the lines as they are; without one, they are relative to the file. Empty if the file is missing or broken,
    or PyYAML is not installed.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_YAML_BYTES + 1)
        yaml = importlib.import_module("yaml")
    except (OSError, ImportError):
        return []
    if len(content) > MAX_YAML_BYTES:
        return []
    load = cast("Callable[[bytes], object]", yaml.safe_load)
    try:
        sections = load(content)
    except (cast("type[Exception]", yaml.YAMLError), ValueError, RecursionError):
        return []
    if not isinstance(sections, dict):
        return []
    found = [folder for section in sections.values() if isinstance(section, dict) for folder in _folders_of(section, file.parent)]
    return list(dict.fromkeys(found))


def _folders_of(section: Mapping[object, object], yaml_directory: Path) -> Iterator[Path]:
    stated = section.get("base_path")
    base = yaml_directory
    if isinstance(stated, str) and "\0" not in stated:
        base = yaml_directory / expanded(stated, os.environ, str(Path.home()))
    for kind, paths in section.items():
        if kind != "base_path" and isinstance(paths, str):
            for line in paths.split("\n"):
                if line and "\0" not in line:
                    yield Path(os.path.normpath(base / line))


def _values(arguments: Sequence[str], flag: str) -> Iterable[str]:
    """The flag's values: the words after it up to the next flag, or the text after its `=`."""
    is_open = False
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            is_open = name == flag
            if is_open and equals:
                yield value
        elif is_open:
            yield argument


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
