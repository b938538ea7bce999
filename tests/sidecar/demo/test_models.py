"""The example models have the shapes of the ones that people run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from gpumodels.demo.models import (
    FULL,
    SMALL,
    AutoencoderKLWan,
    LoRANetwork,
    T5Block,
    UMT5EncoderModel,
    VaceModule,
    WanAttentionBlock,
    WanModel,
)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "billions"),
    [
        (lambda: WanModel(FULL), 14.3),
        (lambda: UMT5EncoderModel(256384, 4096, 10240, 24), 5.7),
    ],
    ids=["Wan 14B", "UMT5 XXL"],
)
def test_at_full_size_they_have_as_many_parameters_as_the_real_ones(build: Callable[[], nn.Module], billions: float) -> None:
    assert parameters(on_meta(build)) / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_transformer_grows_by_its_blocks_of_22_modules() -> None:
    two, three = (on_meta(lambda: WanModel(replace(SMALL, blocks=2))), on_meta(lambda: WanModel(replace(SMALL, blocks=3))))
    assert len(list(three.modules())) - len(list(two.modules())) == 22
    with torch.device("meta"):
        block = WanAttentionBlock(SMALL.width, SMALL.inner)
    assert parameters(three) - parameters(two) == parameters(block)


def test_the_text_encoders_embedding_is_tied_into_its_encoder() -> None:
    model = on_meta(lambda: UMT5EncoderModel(100, 16, 32, 2))
    assert model.get_parameter("shared.weight") is model.get_parameter("encoder.embed_tokens.weight")
    with torch.device("meta"):
        assert parameters(model) == 100 * 16 + 2 * parameters(T5Block(16, 32))


def test_a_lora_has_a_pair_and_its_alpha_for_each_layer_of_the_self_attention_that_it_adapts() -> None:
    size = replace(SMALL, blocks=2)
    lora, adapted = on_meta(lambda: LoRANetwork(size, 4)), on_meta(lambda: WanModel(size))
    layers = dict(lora.named_children())
    assert len(layers) == 2 * 4
    for block in range(2):
        for layer in "qkvo":
            pair = layers[f"lora_unet_blocks_{block}_self_attn_{layer}"]
            linear = adapted.get_submodule(f"blocks.{block}.self_attn.{layer}")
            down, up = pair.get_parameter("lora_down.weight"), pair.get_parameter("lora_up.weight")
            assert (up.shape[0], down.shape[1]) == linear.get_parameter("weight").shape
            assert down.shape[0] == up.shape[1] == 4
            assert pair.get_buffer("alpha").shape == ()


@pytest.mark.parametrize(
    "build",
    [lambda: WanModel(SMALL), lambda: VaceModule(SMALL, 2), lambda: AutoencoderKLWan(16, 1), lambda: LoRANetwork(SMALL, 4)],
    ids=["WanModel", "VaceModule", "AutoencoderKLWan", "LoRANetwork"],
)
def test_made_under_the_meta_device_they_take_no_memory(build: Callable[[], nn.Module]) -> None:
    model = on_meta(build)
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
