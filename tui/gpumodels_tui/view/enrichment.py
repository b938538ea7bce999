"""What model files add to a model: facts in people's terms, and a better name where the sidecar had none. Pure; never a guess.

Raw keys to facts stand in one table, `metadata_fields.FIELDS`. Configs count for files whose name is no model's own
(`model.safetensors`, its shards): beside others they may tell of anything.

Names, where the sidecar is not sure: the file whose values are the model's (0.97; 0.75 where something was merged into some of
them), else what the only file states of itself (0.9). Until all files are compared that may be the one, the name is pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from gpumodels_shared.file_names import checkpoint_of, file_group_name, hub_repository, is_generic
from gpumodels_shared.name_sources import CONFIDENCE, KNOWN_FILE_CONFIDENCE, PATCHED_CONFIDENCE, SURE_ENOUGH, NameSource
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Model
from gpumodels_shared.units import format_bytes
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts, ValuesMatch
from gpumodels_tui.headers.formats import CONFIGS, suffix_of
from gpumodels_tui.view.metadata_fields import ABSENT, FIELDS, REPOSITORIES

LONGEST_NAME: Final = 300
PENDING_MARK: Final = " …"


def enrich(model: Model, catalogue: CatalogueState) -> tuple[str, dict[str, str]]:
    """Its name, and its facts in people's words and order; both safe to draw. The model is as its process told of it."""
    name, model = shown_name(model, catalogue), identified(model, catalogue)
    metadata = merged_metadata(model, catalogue)
    facts: dict[str, str] = {}
    for label, keys, read in FIELDS:
        for key in keys:
            if (value := _present(metadata, key)) and (shown := read(value)):
                facts[label] = safe_text(shown)
                break
    if "architecture" not in facts and model.architecture:
        facts["architecture"] = safe_text(model.architecture)
    files = known_files(model, catalogue)
    ranks = {file.rank for file in files if file.rank is not None}
    if "rank" not in facts and len(ranks) == 1:
        facts["rank"] = str(ranks.pop())
    if in_files := _precision(_summed(file.dtypes for file in files)):
        facts["precision in file"] = in_files
    if in_memory := _precision(model.dtypes):
        facts["precision in memory"] = in_memory
    if repository := _repository(model, files, metadata):
        facts["repository"] = repository
    if model.compared_tensors:
        facts["values"] = _agreement(model.matched_tensors or 0, model.compared_tensors, "tensors")
    elif model.compared_samples:
        facts["values"] = _agreement(model.matched_samples or 0, model.compared_samples, "sampled tensors")
    return name, facts


def identified(model: Model, catalogue: CatalogueState) -> Model:
    """The model with the name, source, confidence and files that the catalogue has for it; as it is where that is no better."""
    found = _named(model, catalogue)
    return replace(found, name_source=NameSource.PENDING) if _is_pending(found, catalogue) else found


def _is_pending(named: Model, catalogue: CatalogueState) -> bool:
    """Whether its own name may still come."""
    return named.confidence < SURE_ENOUGH and (
        named.name_source == NameSource.PENDING or named.fingerprint in catalogue.unsettled
    )


def _named(model: Model, catalogue: CatalogueState) -> Model:
    verdict = None if model.fingerprint is None else catalogue.values.get(model.fingerprint)
    if model.confidence >= SURE_ENOUGH:
        is_whole = verdict is not None and verdict.files and verdict.matched == verdict.compared
        return replace(model, files=verdict.files) if verdict is not None and is_whole and not model.files else model
    if verdict is not None:
        return _by_values(model, verdict, catalogue)
    if (name := stated_name(model, catalogue)) is not None:
        return replace(model, name=name, name_source=NameSource.FILE_METADATA, confidence=CONFIDENCE[NameSource.FILE_METADATA])
    return model


def known_files(model: Model, catalogue: CatalogueState) -> tuple[FileFacts, ...]:
    """What the catalogue knows of the files that the model came from, each once."""
    found = (catalogue.by_path.get(path) for path in _as_loaded(model, catalogue))
    return tuple({facts.path: facts for facts in found if facts is not None}.values())


def _as_loaded(model: Model, catalogue: CatalogueState) -> tuple[str, ...]:
    """The model's files, without those whose places others have taken since."""
    if len(model.file_stamps) != len(model.files):
        return model.files
    return tuple(
        path
        for path, stamp in zip(model.files, model.file_stamps, strict=True)
        if (facts := catalogue.by_path.get(path)) is None or (facts.size_bytes, facts.modified_ns) == stamp
    )


def file_sizes(model: Model, catalogue: CatalogueState) -> dict[str, int]:
    """Bytes of its files and of its candidates, by their paths, as far as the catalogue knows them."""
    paths = (*model.files, *model.candidates)
    return {path: facts.size_bytes for path in paths if (facts := catalogue.by_path.get(path)) is not None}


def merged_metadata(model: Model, catalogue: CatalogueState) -> dict[str, str]:
    """Raw keys and values. What the sidecar saw at loading stands above what the files say now; the main file above others."""
    files = known_files(model, catalogue)
    merged: dict[str, str] = {}
    for facts in (*_configs_beside(model, files, catalogue), *reversed(files)):
        merged.update(facts.metadata)
    merged.update(model.metadata)
    return merged


def shown_name(model: Model, catalogue: CatalogueState) -> str:
    """Of a model as its process told of it. Safe to draw; with `?` where it is only a guess, with `…` while a better may come."""
    model = _named(model, catalogue)
    return _as_known(model) + (PENDING_MARK if _is_pending(model, catalogue) else "")


def _as_known(model: Model) -> str:
    name = safe_text(model.name, LONGEST_NAME)
    if model.name_source == NameSource.RECENCY and model.candidates:
        hint = file_group_name(model.candidates, {})
        return name if hint is None else f"{name} · {safe_text(hint, LONGEST_NAME)}?"
    is_guess = model.confidence < SURE_ENOUGH and model.name_source not in (NameSource.CLASS, NameSource.PENDING)
    return f"{name}?" if is_guess else name


def stated_name(model: Model, catalogue: CatalogueState) -> str | None:
    """What the model's one file says that it is, where the sidecar knew the file but not what stands in it, and sizes agree."""
    if (
        not KNOWN_FILE_CONFIDENCE <= model.confidence < SURE_ENOUGH
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
    return next((name for key in ("model_type", "modelspec.title") if (name := _present(metadata, key))), None)


def _by_values(model: Model, verdict: ValuesMatch, catalogue: CatalogueState) -> Model:
    """Named where all that agree have one name; else with the files between which the values can't decide."""
    agreeing = verdict.files or verdict.candidates
    metadata = {path: facts.metadata for path in agreeing if (facts := catalogue.by_path.get(path)) is not None}
    others = _other_names(verdict.files, catalogue) if len(verdict.files) == 1 else {}
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
        confidence=CONFIDENCE[NameSource.VALUES] if is_whole else PATCHED_CONFIDENCE,
        files=verdict.files or model.files,
        candidates=verdict.candidates,
        matched_samples=verdict.matched,
        compared_samples=verdict.compared,
    )


def _other_names(files: tuple[str, ...], catalogue: CatalogueState) -> dict[str, FileFacts]:
    """The other paths that lead to this one file: by which of them a model was loaded, its values don't tell.

    The hub's blobs have no name but their symlinks'.
    """
    facts = catalogue.by_path.get(files[0])
    if facts is None or not facts.aliases:
        return {}
    paths = (facts.path, *facts.aliases)
    return {path: facts for path in paths if path not in files and suffix_of(path) is not None}


def _configs_beside(model: Model, files: tuple[FileFacts, ...], catalogue: CatalogueState) -> list[FileFacts]:
    """The configs of the model's directory, where they can't be another's."""
    paths = dict.fromkeys([*_as_loaded(model, catalogue), *(path for file in files for path in (file.path, *file.aliases))])
    directories = dict.fromkeys(path.rpartition("/")[0] for path in paths if is_generic(path))
    found = (catalogue.by_path.get(f"{directory}/{name}") for directory in directories for name in CONFIGS)
    return [facts for facts in found if facts is not None]


def _present(metadata: Mapping[str, str], key: str) -> str | None:
    value = metadata.get(key, "").strip()
    return None if value.lower() in ABSENT else value


def _agreement(matched: int, compared: int, what: str) -> str:
    """Fewer than half: not something merged into a part of it, but trained, or merged with another whole."""
    said = f"{matched} of {compared} {what} match the file"
    if matched == compared:
        return said
    return f"patched: {said}" if 2 * matched >= compared else f"changed since it was loaded: {said}"


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for key, size in one.items():
            total[key] = total.get(key, 0) + size
    return total


def _precision(dtypes: Mapping[str, int]) -> str:
    """`bfloat16`, or with sizes where there are several, most bytes first: `float8_e4m3fn 13.3 GB, float32 2.1 MB`."""
    ordered = sorted(dtypes.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(ordered) == 1:
        return safe_text(ordered[0][0], 40)
    return ", ".join(f"{safe_text(dtype, 40)} {format_bytes(size)}" for dtype, size in ordered[:8])


def _repository(model: Model, files: tuple[FileFacts, ...], metadata: Mapping[str, str]) -> str | None:
    """`org/name` from a Hugging Face cache's paths; else what the file states."""
    for path in (*model.files, *(alias for file in files for alias in file.aliases)):
        if (repository := hub_repository(path)) is not None:
            return safe_text(repository, 200)
    stated = next((value for key in REPOSITORIES if (value := _present(metadata, key))), None)
    return None if stated is None else safe_text(stated, 200)
