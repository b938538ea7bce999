"""Groups files into candidates for holding a model's values: single files, or all shards of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpumodels_shared.shards import are_complete, checkpoint_of, shards_in_all
from gpumodels_tui.catalogue.index import KnownFile
from gpumodels_tui.catalogue.kept_matches import Files, files_key

PackedShapes = tuple[bytes, ...]
"""The packed shapes of each file, as read from its header."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, or the shards of one model, that may hold a model's values."""

    key: bytes
    """Identifies the files in their present state; changes when any of them changes."""
    files: Files
    names: tuple[str, ...]
    suffix: str | None
    shapes: PackedShapes

    @property
    def modified_ns(self) -> int:
        """The newest modification time of the files."""
        return max(stamp.modified_ns for _, stamp in self.files)


def candidates_among(files: Sequence[KnownFile]) -> list[Candidate]:
    """The candidates among these files: those whose values can be read, with the shards of one model as one candidate."""
    by_name = {name: file for file in files for name in (file.facts.path, *file.facts.aliases)}
    groups: list[list[KnownFile]] = []
    in_groups: set[str] = set()
    for file in files:
        shards = _shards(file, by_name)
        if shards:
            groups.append(shards)
            in_groups.update(shard.facts.path for shard in shards)
    numbered: dict[str, list[KnownFile]] = {}
    for file in files:
        if file.facts.path not in in_groups:
            numbered.setdefault(checkpoint_of(file.name) if shards_in_all(file.name) else file.facts.path, []).append(file)
    for members in numbered.values():
        is_complete = are_complete(file.name for file in members)
        groups += [sorted(members, key=lambda file: file.name)] if is_complete else [[file] for file in members]
    return [_candidate(group) for group in groups if all(one.facts.shapes for one in group)]


def _candidate(group: Sequence[KnownFile]) -> Candidate:
    files = tuple((one.facts.path, one.stamp) for one in group)
    names = tuple(one.name for one in group)
    return Candidate(files_key(files), files, names, group[0].suffix, tuple(one.facts.shapes for one in group))


def _shards(index: KnownFile, by_name: Mapping[str, KnownFile]) -> list[KnownFile]:
    """The files that an index lists; empty unless all of them exist."""
    for name in (index.facts.path, *index.facts.aliases):
        directory = name.rpartition("/")[0]
        found = [by_name[path] for shard in index.facts.shards if (path := f"{directory}/{shard}") in by_name]
        if found and len(found) == len(index.facts.shards):
            return found
    return []
