"""Models that were there before the sidecar: what they show of how they were filled decides what their config is worth."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import torch
from torch import nn

from gpumodels.naming.library_loads import is_marked_as_loaded, were_written
from gpumodels_shared.schema import Model
from modules import Backbone, attached

PRETRAINED: Final = type("PreTrainedModel", (Backbone,), {"__module__": "transformers.modeling_utils"})
MIXIN: Final = type("ModelMixin", (Backbone,), {"__module__": "diffusers.models.modeling_utils"})
WHERE: Final = {"_name_or_path": "org/tiny"}


def with_version(monkeypatch: pytest.MonkeyPatch, version: object) -> None:
    library = ModuleType("transformers")
    library.__dict__["__version__"] = version
    monkeypatch.setitem(sys.modules, "transformers", library)


@pytest.mark.parametrize(
    ("base", "version", "state", "is_marked"),
    [
        (PRETRAINED, "5.24.0", {"_weight_conversions": [], "training": True}, True),
        (PRETRAINED, "5.24.0", {"training": False}, False),
        (PRETRAINED, None, {"training": False}, False),
        (PRETRAINED, "4.57.3", {"training": False}, True),
        (PRETRAINED, "4.57.3", {"training": True}, False),
        (MIXIN, "5.24.0", {"training": False, "_internal_dict": WHERE}, True),
        (MIXIN, "5.24.0", {"training": True, "_internal_dict": WHERE}, False),
        (MIXIN, "5.24.0", {"training": False, "_internal_dict": {}}, False),
        (MIXIN, "5.24.0", {"training": False}, False),
        (Backbone, "4.57.3", {"training": False, "_internal_dict": WHERE}, False),
    ],
)
def test_each_library_leaves_its_own_sign_in_what_it_loads(
    monkeypatch: pytest.MonkeyPatch, base: type, version: object, state: dict[str, Any], is_marked: bool
) -> None:
    with_version(monkeypatch, version)
    assert is_marked_as_loaded(base(), state) is is_marked


@pytest.mark.parametrize(
    ("writes", "loads", "are_written"),
    [
        ((0, 0, 0), 0, False),
        ((1, 1, 0), 0, True),
        ((1, 0, 0), 0, False),
        ((1, 1), 1, False),
        ((2, 2), 1, True),
        ((None,), 0, False),
    ],
)
def test_most_of_the_tensors_decide_and_those_that_do_not_count_are_left_out(
    writes: tuple[int | None, ...], loads: int, are_written: bool
) -> None:
    assert were_written(writes, loads) is are_written


def nothing_else(model: nn.Module) -> None:
    """It stays as it was loaded."""


def write(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def unmark(model: nn.Module) -> None:
    del model.__dict__["_weight_conversions"]


@pytest.mark.parametrize(
    ("since", "weights", "name", "confidence"),
    [
        (nothing_else, "model.safetensors", "my-tune", 0.8),
        (write, "model.safetensors", "PreTrainedModel", 0.3),
        (write, "pytorch_model.bin", "my-tune", 0.8),  # what was unpickled counts as written once
        (unmark, "model.safetensors", "PreTrainedModel", 0.3),
    ],
)
def test_a_config_of_before_the_start_gives_a_name_only_where_the_model_still_is_as_its_library_loaded_it(
    tmp_path: Path, since: Callable[[nn.Module], None], weights: str, name: str, confidence: float
) -> None:
    directory = tmp_path / "my-tune"
    directory.mkdir()
    (directory / weights).write_bytes(b"")
    with torch.device("meta"):
        model = PRETRAINED()
    for module in model.modules():  # as transformers sets tensors that it has read
        for key, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[key] = nn.Parameter(torch.empty_like(parameter))
    model.__dict__.update(config={"_name_or_path": str(directory)}, _weight_conversions=[])
    since(model)
    with attached() as sidecar:
        sidecar.registry.add_all(model.modules())
        found: Model = sidecar.models()[0]
        assert (found.name, found.confidence) == (name, confidence)
        assert found.candidates == ((str(directory / weights),) if confidence < 0.6 else ())
    del model
