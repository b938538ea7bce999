"""Finds ComfyUI's folder and its folders of custom nodes from the path that somebody gave."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CUSTOM_NODES: Final = "custom_nodes"
_PROGRAM: Final = ("main.py", "nodes.py", "comfy")
"""What the folder with ComfyUI's program has had in all versions."""


class NotComfyUIError(Exception):
    """The path is no ComfyUI; the text says what it is instead, and what to give."""


@dataclass(frozen=True, slots=True)
class ComfyFolder:
    """Where a ComfyUI has its program, and where it looks for custom nodes."""

    base: Path
    """The folder that holds `custom_nodes`: ComfyUI's own, or the one of `--base-directory`, as the desktop app has it."""
    program: Path | None
    """The folder with `main.py`; None where only the base folder is known."""
    custom_nodes: tuple[Path, ...]
    """The first is where node packs are put; then those of `extra_model_paths.yaml`."""

    @property
    def version(self) -> str | None:
        """ComfyUI's own version; None where its program isn't known or doesn't say."""
        return _version(self.program) if self.program is not None else None


def comfy_folder(path: Path) -> ComfyFolder:
    """The ComfyUI that this path means: its folder, the one around that, `main.py`, `custom_nodes`, or a base folder.

    Raises:
        NotComfyUIError: it means none.
        OSError: it can't be read.
    """
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - Path.resolve would follow links, and people know their paths
    if not path.exists():
        if path.is_symlink():
            raise NotComfyUIError(f"{path} is a link to {path.readlink()}, which does not exist")
        raise NotComfyUIError(f"there is no {path}; give the folder that has ComfyUI's main.py")
    if path.name == "main.py":
        path = path.parent
    if not path.is_dir():
        raise NotComfyUIError(f"{path} is a file; give the folder that has ComfyUI's main.py")
    if CUSTOM_NODES in (path.name, path.resolve().name):
        return _of_custom_nodes(path)
    for folder in (path, path / "ComfyUI"):
        if _is_program(folder):
            return ComfyFolder(folder, folder, (folder / CUSTOM_NODES, *_extra_folders(folder)))
        if _is_base(folder):
            return ComfyFolder(folder, None, (folder / CUSTOM_NODES,))
    around = next((folder for folder in path.parents if _is_program(folder)), None)
    hint = f"; its ComfyUI is {around}" if around is not None else "; give the folder that has ComfyUI's main.py"
    raise NotComfyUIError(f"{path} is not ComfyUI's folder{hint}")


def _of_custom_nodes(folder: Path) -> ComfyFolder:
    around = folder.parent
    if _is_program(around):
        others = (other for other in _extra_folders(around) if other != folder)
        return ComfyFolder(around, around, (folder, *others))
    return ComfyFolder(around, None, (folder,))


def _is_program(folder: Path) -> bool:
    return all((folder / name).exists() for name in _PROGRAM)


def _is_base(folder: Path) -> bool:
    return (folder / CUSTOM_NODES).is_dir() and (folder / "models").is_dir()


def _version(program: Path) -> str | None:
    for name in ("comfyui_version.py", "pyproject.toml"):
        try:
            text = (program / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if found := re.search(r"^(?:__version__|version)\s*=\s*[\"']([\w.+-]+)[\"']", text, re.MULTILINE):
            return found[1]
    return None


def _extra_folders(program: Path) -> Iterator[Path]:
    """Those that `extra_model_paths.yaml` adds, as ComfyUI reads it; none where this Python has no PyYAML to read it with."""
    try:
        yaml: Any = importlib.import_module("yaml")
        sections = yaml.safe_load((program / "extra_model_paths.yaml").read_text(encoding="utf-8"))
    except (ImportError, OSError, ValueError):
        return
    except yaml.YAMLError:  # ComfyUI would not start with it either
        return
    for section in sections.values() if isinstance(sections, dict) else ():
        if not isinstance(section, dict) or not isinstance(section.get(CUSTOM_NODES), str):
            continue
        base = program / os.path.expandvars(os.path.expanduser(str(section.get("base_path") or "")))  # noqa: PTH111 - as ComfyUI
        for line in section[CUSTOM_NODES].split("\n"):
            if line and (folder := Path(os.path.normpath(base / line))).is_dir():
                yield folder
