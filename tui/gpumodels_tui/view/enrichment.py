"""What model files add to a model: a better name where the sidecar had none, and facts in people's terms. Pure; never a guess.

The table from raw keys to facts is `metadata_fields.FIELDS`. Configs count for files whose name is no model's own
(`model.safetensors`, its shards): beside others they may describe anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpumodels_shared.records import Record, replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Model
from gpumodels_shared.store_layouts import hub_repository
from gpumodels_shared.units import format_bytes
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts
from gpumodels_tui.view.metadata_fields import FIELDS, REPOSITORIES
from gpumodels_tui.view.model_files import dtypes_in_files, file_sizes, known_files, merged_metadata, precision_of, present
from gpumodels_tui.view.model_naming import named
from gpumodels_tui.view.nested_metadata import with_nested


class EnrichedModel(Record):
    """A model with everything that is known about it: what its process says, and what its files do."""

    model: Model
    """With the best name and the precision that are known."""
    shown_name: str
    """Safe to draw; with `?` where it is a guess, with `…` while a better one may be found."""
    metadata: Mapping[str, str]
    """Raw keys and values, the snapshot's and the files' together. Not safe to draw."""
    files: tuple[FileFacts, ...]
    """Those of its files that the catalogue knows, each once."""
    file_sizes: Mapping[str, int]
    """Bytes of its files and candidates, by path, as far as the catalogue knows them."""
    file_dtypes: Mapping[str, int]
    """Bytes in its files by dtype; empty if they aren't all known."""


def enriched(model: Model, catalogue: CatalogueState) -> EnrichedModel:
    """The model, as its process describes it, with what the catalogue knows."""
    better, shown_name = named(model, catalogue)
    files = known_files(better, catalogue)
    precision = precision_of(better, files, catalogue)
    if precision != better.precision:
        better = replace(better, precision=precision)
    sizes, dtypes = file_sizes(better, catalogue), dtypes_in_files(better, catalogue)
    return EnrichedModel(better, shown_name, merged_metadata(better, catalogue), files, sizes, dtypes)


def facts_from_files(one: EnrichedModel) -> dict[str, str]:
    """Facts in people's words, in the order in which they are shown; safe to draw."""
    model, metadata, files = one.model, one.metadata, one.files
    facts: dict[str, str] = {}
    stated = with_nested(metadata)
    for label, keys, read in FIELDS:
        for key in keys:
            if (value := present(stated, key)) and (shown := read(value)):
                facts[label] = safe_text(shown)
                break
    if "architecture" not in facts and model.architecture:
        facts["architecture"] = safe_text(model.architecture)
    ranks = {file.rank for file in files if file.rank is not None}
    if "rank" not in facts and len(ranks) == 1:
        facts["rank"] = str(ranks.pop())
    if model.precision:
        facts["precision"] = safe_text(model.precision, 40)
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
    return facts


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
    stated = next((value for key in REPOSITORIES if (value := present(metadata, key))), None)
    return None if stated is None else safe_text(stated, 200)
