"""What a store that keeps files by their content calls them: ollama by manifests, Hugging Face's by symlinks."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gpumodels_shared.records import Record

MOST_ENTRIES: Final = 5000
"""Files and directories of a store that are gone through."""
MOST_DEPTH: Final = 6
MOST_MANIFEST_BYTES: Final = 128 * 1024
MOST_NAMES: Final = 8
OLLAMA_REGISTRY: Final = "registry.ollama.ai"
OLLAMA_NAMESPACE: Final = "library"
_OLLAMA_BLOB: Final = r"(?s)^(/.*)/blobs/sha256-([0-9a-f]{64})$"
_HUB_BLOB: Final = r"(?s)^(/.*/models--[^/]+)/blobs/([0-9a-f]{64})$"
_PARTS: Final = {
    "application/vnd.ollama.image.model": "",
    "application/vnd.ollama.image.adapter": " (adapter)",
    "application/vnd.ollama.image.projector": " (projector)",
}


class Stored(Record):
    """What a store calls one of its files."""

    path: str | None = None
    """The path of a symlink to it, which says what it is."""
    names: tuple[str, ...] = ()
    """What people call the models that it is of; several if these share it."""


class _Layer(Record):
    media_type: str
    digest: str


UNKNOWN: Final = Stored()


def names_in_store(path: str, root: str | None) -> Stored:
    """What the store calls the file at this path.

    Args:
        path: in a folder `blobs`.
        root: what is to be put before the paths of its process; None if that isn't known.
    """
    if root is None:
        return UNKNOWN
    if (found := re.match(_OLLAMA_BLOB, path)) is not None:
        return Stored(names=tuple(sorted(_ollama_names(f"{root}{found[1]}/manifests", f"sha256:{found[2]}")))[:MOST_NAMES])
    if (found := re.match(_HUB_BLOB, path)) is not None:
        snapshots = f"{found[1]}/snapshots"
        for link in _files_below(root + snapshots):
            if Path(link).is_symlink() and _target(link) == found[2]:
                return Stored(path=link.removeprefix(root))
    return UNKNOWN


def _ollama_names(manifests: str, digest: str) -> Iterator[str]:
    """`llama3.2:3b` of each manifest that has this digest among its layers."""
    for file in _files_below(manifests):
        place = file.removeprefix(manifests + "/").split("/")
        if len(place) != 4:
            continue
        for layer in _layers(file):
            if layer.digest == digest and layer.media_type in _PARTS:
                registry, namespace, model, tag = place
                name = model if namespace == OLLAMA_NAMESPACE else f"{namespace}/{model}"
                yield f"{name if registry == OLLAMA_REGISTRY else f'{registry}/{name}'}:{tag}{_PARTS[layer.media_type]}"
                break


def _layers(path: str) -> list[_Layer]:
    import json  # only for stores with manifests

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return []
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_MANIFEST_BYTES:
            return []
        layers: list[Any] = json.loads(os.read(descriptor, MOST_MANIFEST_BYTES))["layers"]
        return [_Layer(str(layer["mediaType"]), str(layer["digest"])) for layer in layers]
    except (OSError, KeyError, TypeError, RecursionError, ValueError):
        return []  # somebody else's file: it names nothing
    finally:
        os.close(descriptor)


def _files_below(directory: str) -> Iterator[str]:
    """The files and symlinks in the tree, as far as they may be seen; symlinks aren't followed."""
    left = MOST_ENTRIES
    waiting = [(directory, MOST_DEPTH)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                for entry in listed:
                    left -= 1
                    if left < 0:
                        return
                    if not entry.is_dir(follow_symlinks=False):
                        yield entry.path
                    elif depth > 1:
                        waiting.append((entry.path, depth - 1))
        except OSError:
            continue


def _target(link: str) -> str:
    try:
        return Path(link).readlink().name
    except OSError:
        return ""
