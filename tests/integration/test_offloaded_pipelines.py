"""A pipeline's components keep their slots however diffusers moves their weights about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from typing import Final

import pytest

from accelerator import simulated_device
from accelerator_cases import ATTACH
from hosts import Host, a_host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("accelerate", "diffusers", "transformers")), reason="no diffusers"
    ),
]

START: Final = "import gpumodels\ngpumodels.start()"
PIPELINES: Final = """
import warnings
warnings.simplefilter("ignore")
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

def a_unet():
    return UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=8, cross_attention_dim=32, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))

def a_pipeline():
    return StableDiffusionPipeline(
        unet=a_unet(),
        vae=AutoencoderKL(block_out_channels=(32, 64), latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2,
                          up_block_types=("UpDecoderBlock2D",) * 2),
        text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=32, intermediate_size=64, num_attention_heads=4,
                                                  num_hidden_layers=2, vocab_size=512, pad_token_id=1)),
        scheduler=DDIMScheduler(), tokenizer=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False)

def a_step(pipeline):
    with torch.no_grad():
        text = pipeline.text_encoder(torch.ones(1, 8, dtype=torch.long))[0]
        pipeline.unet(torch.ones(1, 4, 8, 8), 1, text.to("cpu"), return_dict=False)

def in_groups(pipeline, **options):
    for component in (pipeline.unet, pipeline.vae):
        component.enable_group_offload(torch.device(D), torch.device("cpu"), **options)
    from diffusers.hooks import apply_group_offloading
    apply_group_offloading(pipeline.text_encoder, onload_device=torch.device(D), offload_device=torch.device("cpu"), **options)
"""
HOST: Final = "in host memory"
SIMULATED: Final = "on the simulated device"
SEQUENTIAL: Final = "kept.enable_sequential_cpu_offload(device=D)\n"
STEP: Final = "a_step(kept)\n"
LEAVES: Final = "in_groups(kept, offload_type='leaf_level')\n"
BLOCKS: Final = "in_groups(kept, offload_type='block_level', num_blocks_per_group=1)\n"
WAYS: Final = {
    # diffusers offloads one after the other from no CPU, and torch lets nobody exchange the data of a tensor of the CPU for data
    # on a device that was added to it, as groups do when they are used.
    "one after the other": (SIMULATED, SEQUENTIAL),
    "one after the other, in use": (SIMULATED, SEQUENTIAL + STEP),
    "one after the other, then moved back": (SIMULATED, SEQUENTIAL + STEP + "kept.remove_all_hooks()\nkept.to('cpu')"),
    "model by model": (SIMULATED, "kept.enable_model_cpu_offload(device=D)\n"),
    "model by model, in use": (SIMULATED, "kept.enable_model_cpu_offload(device=D)\n" + STEP),
    "in groups of leaves": (SIMULATED, LEAVES),
    "in groups of blocks": (SIMULATED, BLOCKS),
    "in groups of leaves, in use": (HOST, LEAVES + STEP),
    "in groups of blocks, in use": (HOST, BLOCKS + STEP),
}
SLOTS: Final = {
    "UNet2DConditionModel": ("unet", "checkpoint"),
    "AutoencoderKL": ("vae", "vae"),
    "CLIPTextModel": ("text_encoder", "clip"),
}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Host]]:
    """A host for each kind of device, started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def started(where: str) -> Host:
            if where == SIMULATED and (reason := simulated_device.unavailable()) is not None:
                pytest.skip(reason)
            directory = tmp_path_factory.mktemp("gpm") / "gpm"
            host = stack.enter_context(a_host(directory, environment={"GPUMODELS_INTERVAL": "0.1"}))
            for source in (ATTACH if where == SIMULATED else "D = 'cpu'", START, PIPELINES):
                host.tell(source)
            return host

        yield started


def slots(host: Host) -> dict[str, tuple[str | None, str]]:
    found = host.models_when(lambda models: sorted(model.class_name for model in models) == sorted(SLOTS))
    return {model.class_name: (model.slot, model.kind) for model in found}


@pytest.mark.parametrize("way", WAYS)
def test_components_keep_their_slots(hosts: Callable[[str], Host], way: str) -> None:
    where, source = WAYS[way]
    host = hosts(where)
    host.tell("kept = None\nimport gc\ngc.collect()")
    host.models_when(lambda models: not models)
    host.tell(f"kept = a_pipeline()\n{source}")
    host.wait_for_ticks(2)
    assert slots(host) == SLOTS


@pytest.mark.parametrize("way", WAYS)
def test_a_sidecar_that_comes_later_finds_the_slots(hosts: Callable[[str], Host], way: str) -> None:
    where, source = WAYS[way]
    host = hosts(where)
    host.tell(f"gpumodels.stop()\nkept = None\nimport gc\ngc.collect()\nkept = a_pipeline()\n{source}")
    host.tell(START)
    assert slots(host) == SLOTS


def test_a_component_in_the_place_of_another_has_its_slot_and_that_one_none(hosts: Callable[[str], Host]) -> None:
    host = hosts(SIMULATED)
    host.tell(f"kept = None\nimport gc\ngc.collect()\nkept = a_pipeline()\n{SEQUENTIAL}other = kept.unet\nkept.unet = a_unet()")
    host.wait_for_ticks(2)
    found = host.models_when(lambda models: len(models) == len(SLOTS) + 1)
    assert sorted(str(model.slot) for model in found) == ["None", "text_encoder", "unet", "vae"]
    host.tell("other = None")
