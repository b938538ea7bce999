"""Files of real values, written long ago, and what the sidecar knows of the models that were loaded from them."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from gpumodels_shared.schema import Model
from modules import Attached, Backbone


def a_file(path: Path, model: nn.Module | None = None) -> Path:
    """A safetensors file of this model's values, or of new ones, written long ago."""
    save_file((model or Backbone()).state_dict(), path)
    return long_ago(path)


def long_ago(path: Path) -> Path:
    """The file, as if nothing had been written to it since."""
    os.utime(path, (1e9, 1e9))
    return path


def the_model(sidecar: Attached) -> Model:
    """The only one that lives."""
    (model,) = sidecar.models()
    return model


def origins(sidecar: Attached, model: nn.Module) -> set[str]:
    """The names of the files that its tensors' values came from, `unknown` among them."""
    found = {
        sidecar.origin_tracker.origin_of(tensor, tensor.untyped_storage()) for tensor in [*model.parameters(), *model.buffers()]
    }
    return {Path(origin.path).name if origin is not None else "unknown" for origin in found}
