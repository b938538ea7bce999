"""Models made of a part of a file and of something else, and those that are a file's though they lack some of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels.naming.parts_of_files import is_made_of_a_part
from modules import Block, attached


def a_part(model: Mapping[str, int], in_file: Mapping[str, int]) -> bool:
    return is_made_of_a_part(model.keys(), in_file)


DOWN = {f"down_blocks.{block}.resnets.0.conv{n}.weight": 100 for block in range(4) for n in (1, 2)}
UP = {f"up_blocks.{block}.resnets.0.conv{n}.weight": 100 for block in range(4) for n in (1, 2)}
ZERO = {f"controlnet_down_blocks.{block}.weight": 1 for block in range(4)}
EXPERTS = {f"layers.{layer}.mlp.experts.{n}.up_proj.weight": 100 for layer in range(2) for n in range(8)}
ATTENTION = {f"layers.{layer}.self_attn.q_proj.weight": 100 for layer in range(2)}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_a_controlnet_of_half_a_unet_is_not_that_unet(prefix: str) -> None:
    in_file = {prefix + key: count for key, count in (DOWN | UP).items()} | {"first_stage_model.conv.weight": 5_000}
    in_file = in_file if prefix else DOWN | UP
    assert a_part(DOWN | ZERO, in_file)
    assert not a_part(DOWN | UP, in_file)
    assert not a_part(DOWN, in_file)  # an encoder alone is its file's


def test_a_student_of_every_other_layer_with_a_head_of_its_own_is_not_its_teacher() -> None:
    teacher = {f"encoder.layer.{number}.attention.self.query.weight": 100 for number in range(12)}
    student = {key: count for key, count in teacher.items() if int(key.split(".")[2]) < 6}
    assert a_part(student | {"vocab_projector.weight": 10}, teacher)
    assert not a_part(student | {"vocab_projector.weight": 10}, dict(list(teacher.items())[:8]))


@pytest.mark.parametrize(
    ("model", "in_file"),
    [
        (DOWN | {"classifier.weight": 10}, DOWN | {"lm_head.weight": 300}),  # another head
        (ATTENTION | {"layers.0.mlp.experts.gate_up_proj": 800}, ATTENTION | EXPERTS),  # fused
        ({key.replace("weight", "parametrizations.weight.original0"): 100 for key in DOWN} | {"new.weight": 1}, DOWN),
        ({f"net.{number}": 100 for number in range(4)}, DOWN | UP),  # all were renamed: places say nothing
        # Fused as servers do, in a file where the head lies beside the rest, which is below a prefix.
        (
            {f"layers.{layer}.qkv_proj.weight": 300 for layer in range(2)} | {"lm_head.weight": 50, "embed_tokens.weight": 50},
            {f"model.{key}": count for key, count in (ATTENTION | {"embed_tokens.weight": 50}).items()} | {"lm_head.weight": 50},
        ),
        ({}, DOWN),
        (DOWN, {}),
    ],
)
def test_heads_that_were_replaced_and_weights_in_another_form_leave_the_file_its_model(
    model: Mapping[str, int], in_file: Mapping[str, int]
) -> None:
    assert not a_part(model, in_file)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(Block(64) for _ in range(3))
        self.up_blocks = nn.ModuleList(Block(64) for _ in range(4))


class ControlNet(nn.Module):
    """Copies the UNet's first blocks, as `ControlNetModel.from_unet` of diffusers does."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(Block(64) for _ in range(3))
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))
        for convolution in self.controlnet_down_blocks:
            nn.init.zeros_(next(convolution.parameters()))
        self.down_blocks.load_state_dict(unet.down_blocks.state_dict())


def test_a_controlnet_that_copied_its_unets_weights_is_not_called_by_its_file(tmp_path: Path) -> None:
    with attached() as sidecar:
        path = tmp_path / "unet_v1.safetensors"
        save_file(UNet().state_dict(), path)
        os.utime(path, (1e9, 1e9))
        unet = UNet()
        unet.load_state_dict(load_file(path))
        made = ControlNet(unet)
        copied = UNet()
        copied.load_state_dict(unet.state_dict())
        for is_again in (False, True):
            found = {model.class_name: model for model in sidecar.models() if model.confidence or model.class_name != "UNet"}
            assert (found["UNet"].name, found["UNet"].confidence) == ("unet_v1", 0.95), is_again
            one = found["ControlNet"]
            assert (one.name, one.confidence, one.files, one.fingerprint) == ("ControlNet", 0.0, (str(path),), None)
        del unet, copied
        (alone,) = sidecar.models()
        assert (alone.name, alone.confidence) == ("ControlNet", 0.0)
        with torch.no_grad():
            next(made.parameters()).add_(1e-3)
        assert sidecar.models()[0].name == "ControlNet"
        assert sidecar.failures.count == 0


def test_tensors_of_the_model_itself_have_a_place_by_their_own_name() -> None:
    assert not is_made_of_a_part({"weight"}, {"weight": 100})
    assert not is_made_of_a_part({"weight", "scale"}, {"weight": 100})
    assert is_made_of_a_part({"weight", "scale"}, {"weight": 40, "bias": 60})
