"""The name that model files give a model where its process left it open: decided once for each model, and passed on.

Where the sidecar is not sure, the name is that of the file whose values are the model's (0.97; 0.75 where something was merged
into some of them), else what its only file states (0.9). Until every file that may be the one was compared, the name is pending.
"""

from __future__ import annotations

from typing import Final

from gpumodels_shared.file_names import file_group_name, is_named_by_content, name_from_attribute
from gpumodels_shared.name_sources import (
    CONFIDENCE,
    KNOWN_FILE_CONFIDENCE,
    MIN_NAME_CONFIDENCE,
    PATCHED_VALUES_CONFIDENCE,
    NameSource,
)
from gpumodels_shared.records import replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Model
from gpumodels_shared.shards import checkpoint_of
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts, ValuesMatch
from gpumodels_tui.headers.formats import suffix_of
from gpumodels_tui.view.model_files import known_files, merged_metadata, present

LONGEST_NAME: Final = 300
PENDING_MARK: Final = " …"


def named(model: Model, catalogue: CatalogueState) -> tuple[Model, str]:
    """The model with the name, source, confidence and files that the catalogue gives it, and that name as it is shown.

    The model is as its process describes it, and stays so where the catalogue knows nothing better. The shown name is safe to
    draw; it ends in `?` where it is a guess, and in `…` while a better one may be found.
    """
    better = _better_named(model, catalogue)
    shown = _shown(better)
    is_pending = better.confidence < MIN_NAME_CONFIDENCE and (
        better.name_source == NameSource.PENDING or better.fingerprint in catalogue.unsettled
    )
    if not is_pending:
        return better, shown
    return replace(better, name_source=NameSource.PENDING), shown + PENDING_MARK


def _better_named(model: Model, catalogue: CatalogueState) -> Model:
    verdict = None if model.fingerprint is None else catalogue.values.get(model.fingerprint)
    is_contradicted = model.name_source == NameSource.NODE_INPUT and verdict is not None and bool(verdict.files)
    if model.confidence >= MIN_NAME_CONFIDENCE and not is_contradicted:
        is_whole = verdict is not None and verdict.files and verdict.matched == verdict.compared
        return replace(model, files=verdict.files) if verdict is not None and is_whole and not model.files else model
    if verdict is not None:
        return _by_values(model, verdict, catalogue)
    if (name := _stated_name(model, catalogue)) is not None:
        return replace(model, name=name, name_source=NameSource.FILE_METADATA, confidence=CONFIDENCE[NameSource.FILE_METADATA])
    return model


def _shown(model: Model) -> str:
    name = safe_text(model.name, LONGEST_NAME)
    if model.name_source == NameSource.RECENCY and model.candidates:
        hint = file_group_name(model.candidates, {})
        return name if hint is None else f"{name} · {safe_text(hint, LONGEST_NAME)}?"
    is_guess = model.confidence < MIN_NAME_CONFIDENCE and model.name_source not in (NameSource.CLASS, NameSource.PENDING)
    return f"{name}?" if is_guess else name


def _stated_name(model: Model, catalogue: CatalogueState) -> str | None:
    """What its one file says that it is, where the sidecar knew the file but couldn't read its metadata, and sizes agree."""
    if (
        not KNOWN_FILE_CONFIDENCE <= model.confidence < MIN_NAME_CONFIDENCE
        or model.name_source not in (NameSource.CLASS, NameSource.PENDING)
        or model.candidates
    ):
        return None  # a name already; or only a part of the model is from the file
    if len({checkpoint_of(path) for path in model.files}) != 1:
        return None
    files = known_files(model, catalogue)
    in_file = sum(size for file in files for size in file.dtypes.values())
    in_all = max(model.resident_bytes, model.on_device_bytes + model.offloaded_bytes)
    if not 0 < in_file <= 2 * in_all or in_all > 2 * in_file:
        return None  # a part of the model, or of the file: whose name would it be?
    metadata = merged_metadata(model, catalogue)
    stated = (present(metadata, key) for key in ("model_type", "modelspec.title"))
    return next((name for one in stated if one and (name := name_from_attribute(one)) is not None), None)


def _by_values(model: Model, verdict: ValuesMatch, catalogue: CatalogueState) -> Model:
    """Named where all that agree have one name; else with the files between which the values can't decide."""
    agreeing = verdict.files or verdict.candidates
    metadata = {path: facts.metadata for path in agreeing if (facts := catalogue.by_path.get(path)) is not None}
    others = {} if verdict.parts or not verdict.files else _other_names(verdict.files, catalogue)
    if verdict.parts:
        names = dict.fromkeys(file_group_name(paths, metadata) for paths in verdict.parts)
        name = None if None in names else " + ".join(map(str, names))
    else:
        checkpoints = [verdict.files] if verdict.files else [(path,) for path in verdict.candidates]
        names = dict.fromkeys(file_group_name(paths, metadata) for paths in checkpoints)
        names |= dict.fromkeys(file_group_name((path,), {path: facts.metadata}) for path, facts in others.items())
        name = next(iter(names)) if len(names) == 1 else None
    if name is None:
        candidates = verdict.candidates or ((*verdict.files, *others) if others else ())
        return replace(model, files=verdict.files or model.files, candidates=candidates)
    is_whole = verdict.matched == verdict.compared
    return replace(
        model,
        name=name,
        name_source=NameSource.VALUES,
        confidence=CONFIDENCE[NameSource.VALUES] if is_whole else PATCHED_VALUES_CONFIDENCE,
        files=verdict.files or model.files,
        candidates=verdict.candidates,
        matched_samples=verdict.matched,
        compared_samples=verdict.compared,
    )


def _other_names(files: tuple[str, ...], catalogue: CatalogueState) -> dict[str, FileFacts]:
    """The other paths that lead to this file, or to a checkpoint's first shard: by which a model was loaded, values don't tell.

    What a store calls by a hash, as the hub its blobs, has no name but its symlinks'.
    """
    facts = catalogue.by_path.get(files[0])
    if facts is None or not facts.aliases:
        return {}
    paths = (facts.path, *facts.aliases)
    named = [path for path in paths if suffix_of(path) is not None and not is_named_by_content(path)]
    return {path: facts for path in named if path not in files}
