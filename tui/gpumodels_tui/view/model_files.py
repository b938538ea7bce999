"""The files that a model came from, as the catalogue knows them, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping

from gpumodels_shared.file_names import is_generic
from gpumodels_shared.precision import fits, of_gguf
from gpumodels_shared.schema import Model
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts
from gpumodels_tui.headers.formats import CONFIGS
from gpumodels_tui.view.metadata_fields import ABSENT


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


def dtypes_in_files(model: Model, catalogue: CatalogueState) -> dict[str, int]:
    """Bytes in its files by dtype; empty if one of them isn't known, or isn't there any more as it was loaded."""
    files = [catalogue.by_path.get(path) for path in _as_loaded(model, catalogue)]
    if len(files) < len(model.files):
        return {}
    total: dict[str, int] = {}
    for facts in {facts.path if facts is not None else "": facts for facts in files}.values():
        if facts is None or not facts.dtypes:
            return {}
        for dtype, size in facts.dtypes.items():
            total[dtype] = total.get(dtype, 0) + size
    return total


def merged_metadata(model: Model, catalogue: CatalogueState) -> dict[str, str]:
    """Raw keys and values. What the sidecar saw at loading stands above what the files say now; the main file above others."""
    files = known_files(model, catalogue)
    merged = _configs_beside(model, files, catalogue)
    for facts in reversed(files):
        merged.update(facts.metadata)
    merged.update(model.metadata)
    return merged


def _configs_beside(model: Model, files: tuple[FileFacts, ...], catalogue: CatalogueState) -> dict[str, str]:
    """What the configs of the model's directory say, where they can't be another's: `config.model_type`, `adapter_config.r`.

    That is the directory of the path by which it was loaded. If only the file itself is known, to which symlinks in several
    directories lead, it is what the configs of all of these say alike.
    """
    loaded = _as_loaded(model, catalogue)
    others = [path for file in files for path in (file.path, *file.aliases)]
    for paths in (loaded, others):
        directories = dict.fromkeys(path.rpartition("/")[0] for path in paths if is_generic(path))
        told = [config for directory in directories if (config := _configs_in(directory, catalogue))]
        if told:
            first, *rest = told
            return {key: value for key, value in first.items() if all(one.get(key) == value for one in rest)}
    return {}


def precision_of(model: Model, files: tuple[FileFacts, ...], catalogue: CatalogueState) -> str | None:
    """How its weights are stored in memory, as people call it; None if the dtypes say it.

    What the process doesn't know, the configs beside its files say, or these themselves, unless they were unpacked when loaded.
    They may also know the method: AutoRound's tensors look like GPTQ's.
    """
    stated: list[str | None] = []
    paths = (*_as_loaded(model, catalogue), *(path for file in files for path in file.aliases))
    for directory in dict.fromkeys(path.rpartition("/")[0] for path in paths if is_generic(path)):
        configs = (catalogue.by_path.get(f"{directory}/{name}") for name in CONFIGS)
        stated += [facts.precision for facts in configs if facts is not None]
    stated += [file.precision for file in sorted(files, key=lambda file: -file.size_bytes)]
    fitting = [label for label in stated if label is not None and fits(label, model.dtypes)]
    # The first of a GGUF's shards alone has the file type: `Q4_K_M`, where the tensors of the others say `Q4_K`.
    found = max((label for label in fitting if label.startswith(fitting[0])), key=len) if fitting else None
    if model.precision is not None:
        is_same_kind = found is not None and " " in found and found.split(" ")[0] == model.precision.split(" ")[0]
        return found if is_same_kind else model.precision
    return found or of_gguf(None, model.dtypes)


def _configs_in(directory: str, catalogue: CatalogueState) -> dict[str, str]:
    told: dict[str, str] = {}
    for name in CONFIGS:
        facts = catalogue.by_path.get(f"{directory}/{name}")
        if facts is not None:
            prefix = name.removesuffix(".json")
            told.update((f"{prefix}.{key}", value) for key, value in facts.metadata.items())
    return told


def present(metadata: Mapping[str, str], key: str) -> str | None:
    value = metadata.get(key, "").strip()
    return None if value.lower() in ABSENT else value
