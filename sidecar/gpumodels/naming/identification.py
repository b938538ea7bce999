"""How a model gets its name: the stages, in their order. A wrong name is worse than none.

Each stage takes the evidence and returns it with something added or taken away. `CHOICE` lists the ways to a name, the surest
first: the first that gives one ends the search. `STAGES` is everything: what is found out before, and what may cost a name after.

Which sources of names there are, and how sure each is, stands in `gpumodels_shared.name_sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gpumodels.naming.evidence import Evidence, MatchedFiles, Naming
from gpumodels.naming.stated_files import was_read
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.file_names import file_group_name, name_from_attribute, name_from_config
from gpumodels_shared.name_sources import (
    CONFIDENCE,
    FROM_FILES,
    KNOWN_FILE_CONFIDENCE,
    PATCHED_VALUES_CONFIDENCE,
    RECENCY_CONFIDENCE,
    UNSEEN_LOAD_CONFIDENCE,
    NameSource,
)
from gpumodels_shared.shards import checkpoint_of

Stage = Callable[[Evidence], Evidence]

CLAIM_VALUES: Final = FROM_FILES - {NameSource.NAMES_AND_SHAPES}
"""Sources that say that the model's values are the file's."""
HOLD_NOW: Final = frozenset({NameSource.MAPPED_FILE, NameSource.VALUES})
"""Those that say what the model holds now; the others say what was loaded into it, and that stays true."""
COPIED: Final = frozenset({NameSource.STATE_DICT, NameSource.VALUES})
"""Those that don't say whether the values were read for this model, or copied from another one."""
MAX_PARTS: Final = 8
"""Of so many files a model may be put together; one that is stored in more is stored in a way that nobody knows here."""


def compare_with_files(evidence: Evidence) -> Evidence:
    """Where no file is known that holds most of the model, compare its values with the files that it may be from."""
    return (
        evidence if _is_most_from(_files_by_bytes(evidence), evidence) else _with_matched_files(evidence, is_name_claimed=False)
    )


def name_by_file_of_most_bytes(evidence: Evidence) -> Evidence:
    """The name of the file that holds more than half of the model, unless another holds more than half as much."""
    groups = _files_by_bytes(evidence)
    evidence = replace(evidence, files=_paths_of(groups))
    if not _is_most_from(groups, evidence):
        return evidence
    evidence = replace(evidence, is_file_known=True)
    largest = groups[0]
    rivals = [other for other in groups[1:] if other.size_bytes * 2 > largest.size_bytes]
    if largest.source != NameSource.STATE_DICT and not _are_stated(largest.paths, evidence):
        # Most of it was set, not loaded, into a model of another file: a draft model may have taken its target's embedding.
        rivals = [other for other in groups[1:] if other in rivals or _are_stated(other.paths, evidence)]
    if rivals:
        return _as_class(evidence, candidates=_paths_of([largest, *rivals]))
    names = _names_of(largest.paths, evidence)
    if len(names) > 1:
        return _as_class(evidence, candidates=tuple(path for paths in names.values() for path in paths))
    name = next(iter(names))
    return _named(evidence, name, NameSource(largest.source)) if name is not None else evidence


def name_by_matching_files(evidence: Evidence) -> Evidence:
    """The name of the files whose values agree, or else whose tensor names and shapes do; only candidates on a tie of names."""
    matched = evidence.matched
    if matched is None or not matched.paths or matched.is_guess:
        return evidence
    checkpoints: dict[str, list[str]] = {}
    for path in matched.paths:
        checkpoints.setdefault(_checkpoint_of(path, evidence), []).append(path)
    names = {name for paths in checkpoints.values() for name in _names_of(tuple(paths), evidence)}
    config_name = _config_name(evidence)
    is_by_values = matched.match is not None
    if is_by_values or not config_name:  # a config says more than names and shapes do
        if len(names) > 1 and config_name not in names:
            return _as_class(replace(evidence, files=(), is_file_known=True), candidates=matched.paths)
        name = names.pop() if len(names) == 1 else None  # of several names, the config knows which
        if name is not None:
            # A file and its copy in another precision have one name, and which of the two it was doesn't show.
            is_one = len(checkpoints) == 1
            source = NameSource.VALUES if is_by_values else NameSource.NAMES_AND_SHAPES
            is_patched = matched.match is not None and not matched.match.is_full
            confidence = PATCHED_VALUES_CONFIDENCE if is_patched else CONFIDENCE[source]
            files, candidates = (matched.paths, ()) if is_one else ((), matched.paths)
            return replace(evidence, naming=Naming(name, source, confidence, files, candidates))
    return replace(
        evidence,
        files=evidence.files or matched.paths,
        is_file_known=evidence.is_file_known or (is_by_values and len(checkpoints) == 1),
    )


def name_by_config(evidence: Evidence) -> Evidence:
    """The name in its config, unless the files there have other values."""
    name = _config_name(evidence)
    return _as_stated(evidence, name, NameSource.CONFIG) if name else evidence


def name_by_pipeline(evidence: Evidence) -> Evidence:
    """The name of what its pipeline was loaded from, unless the files there have other values."""
    if evidence.pipeline_name is None or _is_contradicted(evidence):
        return evidence
    name = name_from_config(evidence.pipeline_name)
    return _as_stated(evidence, name, NameSource.PIPELINE) if name else evidence


def name_by_attribute(evidence: Evidence) -> Evidence:
    """What its `model_name` or `name` says, or the label under which it is held, if that is more than its class."""
    for attribute in (*evidence.attributes, *([] if evidence.label is None else [evidence.label])):
        if attribute != evidence.class_name and (name := name_from_attribute(attribute)) is not None:
            return _named(evidence, name, NameSource.ATTRIBUTE)
    return evidence


def name_by_class(evidence: Evidence) -> Evidence:
    """Its class and architecture: nobody knows a name. Several files that hold most of it only together are candidates."""
    groups = _files_by_bytes(evidence)
    parts = [group for group in groups if 2 * group.size_bytes > groups[0].size_bytes]
    if 1 < len(parts) <= MAX_PARTS and 2 * sum(group.size_bytes for group in parts) > evidence.total_bytes:
        return _as_class(replace(evidence, is_file_known=True), candidates=_paths_of(parts))
    return _as_class(evidence)


CHOICE: Final[tuple[Stage, ...]] = (
    name_by_file_of_most_bytes,
    name_by_matching_files,
    name_by_config,
    name_by_pipeline,
    name_by_attribute,
    name_by_class,
)


def choose(evidence: Evidence) -> Evidence:
    """The first name of `CHOICE`."""
    evidence = replace(evidence, naming=None, files=(), is_file_known=False)
    for stage in CHOICE:
        if evidence.naming is None:
            evidence = stage(evidence)
    return evidence


def look_through_saved_files(evidence: Evidence) -> Evidence:
    """Values that this process wrote to a file and read back are from where they were before, unless they were trained first."""
    naming, inquiry = evidence.naming, evidence.inquiry
    if naming is None or naming.source not in CLAIM_VALUES:
        return evidence
    files = inquiry.saved_from(naming.files)
    if not files:
        return evidence
    metadata = {**evidence.metadata, **inquiry.metadata_of(files)}
    from_these = {(path, str(NameSource.STATE_DICT)): evidence.total_bytes // len(files) for path in files}
    return replace(
        choose(replace(evidence, bytes_by_origin=from_these, metadata=metadata)), bytes_by_origin=evidence.bytes_by_origin
    )


def keep_name_of_file(evidence: Evidence) -> Evidence:
    """The name from a file stays when its evidence thins out, unless most of the model was loaded from another file since."""
    naming, former, inquiry = evidence.naming, evidence.file_naming, evidence.inquiry
    if naming is None:
        return replace(evidence, file_naming=None)
    is_other = former is not None and bool(former.files and naming.files) and naming.files != former.files
    if former is not None and is_other and inquiry.were_saved_from(naming.files, former.files):
        return replace(evidence, naming=former)
    if naming.source in FROM_FILES:
        return replace(evidence, file_naming=naming)
    if former is None or naming.candidates:
        return evidence
    others = {path: size for (path, _), size in evidence.bytes_by_origin.items() if path not in former.files}
    saved = {path for path in others if path and inquiry.were_saved_from((path,), former.files)}
    from_others = sum(size for path, size in others.items() if path not in saved)
    if from_others * 2 > evidence.total_bytes:
        return replace(evidence, file_naming=None)
    return replace(evidence, naming=former)


def drop_refuted_name(evidence: Evidence) -> Evidence:
    """A model whose values were all replaced loses its name, and so does one that another file fits better, or nearly as well.

    Where only some values differ the name stays, and how many do is said beside it.
    """
    naming = evidence.naming
    if naming is None or naming.source not in CLAIM_VALUES or not naming.files:
        return evidence
    agreement = evidence.inquiry.agreement_with(naming.files)
    if naming.source in COPIED and not _are_stated(naming.files, evidence) and evidence.inquiry.has_little_of(naming.files):
        chosen = _without_file(replace(evidence, matched=None))
        return replace(chosen, naming=replace(chosen.naming, files=naming.files) if chosen.naming is not None else None)
    if agreement is None or agreement.of_samples.is_unchanged:
        return evidence
    of_samples = agreement.of_samples
    compared = _with_matched_files(evidence, is_name_claimed=of_samples.is_refuted)
    matched = compared.matched
    fits_another = (
        matched is not None
        and matched.match is not None
        and matched.match.matched > of_samples.matched
        and not set(naming.files) <= set(matched.paths)
    )
    is_another = fits_another and matched is not None and matched.match is not None and matched.match.is_full
    if not is_another and (merged := _merged(naming, evidence)) is not None:
        return replace(evidence, naming=merged, agreement=agreement)
    if fits_another or of_samples.is_refuted:
        return _without_file(compared)
    rest = evidence.inquiry.files_of(agreement.others) if agreement.others else MatchedFiles(None)
    elements = of_samples.elements
    of_rest = elements.different * rest.match.weight / rest.match.compared_weight if rest.match is not None else 0.0
    if 2 * of_rest > elements.kept:
        # As with files of which each holds more than half as much as the largest part.
        return _as_class(replace(evidence, is_file_known=True, file_naming=None), (*naming.files, *rest.paths))
    if naming.source in HOLD_NOW:  # the name may be older than what was merged into the values
        naming = replace(naming, confidence=min(naming.confidence, PATCHED_VALUES_CONFIDENCE))
    return replace(evidence, naming=naming, agreement=agreement)


def doubt_name_of_overwritten(evidence: Evidence) -> Evidence:
    """A model that was written to out of reach, while another file that fits was read for nobody else, may be either file's."""
    naming = evidence.naming
    if naming is None or naming.source not in CLAIM_VALUES or not naming.files:
        return evidence
    others = evidence.inquiry.files_copied_since(naming.files)
    if not others:
        return evidence
    return _as_class(replace(evidence, is_file_known=True, file_naming=None), (*naming.files, *others))


def name_as_labelled(evidence: Evidence) -> Evidence:
    """The program's own name for it. The files stay that hold its values, unless the program says which they are."""
    label, naming = evidence.given, evidence.naming
    if label is None:
        return evidence
    is_sure = naming is not None and naming.source in CLAIM_VALUES
    files = label.files or (naming.files if naming is not None and is_sure else ())
    source = NameSource.LABEL
    return replace(evidence, naming=Naming(label.name, source, CONFIDENCE[source], files), is_file_known=bool(files))


def _without_file(evidence: Evidence) -> Evidence:
    """What it is called if the file that it seemed to be from isn't it, and what else was said of it may be as untrue."""
    from_no_file = {("", "elsewhere"): evidence.total_bytes}
    elsewhere = replace(evidence, bytes_by_origin=from_no_file, config_name=None, pipeline_name=None, stated_files=(), label=None)
    chosen = choose(elsewhere)
    is_from_file = chosen.naming is not None and chosen.naming.source in FROM_FILES
    return replace(chosen, file_naming=chosen.naming if is_from_file else None)


def _merged(naming: Naming, evidence: Evidence) -> Naming | None:
    """What a model with changed values is called where those of other models are known to be merged into it; else None."""
    others = [file_group_name((path,), evidence.metadata) for path in evidence.merged_tensors]
    if not others or None in others:
        return None
    count, in_all = max(evidence.merged_tensors.values()), evidence.inquiry.tensors_in_all()
    *first, last = map(str, others)
    name = f"merged of {', '.join((f'{naming.name} ({count} of {in_all} tensors)', *first))} and {last}"
    return replace(naming, name=name, confidence=PATCHED_VALUES_CONFIDENCE)


def name_by_file_named_at_creation(evidence: Evidence) -> Evidence:
    """The name of the one file that the host was told to use when it built the model, where nothing else is known of it.

    Of files whose values can be compared, these decide alone: that they differ says that the model is from elsewhere.
    """
    naming = evidence.naming
    if naming is None or naming.source != NameSource.CLASS or naming.files or naming.candidates:
        return evidence
    path = evidence.inquiry.file_named_at_creation()
    name = file_group_name((path,), evidence.metadata) if path is not None else None
    if path is None or name is None:
        return evidence
    source = NameSource.NODE_INPUT
    return replace(evidence, naming=Naming(name, source, CONFIDENCE[source], (path,)))


def hint_at_file_read_at_creation(evidence: Evidence) -> Evidence:
    """The file that was read when the model was created is a candidate, where nothing else is known, not even its values."""
    naming = evidence.naming
    if naming is None or naming.source != NameSource.CLASS or naming.files or naming.candidates:
        return evidence
    matched = evidence.matched
    if matched is not None and matched.is_guess:
        return replace(evidence, naming=replace(naming, confidence=KNOWN_FILE_CONFIDENCE, candidates=matched.paths))
    if matched is not None and matched.fingerprint is not None and not matched.is_outdated:
        return evidence
    if evidence.inquiry.was_loaded_unseen():
        return evidence  # something was loaded into it since, by names and shapes from none of these files
    candidates = evidence.inquiry.files_read_at_creation()
    if not candidates:
        return evidence
    hint = replace(naming, source=NameSource.RECENCY, confidence=RECENCY_CONFIDENCE, candidates=candidates)
    return replace(evidence, naming=hint)


def hint_at_files_stated(evidence: Evidence) -> Evidence:
    """The files that its config names are candidates, where nothing else is known and its values don't deny it."""
    naming = evidence.naming
    if naming is None or naming.source != NameSource.CLASS or naming.files or naming.candidates or _is_contradicted(evidence):
        return evidence
    files = evidence.stated_files
    return replace(evidence, naming=replace(naming, confidence=RECENCY_CONFIDENCE, candidates=files)) if files else evidence


STAGES: Final[tuple[Stage, ...]] = (
    compare_with_files,
    choose,
    look_through_saved_files,
    keep_name_of_file,
    drop_refuted_name,
    doubt_name_of_overwritten,
    name_by_file_named_at_creation,
    hint_at_file_read_at_creation,
    hint_at_files_stated,
    name_as_labelled,
)


def identify(evidence: Evidence) -> Evidence:
    """The evidence after all stages: `naming` is set."""
    for stage in STAGES:
        evidence = stage(evidence)
    return evidence


def choose_name(evidence: Evidence) -> Naming:
    """The name that this evidence gives by itself; nothing is asked, compared or remembered."""
    naming = name_as_labelled(choose(evidence)).naming
    assert naming is not None  # the last way to a name is its class
    return naming


def class_and_architecture(class_name: str, architecture: str | None) -> str:
    """`BertModel (bert)`: what a model is called when nobody knows its name."""
    return f"{class_name} ({architecture})" if architecture else class_name


def file_of_most(bytes_by_origin: Mapping[tuple[str, str], int], total_bytes: int) -> str | None:
    """The checkpoint that holds more than half of the model: one file, or the shards of one."""
    sizes: dict[str, int] = {}
    for (path, _), size in bytes_by_origin.items():
        if path:
            checkpoint = checkpoint_of(path)
            sizes[checkpoint] = sizes.get(checkpoint, 0) + size
    return next((checkpoint for checkpoint, size in sizes.items() if size * 2 > total_bytes), None)


def _is_most_from(groups: Sequence[_FileGroup], evidence: Evidence) -> bool:
    """Whether the first of these checkpoints holds more than half of the model."""
    return bool(groups) and groups[0].size_bytes * 2 > evidence.total_bytes


def _with_matched_files(evidence: Evidence, is_name_claimed: bool) -> Evidence:
    matched = evidence.inquiry.matched_files(is_name_claimed)
    metadata = {**evidence.metadata, **evidence.inquiry.metadata_of(matched.paths)}
    return replace(evidence, matched=matched, metadata=metadata)


def _is_contradicted(evidence: Evidence) -> bool:
    return evidence.matched is not None and evidence.matched.contradicts_config


def _config_name(evidence: Evidence) -> str | None:
    if evidence.config_name is None or _is_contradicted(evidence):
        return None
    return name_from_config(evidence.config_name)


def _named(evidence: Evidence, name: str, source: NameSource) -> Evidence:
    return replace(evidence, naming=Naming(name, source, CONFIDENCE[source], evidence.files))


def _as_stated(evidence: Evidence, name: str, source: NameSource) -> Evidence:
    confidence = CONFIDENCE[source] if evidence.is_load_seen else UNSEEN_LOAD_CONFIDENCE
    return replace(evidence, naming=Naming(name, source, confidence, evidence.files))


def _as_class(evidence: Evidence, candidates: tuple[str, ...] = ()) -> Evidence:
    name = class_and_architecture(evidence.class_name, evidence.architecture)
    confidence = KNOWN_FILE_CONFIDENCE if evidence.is_file_known else 0.0
    return replace(evidence, naming=Naming(name, NameSource.CLASS, confidence, evidence.files, candidates))


@never_pickled
@dataclass(frozen=True, slots=True)
class _FileGroup:
    """One file, or the shards of one checkpoint."""

    paths: tuple[str, ...]
    source: str
    size_bytes: int


def _names_of(paths: tuple[str, ...], evidence: Evidence) -> Mapping[str | None, tuple[str, ...]]:
    """The names of a file or the shards of a checkpoint, with the paths that say so; several where people know it by several.

    A store's file is called by the symlinks that lead to it. Without any, what it says of itself is its name, if anything.
    """
    symlinks = evidence.inquiry.symlinks_to(paths[0])
    found: dict[str | None, tuple[str, ...]] = {}
    for symlink in symlinks:
        name = file_group_name((symlink,), {symlink: evidence.metadata.get(paths[0], {})})
        found[name] = (*found.get(name, ()), symlink)
    return found or {file_group_name(paths, evidence.metadata): paths}


def _checkpoint_of(path: str, evidence: Evidence) -> str:
    """The same for all shards of a checkpoint, also where a store keeps each of them under its hash."""
    checkpoints = {checkpoint_of(symlink) for symlink in evidence.inquiry.symlinks_to(path)}
    return min(checkpoints) if checkpoints else checkpoint_of(path)


def _files_by_bytes(evidence: Evidence) -> list[_FileGroup]:
    """The checkpoints that hold something of the model, the largest part first."""
    groups: dict[str, dict[tuple[str, str], int]] = {}
    for (path, source), size in evidence.bytes_by_origin.items():
        if path:
            groups.setdefault(_checkpoint_of(path, evidence), {})[path, source] = size
    found = [
        _FileGroup(
            paths=tuple(sorted({path for path, _ in group})),
            source=min((source for _, source in group), key=lambda source: CONFIDENCE[source]),
            size_bytes=sum(group.values()),
        )
        for group in groups.values()
    ]
    return sorted(found, key=lambda group: (-group.size_bytes, group.paths))


def _are_stated(paths: tuple[str, ...], evidence: Evidence) -> bool:
    """Whether these files lie where the model's config says that it was loaded from."""
    return evidence.config_name is not None and was_read(evidence.config_name, paths)


def _paths_of(groups: list[_FileGroup]) -> tuple[str, ...]:
    return tuple(path for group in groups for path in group.paths)
