"""What the optimizers of training engines keep: objects built like DeepSpeed's; tests/libraries runs DeepSpeed itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.models.training_state import NonModelBytes
from gpumodels.tensors.engines import OPTIMIZERS, kept_by_optimizer
from modules import Backbone, attached, distinct_bytes, the_only

FLOAT = 4


def an_object(name: str, *bases: type, package: str = "deepspeed") -> Any:
    """An empty object of a class of this name in DeepSpeed."""
    return type(name, bases, {"__module__": f"{package}.runtime"})()


def an_engine(model: nn.Module, optimizer: Any) -> Any:
    engine = an_object("DeepSpeedEngine", nn.Module)
    engine.module, engine.optimizer = model, optimizer
    return engine


@pytest.mark.parametrize("name", [name for _, name in OPTIMIZERS])
def test_the_second_copy_of_the_weights_counts_as_the_optimizers(name: str) -> None:
    attributes = OPTIMIZERS["deepspeed", name]
    with attached() as sidecar:
        model = Backbone(1, 64)
        optimizer = an_object(name)
        engine = an_engine(model, optimizer)
        copy = torch.zeros(1000)
        setattr(optimizer, attributes.weights, [copy, torch.zeros(500), model.blocks[0].q.weight])  # type: ignore[union-attr]
        torch_optimizer = torch.optim.SGD([copy], lr=0.1)
        torch_optimizer.state[copy] = {"momentum": torch.zeros(1000), "flat": copy[:10]}
        expected = NonModelBytes(optimizer={"cpu": 2500 * FLOAT})
        assert sidecar.parts() == expected
        for attribute in attributes.gradients:
            setattr(optimizer, attribute, {0: [torch.zeros(300)]})
            expected.gradients["cpu"] = expected.gradients.get("cpu", 0) + 300 * FLOAT
        assert sidecar.parts() == expected
        assert the_only(sidecar).bytes_by_device == {"cpu": distinct_bytes(model)}
        assert sidecar.failures.count == 0
        assert engine is not None


@pytest.mark.parametrize(
    "optimizer",
    [None, an_object("DeepSpeedZeroOptimizer", package="mine"), torch.optim.SGD([torch.zeros(1)])],
    ids=["none", "another package's", "torch's"],
)
def test_other_optimizers_keep_no_second_copy(optimizer: Any) -> None:
    if optimizer is not None:
        optimizer.single_partition_of_fp32_groups = [torch.zeros(1000)]
    assert kept_by_optimizer({"optimizer": optimizer}) == ([], [])
    assert kept_by_optimizer({}) == ([], [])
    with attached() as sidecar:
        engine = an_engine(Backbone(1, 64), optimizer)
        assert sidecar.parts() == NonModelBytes()
        assert engine is not None
