"""Tests of facts that trainers write inside other values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpumodels_tui.view.enrichment import enriched, facts_from_files
from gpumodels_tui.view.nested_metadata import with_nested
from snapshots import a_catalogue, a_model, some_facts

FILE = "/models/loras/MyLoRA.safetensors"


def facts_from(metadata: Mapping[str, str]) -> dict[str, str]:
    return facts_from_files(enriched(a_model(files=[FILE], dtypes={}), a_catalogue(some_facts(FILE, metadata))))


@pytest.mark.parametrize(
    ("metadata", "facts"),
    [
        pytest.param(
            {
                "lora_adapter_metadata": json.dumps(
                    {"transformer.r": 16, "transformer.lora_alpha": 32, "transformer.bias": "none"}
                )
            },
            {"rank": "16", "alpha": "32"},
            id="diffusers 0.42",
        ),
        pytest.param(
            {
                "lora_adapter_metadata": json.dumps(
                    {"unet.r": 4, "unet.lora_alpha": 8, "text_encoder.r": 4, "text_encoder.lora_alpha": 2}
                )
            },
            {"rank": "4", "alpha": "unet 8, text_encoder 2"},
            id="diffusers 0.42 with a text encoder",
        ),
        pytest.param(
            {"transformer.r": "16", "transformer.lora_alpha": "64", "trained_words": "sks dog, oil painting"},
            {"rank": "16", "alpha": "64", "trigger words": "sks dog, oil painting"},
            id="SimpleTuner",
        ),
        pytest.param({"network_dim": "16", "network_alpha": "8"}, {"rank": "16", "alpha": "8"}, id="LightX2V"),
        pytest.param(
            {"name": "my_lora_v1", "training_info": json.dumps({"step": 2000, "epoch": 12})},
            {"title": "my_lora_v1", "training steps": "2000", "training epochs": "12"},
            id="ai-toolkit",
        ),
        pytest.param(
            {"ot_config": json.dumps({"lora_rank": 16, "lora_alpha": 1.0, "base_model_name": "org/base", "optimizer": {"a": 1}})},
            {"base model": "org/base", "rank": "16", "alpha": "1"},
            id="OneTrainer",
        ),
        pytest.param(
            {"ss_network_dim": "16", "ss_network_alpha": "8.0", "ss_steps": "900", "ss_epoch": "3", "epoch": "7"},
            {"rank": "16", "alpha": "8.0", "training steps": "900", "training epochs": "3"},
            id="kohya, musubi-tuner, fluxgym, LyCORIS",
        ),
    ],
)
def test_what_trainers_write_in_their_own_ways_is_among_the_facts(metadata: dict[str, str], facts: dict[str, str]) -> None:
    assert facts_from({"format": "pt", **metadata}) == facts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "7",
        '{"transformer.r": {"a": 1}}',
        '{"transformer.r": null}',
        "{" * 100_000,
        '{"a":' + '"x"' + " " * 200_000 + "}",
    ],
)
def test_what_is_no_such_json_says_nothing(text: str) -> None:
    assert facts_from({"lora_adapter_metadata": text}) == {}


def test_metadata_without_anything_inside_are_the_same_object() -> None:
    metadata = {"modelspec.title": "x", "ss_network_dim": "16", "unknown.r": "7", "config.r": "7"}
    assert with_nested(metadata) is metadata


@pytest.mark.slow
def test_what_diffusers_writes_is_read(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    import torch
    from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
    from safetensors import safe_open

    layers: dict[str, torch.nn.Module | torch.Tensor] = {
        f"single.to_q.lora_{one}.weight": torch.zeros(shape) for one, shape in (("A", (16, 64)), ("B", (64, 16)))
    }
    FluxLoraLoaderMixin.save_lora_weights(
        tmp_path, transformer_lora_layers=layers, transformer_lora_adapter_metadata={"r": 16, "lora_alpha": 32}
    )
    with safe_open(str(tmp_path / "pytorch_lora_weights.safetensors"), framework="numpy") as file:
        assert facts_from(file.metadata()) == {"rank": "16", "alpha": "32"}
