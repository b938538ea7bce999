"""Parameters that transformers 5 made of several tensors are compared part by part, as the conversions say that it kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels.naming.weight_conversions import ATTRIBUTE, FilePart, WeightConversions, conversions_of
from gpumodels.provenance.host_samples import TensorPart
from modules import Backbone, attached


class Operation:
    """As `ConversionOps` in transformers 5.24."""

    def __init__(self, dim: int = 0) -> None:
        self.dim = dim


class MergeModulelist(Operation):
    """Stacks."""


class Concatenate(Operation):
    """Joins."""


class Interleave(Operation):
    """Reorders rows."""


class Dequantize(Operation):
    """Makes other values."""


class Chunk(Operation):
    """Cuts."""


class Transform:
    """As `WeightTransform`: slots, and nothing that may be called."""

    __slots__ = ("base_model_prefix", "scope_prefix", "source_patterns", "target_patterns")

    def __init__(self, source: list[str], target: list[str], scope: str | None = None) -> None:
        self.source_patterns, self.target_patterns = source, target
        self.scope_prefix, self.base_model_prefix = scope, "model"

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"foreign code ran for {name}")


class Converter(Transform):
    """As `WeightConverter`."""

    __slots__ = ("operations",)

    def __init__(self, source: list[str], target: list[str], operations: list[Operation], scope: str | None = None) -> None:
        super().__init__(source, target, scope)
        self.operations = operations


def fused(*sources: str, target: str = ".experts.gate_up_proj", scope: str | None = None) -> Converter:
    return Converter([*sources], [target], [MergeModulelist(0), *([Concatenate(1)] if len(sources) > 1 else [])], scope)


def conversions(*transforms: Transform) -> WeightConversions:
    found = conversions_of({ATTRIBUTE: [*transforms]})
    assert found is not None
    return found


def test_a_stack_of_joined_matrices_is_each_of_them_under_its_name_in_the_file() -> None:
    used = conversions(fused(".experts.*.w1.weight", ".experts.*.w3.weight"))
    assert used.parts_of("layers.1.mlp.experts.gate_up_proj", (2, 8, 4)) == (
        FilePart("layers.1.mlp.experts.0.w1.weight", TensorPart(0, (4, 4))),
        FilePart("layers.1.mlp.experts.0.w3.weight", TensorPart(16, (4, 4))),
        FilePart("layers.1.mlp.experts.1.w1.weight", TensorPart(32, (4, 4))),
        FilePart("layers.1.mlp.experts.1.w3.weight", TensorPart(48, (4, 4))),
    )
    (same,) = used.parts_of("layers.1.mlp.experts.gate_up_proj_bias", (2, 8))
    assert same == FilePart("layers.1.mlp.experts.gate_up_proj_bias", None)


@pytest.mark.parametrize(
    ("source", "target", "key", "expected"),
    [
        (".block_sparse_moe.", ".mlp.", "layers.0.mlp.gate.weight", "layers.0.block_sparse_moe.gate.weight"),
        (r"^backbone\.", "model.", "model.norm.weight", "backbone.norm.weight"),
        (r"^backbone\.", "model.", "head.model.weight", "head.model.weight"),
        ("LayerNorm.gamma", "LayerNorm.weight", "a.PreLayerNorm.weight", "a.PreLayerNorm.weight"),
        (r"layers\.(\d+)\.a", r"layers.\1.b", "layers.0.b", "layers.0.b"),
    ],
)
def test_names_are_those_of_the_file_where_the_pattern_is_plain(source: str, target: str, key: str, expected: str) -> None:
    assert conversions(Transform([source], [target])).parts_of(key, (4, 4)) == (FilePart(expected, None),)


@pytest.mark.parametrize(
    ("operations", "shape", "expected"),
    [
        ([Chunk(0)], (8, 4), (FilePart("mixer.q", None),)),
        ([Interleave(1)], (2, 8, 4), (FilePart("mixer.source", TensorPart(0, (2, 8, 4))),)),
        ([Interleave(2)], (2, 8, 4), ()),
        ([Concatenate(1)], (8, 4), ()),
        ([Dequantize()], (8, 4), ()),
        ([MergeModulelist(0), Dequantize()], (2, 8, 4), ()),
        ([MergeModulelist(0), Concatenate(2)], (2, 8, 4), ()),
        ([MergeModulelist(0)], (2, 8, 4), ()),
    ],
)
def test_what_was_converted_in_another_way_is_compared_as_it_is_or_not_at_all(
    operations: list[Operation], shape: tuple[int, ...], expected: tuple[FilePart, ...]
) -> None:
    assert conversions(Converter(["source"], ["q"], operations)).parts_of("mixer.q", shape) == expected


def test_a_conversion_for_one_part_of_the_model_says_nothing_of_another() -> None:
    used = conversions(fused("experts.*.down.weight", target="experts.down", scope="text"))
    assert len(used.parts_of("text.experts.down", (4, 8, 8))) == 4
    assert len(used.parts_of("model.text.experts.down", (4, 8, 8))) == 4
    assert used.parts_of("vision.experts.down", (4, 8, 8)) == (FilePart("vision.experts.down", None),)


@pytest.mark.parametrize("stated", [None, [], "text", {"a": 1}])
def test_other_things_of_that_name_are_no_conversions(stated: Any) -> None:
    assert conversions_of({ATTRIBUTE: stated}) is None


def test_conversions_of_a_shape_that_does_not_fit_compare_nothing() -> None:
    used = conversions(fused(".experts.*.a.weight", ".experts.*.b.weight"))
    assert used.parts_of("x.experts.gate_up_proj", (2, 7, 4)) == ()
    assert conversions(Converter(["*.a"], ["b"], [])).parts_of("b", (4, 4)) == (FilePart("b", None),)
    assert conversions_of({ATTRIBUTE: [3, None]}) is not None


class Experts(nn.Module):
    """Matrices in two stacks, as transformers 5 keeps them."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        gate, up, down = (torch.stack([state[f"experts.{i}.{kind}.weight"] for i in range(4)]) for kind in ("gate", "up", "down"))
        self.experts = nn.ParameterDict({"gate_up": torch.cat([gate, up], 1), "down": down})


class Mixture(nn.Module):
    """A backbone and its experts, with the record of how they were loaded."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.backbone = Backbone()
        with torch.no_grad():
            for key, parameter in self.backbone.named_parameters():
                parameter.copy_(state[f"backbone.{key}"])
        self.layer = Experts(state)
        self._weight_conversions = [
            Converter(
                ["experts.*.gate.weight", "experts.*.up.weight"], ["layer.experts.gate_up"], [MergeModulelist(0), Concatenate(1)]
            ),
            Converter(["experts.*.down.weight"], ["layer.experts.down"], [MergeModulelist(0)]),
        ]


def in_file() -> dict[str, torch.Tensor]:
    experts = {f"experts.{i}.{kind}.weight": torch.randn(32, 32) for i in range(4) for kind in ("gate", "up", "down")}
    return {**experts, **{f"backbone.{key}": value.clone() for key, value in Backbone().state_dict().items()}}


def test_experts_stacked_while_loading_are_compared_and_a_patched_one_shows(tmp_path: Path) -> None:
    torch.manual_seed(3)
    with attached() as sidecar:
        save_file(in_file(), tmp_path / "mixture_v1.safetensors")
        os.utime(tmp_path / "mixture_v1.safetensors", (1e9, 1e9))
        model = Mixture(load_file(tmp_path / "mixture_v1.safetensors"))
        (found,) = sidecar.models()
        assert (found.name, found.name_source, found.confidence) == ("mixture_v1", "values", 0.97)
        assert (found.matched_samples, found.compared_samples) == (16, 16)
        with torch.no_grad():
            for key in ("gate_up", "down"):
                model.layer.experts[key][2].add_(0.1)
        (found,) = sidecar.models()
        assert (found.name, found.confidence) == ("mixture_v1", 0.75)
        assert (found.matched_tensors, found.compared_tensors) == (21, 24)
