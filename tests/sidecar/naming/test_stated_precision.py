"""How weights are stored, by what models and tensors say of themselves, in the form in which each library keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.naming.stated_precision import config_of, stated_precision
from gpumodels_shared.quantization_configs import of_config
from modules import Attached, attached


class Method(str, Enum):
    """As transformers' `QuantizationMethod`."""

    GPTQ = "gptq"
    COMPRESSED = "compressed-tensors"
    TORCHAO = "torchao"


class Config:
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


@dataclass
class Int4WeightOnlyConfig:
    """torchao's."""

    group_size: int = 128


@dataclass
class Scheme:
    weights: Config = field(default_factory=lambda: Config(num_bits=4, type="float", group_size=16))


COMPRESSED = Config(
    quant_method=Method.COMPRESSED, quantization_config=Config(format="nvfp4-pack-quantized", config_groups={"group_0": Scheme()})
)


class Holder(nn.Module):
    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 1024, dtype=torch.int32), requires_grad=False)
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    ("attributes", "label"),
    [
        ({"config": Config(quantization_config=Config(quant_method=Method.GPTQ, bits=4))}, "int4 GPTQ"),
        ({"config": {"quantization_config": {"quant_method": "awq", "bits": 4}}}, "int4 AWQ"),
        ({"_internal_dict": {"quantization_config": Config(quant_method="torchao", quant_type=Int4WeightOnlyConfig())}}, "int4"),
        ({"config": Config(quantization_config=COMPRESSED)}, "nvfp4"),
        ({"hf_quantizer": Config(quantization_config=Config(quant_method="mxfp4"))}, "mxfp4"),
        ({"config": Config(quantization_config=None)}, None),
        ({"config": Config(quantization_config=7)}, None),
        ({"config": 7}, None),
        ({}, None),
    ],
)
def test_a_models_own_config_says_how_it_is_quantized(attributes: dict[str, Any], label: str | None) -> None:
    assert of_config(config_of(Holder(**attributes))) == label


def test_configs_without_end_are_cut_off() -> None:
    endless: dict[str, Any] = {"quant_method": "gptq", "bits": 4, **{str(number): number for number in range(1_000)}}
    endless["self"] = endless
    assert of_config(config_of(Holder(config={"quantization_config": endless}))) == "int4 GPTQ"


@pytest.fixture
def sidecar() -> Any:
    with attached() as one:
        yield one


def precision_of(sidecar: Attached, model: nn.Module) -> str | None:
    (found,) = sidecar.scan()
    return stated_precision(found, model, sidecar.registry, lambda: None)


def test_a_config_is_believed_only_where_weights_are_packed(sidecar: Attached) -> None:
    model = nn.Linear(256, 256)
    model.__dict__["config"] = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    assert precision_of(sidecar, model) is None
    model.register_buffer("qweight", torch.zeros(32, 256, dtype=torch.int32))
    assert precision_of(sidecar, model) == "int4 GPTQ"


class Packed(nn.Module):
    """A layer as a library packs it."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


def test_scales_beside_packed_weights_say_it_where_no_config_does(sidecar: Attached) -> None:
    layer = Packed(weight=torch.zeros(256, 256, dtype=torch.float8_e4m3fn), scale_weight=torch.ones(()))
    assert precision_of(sidecar, nn.Sequential(layer, nn.Linear(8, 8))) == "fp8 scaled"


def test_a_scale_in_a_plain_attribute_says_it_too(sidecar: Attached) -> None:
    layer = Packed(weight=torch.zeros(256, 256, dtype=torch.float8_e4m3fn))
    assert precision_of(sidecar, layer) is None
    vars(layer)["scale_weight"] = torch.ones(())
    assert precision_of(sidecar, layer) == "fp8 scaled"


def test_a_tensor_that_keeps_its_quantization_state_says_it(sidecar: Attached) -> None:
    layer = Packed(weight=torch.zeros(32_768, 1, dtype=torch.uint8))
    weight: Any = layer.weight
    weight.quant_state = Config(quant_type="nf4", shape=torch.Size((256, 256)))  # as bitsandbytes 0.50
    assert precision_of(sidecar, layer) == "nf4"


def test_hqq_keeps_the_number_of_bits_in_the_module(sidecar: Attached) -> None:
    layer = Packed(W_q=torch.zeros(128, 256, dtype=torch.uint8))
    vars(layer)["meta"] = {"nbits": 4, "shape": torch.Size((256, 256))}
    assert precision_of(sidecar, layer) == "int4 HQQ"


def test_plain_models_are_not_read(sidecar: Attached) -> None:
    steps: list[int] = []
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(100)))
    (found,) = sidecar.scan()
    assert stated_precision(found, model, sidecar.registry, lambda: steps.append(1)) is None
    assert not steps
