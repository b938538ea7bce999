"""What a model is called: evidence in, a name with its source and confidence out. A wrong name is worse than none.

Which sources there are, and how sure each is, stands in `gpumodels_shared.name_sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpumodels.support.resident import resident
from gpumodels_shared.file_names import checkpoint_of, file_group_name, name_from_attribute, name_from_config
from gpumodels_shared.fingerprint import Match
from gpumodels_shared.name_sources import CONFIDENCE, KNOWN_FILE_CONFIDENCE, PATCHED_CONFIDENCE, NameSource
from gpumodels_shared.schema import Fingerprint


@resident
@dataclass(frozen=True, slots=True)
class MatchedFiles:
    """What comparing a model with files gave."""

    fingerprint: Fingerprint | None
    paths: tuple[str, ...] = ()
    """Files that agree best, all shards of each; from several checkpoints on a tie."""
    match: Match | None = None
    """None where only names and shapes could be compared."""
    contradicts_config: bool = False
    """The files that the config names have these tensors with other values."""
    matches: Mapping[str, tuple[tuple[int, ...], Match]] = field(default_factory=dict)
    """All that was compared: by checkpoint, the numbers of its files and how they agree."""


@resident
@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one model's name."""

    class_name: str
    bytes_by_origin: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Bytes by (path, source); the path is empty for what was loaded from elsewhere than from a file."""
    total_bytes: int = 0
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Each file's own, by path."""
    recognised: MatchedFiles | None = None
    config_name: str | None = None
    pipeline_name: str | None = None
    """What the pipeline was loaded from in which it stands."""
    architecture: str | None = None
    attributes: tuple[str, ...] = ()
    """What `model_name` and `name` say, in this order."""


@resident
@dataclass(frozen=True, slots=True)
class Naming:
    """A name, and why."""

    name: str
    source: str
    confidence: float
    files: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()


def choose_name(evidence: Evidence) -> Naming:
    """The best name that the evidence bears."""
    fallback = class_and_architecture(evidence.class_name, evidence.architecture)
    files = _files_by_bytes(evidence.bytes_by_origin)
    paths = _paths(files)
    nameless = 0.0
    if knows_most(evidence.bytes_by_origin, evidence.total_bytes):
        nameless = KNOWN_FILE_CONFIDENCE
        group = files[0]
        rivals = [other for other in files[1:] if other.size_bytes * 2 > group.size_bytes]
        if rivals:
            candidates = tuple(path for other in (group, *rivals) for path in other.paths)
            return Naming(fallback, NameSource.CLASS, KNOWN_FILE_CONFIDENCE, paths, candidates)
        if name := file_group_name(group.paths, evidence.metadata):
            return Naming(name, group.source, CONFIDENCE[group.source], paths)
    config_name = name_from_config(evidence.config_name) if evidence.config_name else None
    recognised = evidence.recognised
    if recognised is not None and recognised.contradicts_config:
        config_name = None
    if recognised is not None and recognised.paths:
        if (naming := _by_recognition(recognised, evidence, config_name, fallback)) is not None:
            return naming
        paths = paths or recognised.paths
        if recognised.match is not None and len({checkpoint_of(path) for path in recognised.paths}) == 1:
            nameless = KNOWN_FILE_CONFIDENCE
    if config_name:
        return Naming(config_name, NameSource.CONFIG, CONFIDENCE[NameSource.CONFIG], paths)
    pipeline_name = name_from_config(evidence.pipeline_name) if evidence.pipeline_name else None
    if pipeline_name and not (recognised is not None and recognised.contradicts_config):
        return Naming(pipeline_name, NameSource.PIPELINE, CONFIDENCE[NameSource.PIPELINE], paths)
    for attribute in evidence.attributes:
        if attribute != evidence.class_name and (name := name_from_attribute(attribute)) is not None:
            return Naming(name, NameSource.ATTRIBUTE, CONFIDENCE[NameSource.ATTRIBUTE], paths)
    return Naming(fallback, NameSource.CLASS, nameless, paths)


def file_of_most(bytes_by_origin: Mapping[tuple[str, str], int], total_bytes: int) -> str | None:
    """The checkpoint that holds more than half of the model."""
    sizes: dict[str, int] = {}
    for (path, _), size in bytes_by_origin.items():
        if path:
            checkpoint = checkpoint_of(path)
            sizes[checkpoint] = sizes.get(checkpoint, 0) + size
    return next((checkpoint for checkpoint, size in sizes.items() if size * 2 > total_bytes), None)


def knows_most(bytes_by_origin: Mapping[tuple[str, str], int], total_bytes: int) -> bool:
    """Whether one file, or the shards of one, holds more than half of the model."""
    return file_of_most(bytes_by_origin, total_bytes) is not None


def _by_recognition(recognised: MatchedFiles, evidence: Evidence, config_name: str | None, fallback: str) -> Naming | None:
    """A name for what agrees; None where the files have none, or where a config says more than names and shapes."""
    checkpoints: dict[str, list[str]] = {}
    for path in recognised.paths:
        checkpoints.setdefault(checkpoint_of(path), []).append(path)
    names = {file_group_name(tuple(paths), evidence.metadata) for paths in checkpoints.values()}
    if recognised.match is None and config_name:
        return None
    if len(names) > 1:
        if config_name in names:
            return None  # the config knows which
        return Naming(fallback, NameSource.CLASS, KNOWN_FILE_CONFIDENCE, (), recognised.paths)
    name = names.pop()
    if name is None:
        return None
    source = NameSource.NAMES_AND_SHAPES if recognised.match is None else NameSource.VALUES
    patched = recognised.match is not None and not recognised.match.is_whole
    confidence = PATCHED_CONFIDENCE if patched else CONFIDENCE[source]
    if len(checkpoints) == 1:
        return Naming(name, source, confidence, recognised.paths)
    # A file and its copy in another precision: one name, and which of them it was doesn't show.
    return Naming(name, source, confidence, (), recognised.paths)


def class_and_architecture(class_name: str, architecture: str | None) -> str:
    """`BertModel (bert)`: what is said when nobody knows the name."""
    return f"{class_name} ({architecture})" if architecture else class_name


@resident
@dataclass(frozen=True, slots=True)
class _FileGroup:
    """One file, or the shards of one checkpoint."""

    paths: tuple[str, ...]
    source: str
    size_bytes: int


def _files_by_bytes(bytes_by_origin: Mapping[tuple[str, str], int]) -> list[_FileGroup]:
    groups: dict[str, dict[tuple[str, str], int]] = {}
    for (path, source), size in bytes_by_origin.items():
        if path:
            groups.setdefault(checkpoint_of(path), {})[path, source] = size
    found = [
        _FileGroup(
            paths=tuple(sorted({path for path, _ in group})),
            source=min((source for _, source in group), key=lambda source: CONFIDENCE[source]),
            size_bytes=sum(group.values()),
        )
        for group in groups.values()
    ]
    return sorted(found, key=lambda group: (-group.size_bytes, group.paths))


def _paths(files: list[_FileGroup]) -> tuple[str, ...]:
    return tuple(path for group in files for path in group.paths)
