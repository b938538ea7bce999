"""A model that its sidecar could not name, and the catalogue's verdict about its values."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gpumodels_shared.schema import Fingerprint, Model, TensorSample
from gpumodels_tui.catalogue.facts import ValuesMatch
from gpumodels_tui.view.enrichment import enriched
from snapshots import NOON_NS, a_catalogue, a_model, some_facts

FINGERPRINT: Final = Fingerprint((TensorSample("w", "bfloat16", (4, 4), b"0123"),), NOON_NS)
TUNE: Final = "/models/my-tune_fp16.safetensors"
TWIN: Final = "/models/other-tune.safetensors"


def recognised(verdict: ValuesMatch, model: Model | None = None, **stated: str) -> Model:
    """The model as it is shown after this verdict; `stated` is the metadata of TUNE."""
    model = model or replace(a_model("WanModel", confidence=0.0, name_source="class"), fingerprint=FINGERPRINT)
    catalogue = a_catalogue(some_facts(TUNE, stated), some_facts(TWIN))
    return enriched(model, replace(catalogue, values={FINGERPRINT: verdict})).model
