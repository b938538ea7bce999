"""Models with some of their fields replaced. The same change of the same model is the same object, so that it is packed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpumodels.support.resident import resident
from gpumodels_shared.schema import Model


@resident
class ModelVariants:
    """Remembers what was asked for since `forget_unused` was called last."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[Model, Mapping[str, Any], Model]] = {}
        self._used: dict[tuple[str, ...], tuple[Model, Mapping[str, Any], Model]] = {}

    def of(self, model: Model, **fields: Any) -> Model:
        """The model with these fields."""
        key = (model.id, *fields)
        before = self._known.get(key)
        if before is None or before[0] is not model or before[1] != fields:
            before = model, fields, replace(model, **fields)
        self._used[key] = before
        return before[2]

    def forget_unused(self) -> None:
        """What wasn't asked for since this was called the last time."""
        self._known, self._used = self._used, {}
