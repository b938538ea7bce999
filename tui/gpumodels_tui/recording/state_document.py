"""From the sources' state to the document that a recording keeps, and of each process only once while it stays the same.

Models are kept as they are shown: with the names and files that the catalogue gave them then, since files may change.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec import Struct

from gpumodels_shared.schema import Model, Snapshot
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts
from gpumodels_tui.following import files_seen
from gpumodels_tui.recording.merge_patch import Document, without_nulls
from gpumodels_tui.sources.feed import FeedState, ProcessState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.enrichment import enriched

TREE_SECONDS: Final = 60.0
"""A model's layer tree is kept again no sooner; while it differs from the one that was kept, the recording has none."""
LARGEST_TREE_BYTES: Final = 256 * 1024
LARGEST_METADATA_BYTES: Final = 64 * 1024
"""A file's metadata beyond this is left out."""


class _Kept(Struct):
    state: ProcessState
    catalogue: CatalogueState
    document: Document
    files: tuple[FileFacts, ...]


class _Tree(Struct):
    packed: bytes
    text: str
    kept_at: float


class StateDocuments:
    """Makes document after document. Unchanged parts are the identical objects, which `patch_between` skips."""

    def __init__(self, tree_bytes: int) -> None:
        """Args:
        tree_bytes: How many bytes of layer trees a document may hold; 0 for none.
        """
        self._tree_bytes = tree_bytes
        self._kept: dict[str, _Kept] = {}
        self._trees: dict[tuple[str, str], _Tree] = {}
        self._files: dict[str, tuple[FileFacts, Document]] = {}
        self._hardware: tuple[HardwareState, Document] | None = None

    def document(self, feed: FeedState, hardware: HardwareState, catalogue: CatalogueState, now: float) -> Document:
        """All that screens need. `now` is a monotonic time."""
        self._kept = {process.key: self._of(process, catalogue, now) for process in feed.processes}
        self._trees = {key: tree for key, tree in self._trees.items() if key[0] in self._kept}
        facts = {one.path: one for kept in self._kept.values() for one in kept.files}
        seen = (catalogue.by_path.get(path) for path in files_seen(hardware))
        facts |= {one.path: one for one in seen if one is not None}
        self._files = {path: self._file_of(path, one) for path, one in facts.items()}
        if self._hardware is None or self._hardware[0] is not hardware:
            self._hardware = hardware, _hardware(hardware)
        return {
            "directories": list(map(str, feed.directories)),
            "processes": {key: kept.document for key, kept in self._kept.items()},
            "unreadable": [[str(one.path), one.reason] for one in feed.unreadable],
            "hardware": self._hardware[1],
            "files": {path: document for path, (_, document) in self._files.items()},
            "warnings": list(catalogue.warnings),
        }

    def _file_of(self, path: str, facts: FileFacts) -> tuple[FileFacts, Document]:
        known = self._files.get(path)
        return known if known is not None and known[0] is facts else (facts, _file(facts))

    def _of(self, process: ProcessState, catalogue: CatalogueState, now: float) -> _Kept:
        kept = self._kept.get(process.key)
        if kept is not None and kept.state is process and kept.catalogue is catalogue:
            return kept
        models = [enriched(model, catalogue) for model in (process.snapshot.models if process.snapshot is not None else ())]
        document: Document = {
            "path": str(process.path),
            "pid": process.pid,
            "user": process.user,
            "liveness": process.liveness.value,
            "snapshot_at_ns": process.snapshot_at_ns,
            "problem": process.problem,
            "is_local": process.is_local,
            "outer_pid": process.outer_pid,
            "late_seconds": process.late_seconds,
            "late_since_first_seen": process.late_since_first_seen,
            "trees": dict(self._trees_of(process, now)),
        }
        if process.snapshot is not None:
            document["snapshot"] = _snapshot(process.snapshot, [one.model for one in models])
        files = tuple(file for one in models for file in one.files)
        return _Kept(process, catalogue, without_nulls(document), files)

    def _trees_of(self, process: ProcessState, now: float) -> Iterator[tuple[str, str]]:
        room = self._tree_bytes
        for model in process.snapshot.models if process.snapshot is not None else ():
            packed = process.trees.get(model.id)
            if packed is None or len(packed) > min(room, LARGEST_TREE_BYTES):
                continue
            tree = self._trees.get((process.key, model.id))
            if tree is None or (tree.packed != packed and now - tree.kept_at >= TREE_SECONDS):
                tree = _Tree(packed, base64.b64encode(packed).decode(), now)
                self._trees[process.key, model.id] = tree
            if tree.packed == packed:
                room -= len(packed)
                yield model.id, tree.text


def _snapshot(snapshot: Snapshot, models: list[Model]) -> Document:
    plain: Document = msgspec.to_builtins(replace(snapshot, models=()))
    plain["models"] = {model.id: msgspec.to_builtins(replace(model, tree=None, fingerprint=None)) for model in models}
    plain["order"] = [model.id for model in models]
    return plain


def _hardware(hardware: HardwareState) -> Document:
    plain: Document = msgspec.to_builtins(hardware, str_keys=True)
    plain["running"] = list(plain["running"].values())
    document: Document = without_nulls(plain)
    return document


def _file(facts: FileFacts) -> Document:
    metadata = facts.metadata
    if sum(len(key) + len(value) for key, value in metadata.items()) > LARGEST_METADATA_BYTES:
        metadata = {}
    plain: Any = msgspec.to_builtins(replace(facts, shapes=b"", metadata=metadata))
    document: Document = without_nulls(plain)
    return document
