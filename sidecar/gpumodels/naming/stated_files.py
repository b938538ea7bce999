"""Which files a name in a config means: a directory, a file, or a repository in the Hugging Face hub's cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from gpumodels.provenance.checkpoint_values import READABLE
from gpumodels_shared.hub_cache import hub_cache

MAX_CONFIG_FILES: Final = 64
PICKLED: Final = (".bin", ".pt", ".pth", ".ckpt")


def was_read(stated: str, paths: Sequence[str]) -> bool:
    """Whether one of these files, which this process read, lies where a config says that its model was loaded from."""
    stated = stated.strip().rstrip("/")
    try:
        directory = os.path.abspath(stated)  # noqa: PTH100 — symlinks stay
    except OSError:  # the working directory was removed: what is relative to it is nowhere
        directory = stated
    repository = f"/models--{stated.replace('/', '--')}/"
    return any(
        path == directory or path.startswith(directory + "/") or repository in path or ("/" in stated and f"/{stated}/" in path)
        for path in paths
    )


def files_at(stated: str, suffixes: tuple[str, ...] = READABLE) -> tuple[str, ...]:
    """The safetensors files in the directory that a config names, and one level below it; for a hub repository, in its cache.

    Args:
        stated: the directory, the file or the repository.
        suffixes: of the files, if others than those of safetensors.

    Returns:
        Empty where nothing can be listed there: what a config says may be no path at all, too long for one, or unreadable.
    """
    try:
        return _files_below(stated.strip(), suffixes)
    except (OSError, ValueError):
        return ()


def _hub_cache() -> str:
    """The hub's cache as this process knows it; huggingface_hub reads the variables once, when it is imported."""
    constants = sys.modules.get("huggingface_hub.constants")
    known = constants.__dict__.get("HF_HUB_CACHE") if type(constants) is ModuleType else None
    return known if type(known) is str else hub_cache(os.environ, str(Path.home()))


def _files_below(stated: str, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    roots = [Path(stated)] if os.path.isabs(stated) or stated.startswith(("./", "../")) or Path(stated).is_dir() else []  # noqa: PTH117
    if not roots and stated.count("/") <= 1:
        snapshots = Path(_hub_cache()) / f"models--{stated.replace('/', '--')}" / "snapshots"
        roots = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    found: list[str] = []
    for root in roots:
        if root.suffix in suffixes and root.is_file():
            found.append(os.path.abspath(root))  # noqa: PTH100 — symlinks stay
        elif root.is_dir():
            for directory in (root, *sorted(entry for entry in root.iterdir() if entry.is_dir())):
                found += [os.path.abspath(file) for file in sorted(directory.iterdir()) if file.suffix in suffixes]  # noqa: PTH100
    return tuple(found[:MAX_CONFIG_FILES])
