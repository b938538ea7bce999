"""Lets a name stand for one model: of several that claim a file or a name, only the one with the better evidence keeps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from gpumodels.naming.identification import class_and_architecture
from gpumodels.naming.model_variants import ModelVariants
from gpumodels_shared.name_sources import FROM_FILES, KNOWN_FILE_CONFIDENCE, NameSource
from gpumodels_shared.schema import Model

_WEAK_SOURCES: Final = frozenset({NameSource.NAMES_AND_SHAPES, NameSource.NODE_INPUT})
"""Sources that name a file, but would name it for any model of the same build, or that was built at the same moment."""


def without_rival_names(models: Sequence[Model], variants: ModelVariants) -> list[Model]:
    """The models, without those names that another model has on better evidence.

    Tensor names and shapes fit a model that was never loaded as well as one that was, and so does the name in a config from which
    both were built. If their values can't be read to tell them apart, the one with the weaker evidence loses the name.
    """
    known = [model for model in models if model.name_source in FROM_FILES - _WEAK_SOURCES]
    owned = {path for model in known for path in model.files}
    names = {(model.name, model.class_name) for model in known}
    shared = Counter(path for model in models if model.name_source in _WEAK_SOURCES for path in model.files)
    hinted = Counter(path for model in models if model.name_source == NameSource.RECENCY for path in model.candidates)
    found: list[Model] = []
    for model in models:
        is_weak = model.name_source in _WEAK_SOURCES and any(path in owned or shared[path] > 1 for path in model.files)
        by_config = (
            model.name_source == NameSource.CONFIG and model.fingerprint is None and (model.name, model.class_name) in names
        )
        if model.name_source == NameSource.RECENCY and any(path in owned or hinted[path] > 1 for path in model.candidates):
            found.append(variants.of(model, name_source=NameSource.CLASS, confidence=0.0, candidates=()))
        else:
            found.append(_without_name(model, variants) if is_weak or by_config else model)
    return found


def _without_name(model: Model, variants: ModelVariants) -> Model:
    """The model called by its class, with its former files as candidates."""
    name = class_and_architecture(model.class_name, model.architecture)
    return variants.of(
        model,
        name=name,
        name_source=NameSource.CLASS,
        confidence=KNOWN_FILE_CONFIDENCE,
        files=(),
        file_stamps=(),
        candidates=model.files or model.candidates,
        metadata={},
    )
