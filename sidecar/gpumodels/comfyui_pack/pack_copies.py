"""The node pack's copies in a folder of custom nodes: puts one there, finds those that are there, and removes what is ours.

What ours are is written beside them: the hash of each file as it was put there. A copy that differs was changed by somebody, one
with `.git` or `.tracking` was put there by git or by ComfyUI-Manager, and a link leads to somebody's own folder: none of these is
ever written to or removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

PACK_NAME: Final = "gpumodels-sidecar"
"""With a hyphen, so that `import gpumodels` never finds the pack, where some other pack makes custom_nodes importable."""
DISABLED: Final = ".disabled"
"""ComfyUI loads no folder whose name ends in this; ComfyUI-Manager moves disabled packs into a folder of this name, too."""
RECORD: Final = ".gpumodels.json"
SOURCE: Final = Path(__file__).parent / "node_pack"
PACK_FILES: Final = ("__init__.py", "prestartup_script.py", "pyproject.toml")
_LEFT_BY_OTHERS: Final = frozenset({"__pycache__", ".DS_Store"})
"""What Python and macOS put into folders."""


class PackOwner(Enum):
    """Who is responsible for a copy; the value says it in a sentence about the copy's path."""

    OURS = "was put there by gpumodels"
    CHANGED = "was changed since it was put there"
    GIT = "was put there by git"
    MANAGER = "was put there by ComfyUI-Manager or comfy-cli"
    LINK = "is a link to another folder"
    OTHER = "was not put there by gpumodels"


@dataclass(frozen=True, slots=True)
class PackCopy:
    """A copy of the node pack among custom nodes."""

    path: Path
    version: str | None
    """As its `pyproject.toml` says."""
    is_enabled: bool
    """Whether ComfyUI loads it."""
    owner: PackOwner


def pack_version() -> str:
    """The version of the node pack in this distribution."""
    return _stated(SOURCE, "version") or ""


def copies_in(custom_nodes: Path) -> list[PackCopy]:
    """All copies in this folder, whatever their folders are called; what is enabled comes first.

    Raises:
        OSError: the folder can't be read.
    """
    found = [
        PackCopy(path, _stated(path, "version"), is_enabled, _owner(path))
        for path, is_enabled in _candidates(custom_nodes)
        if _is_pack(path)
    ]
    return sorted(found, key=lambda copy: (not copy.is_enabled, copy.path))


def put(custom_nodes: Path) -> Path:
    """Put the pack there, in place of a copy of ours if there is one. ComfyUI sees the old one or the new one, never half of it.

    Returns:
        Its folder.

    Raises:
        ValueError: something that isn't ours has its place.
        OSError: it can't be written there.
    """
    target = custom_nodes / PACK_NAME
    custom_nodes.mkdir(exist_ok=True)
    temporary = custom_nodes / f".{PACK_NAME}-{os.getpid()}{DISABLED}"
    temporary.mkdir()
    try:
        hashes: dict[str, str] = {}
        for name in PACK_FILES:
            content = (SOURCE / name).read_bytes()
            (temporary / name).write_bytes(content)
            hashes[name] = _hash(content)
        (temporary / RECORD).write_text(
            json.dumps({"version": pack_version(), "files": hashes}, indent=1) + "\n", encoding="utf-8"
        )
        if os.path.lexists(target):
            remove(PackCopy(target, None, True, _owner(target)))
        temporary.rename(target)
    except BaseException:
        _empty(temporary, {*PACK_FILES, RECORD})
        raise
    return target


def remove(copy: PackCopy) -> None:
    """Remove a copy of ours.

    Raises:
        ValueError: it is somebody else's.
        OSError: it can't be removed.
    """
    if copy.owner is not PackOwner.OURS:
        raise ValueError(f"{copy.path} {copy.owner.value}")
    names = set(os.listdir(copy.path)) - {"__pycache__"}
    out_of_sight = copy.path.with_name(f".{PACK_NAME}-{os.getpid()}-old{DISABLED}")
    copy.path.rename(out_of_sight)  # in one step, so that ComfyUI sees all of it or nothing
    _empty(out_of_sight, names)


def _candidates(custom_nodes: Path) -> Iterator[tuple[Path, bool]]:
    """Folders that may be packs, and whether ComfyUI loads packs from there."""
    folders = [custom_nodes, custom_nodes / DISABLED]
    for folder in (folder for folder in folders if folder.is_dir()):
        for name in os.listdir(folder):
            yield folder / name, folder == custom_nodes and not name.endswith(DISABLED)


def _is_pack(path: Path) -> bool:
    if _stated(path, "name") == PACK_NAME or (path.name == PACK_NAME and path.is_dir()):
        return True
    return os.path.isfile(path / RECORD)  # noqa: PTH113 - False for a folder that may not be read


def _stated(path: Path, key: str) -> str | None:
    """What the folder's `pyproject.toml` says; read by pattern, as Python 3.10 has no parser of TOML."""
    try:
        text = (path / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    project = re.search(r"^\[project\]$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    found = re.search(rf"^{key}\s*=\s*[\"']([^\"']*)[\"']", project[1], re.MULTILINE) if project is not None else None
    return found[1] if found is not None else None


def _owner(path: Path) -> PackOwner:
    if path.is_symlink():
        return PackOwner.LINK
    if (path / ".git").exists():
        return PackOwner.GIT
    if (path / ".tracking").exists():
        return PackOwner.MANAGER
    try:
        hashes = json.loads((path / RECORD).read_bytes())["files"]
        names = set(os.listdir(path)) - _LEFT_BY_OTHERS - {RECORD}
        same = names == set(hashes) and all(_hash((path / name).read_bytes()) == hashes[name] for name in names)
    except FileNotFoundError:
        return PackOwner.OTHER
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    return PackOwner.OURS if same else PackOwner.CHANGED


def _empty(folder: Path, names: Collection[str]) -> None:
    """Remove these files, what Python compiled from them, and the folder if nothing else is in it."""
    for compiled in (folder / "__pycache__").glob("*.pyc*"):
        compiled.unlink()
    if (folder / "__pycache__").is_dir():
        (folder / "__pycache__").rmdir()
    for name in names:
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
