"""Replaces fields of models. The same change of the same model gives the same object, so that it is packed only once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.schema import Model


@never_pickled
class ModelVariants:
    """Remembers the variants that were asked for since the last `forget_unused`, and in the period before it."""

    def __init__(self) -> None:
        self._earlier: dict[tuple[str, ...], tuple[Model, Mapping[str, Any], Model]] = {}
        self._used: dict[tuple[str, ...], tuple[Model, Mapping[str, Any], Model]] = {}

    def of(self, model: Model, **fields: Any) -> Model:
        """The model with these fields replaced."""
        key = (model.id, *fields)
        before = self._earlier.get(key)
        if before is None or before[0] is not model or before[1] != fields:
            before = model, fields, replace(model, **fields)
        self._used[key] = before
        return before[2]

    def forget_unused(self) -> None:
        """Forget the variants that weren't asked for since the last call."""
        self._earlier, self._used = self._used, {}
