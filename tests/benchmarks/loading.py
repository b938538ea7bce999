"""What the sidecar adds to loading a model: 300 MB with and without it, in interleaved pairs of one run.

Measured is the CPU time of the loading thread, so that other work on the machine doesn't count. First as people load, from the
file to a model that can be used; then only the copying of mapped pages into an existing model, the cheapest load that there is.
"""

from __future__ import annotations

import gc
import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import gpumodels
from gpumodels.sidecar import published_names
from processes import wait_until

PAIRS: Final = 11
WIDTH: Final = 724
LAYERS: Final = 75
"""With two matrices of WIDTH² and two vectors each: 300 MB in 300 tensors of float32."""
SMALL_LAYERS: Final = 2000
"""The same bytes in 8,000 tensors, which is more than any model has."""


class Layer(nn.Module):
    """One layer of the model: two linear modules."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)


def a_model(layers: int, width: int) -> nn.Sequential:
    """A model of so many layers, uninitialised, to save the time for random numbers."""
    with torch.device("meta"):
        model = nn.Sequential(*(Layer(width) for _ in range(layers)))
    return model.to_empty(device="cpu")


def ratio_of(load: Callable[[], object], directory: Path) -> tuple[float, float]:
    """Load with the sidecar and without: (median of the pairs' ratios, median CPU seconds without)."""
    ratios: list[float] = []
    without: list[float] = []
    kept = load()  # so that there is always a model to be published
    for pair in range(PAIRS):
        seconds: dict[bool, float] = {}
        for watched in (pair % 2 == 0, pair % 2 == 1):
            if watched:
                gpumodels.start(directory=directory, interval=0.1)
                wait_until(lambda: bool(published_names()))  # the cost of starting is measured elsewhere
            gc.collect()  # else one would collect the garbage of the other
            started = time.thread_time()
            load()
            seconds[watched] = time.thread_time() - started
            if watched:
                gpumodels.stop()
        ratios.append(seconds[True] / seconds[False])
        without.append(seconds[False])
    del kept
    return median(ratios), median(without)


def as_people_load(directory: Path) -> dict[str, Callable[[], object]]:
    """Load files of 300 MB, each into a new model."""
    diffusers: Any = importlib.import_module("diffusers")
    transformers: Any = importlib.import_module("transformers")
    unet_class, bert_class = diffusers.UNet2DConditionModel, transformers.BertModel
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()
    bert_class(transformers.BertConfig(num_hidden_layers=7)).save_pretrained(directory / "bert")
    widths = (128, 256, 512)
    unet_class(
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=768,
    ).save_pretrained(directory / "unet")
    plain = a_model(LAYERS, WIDTH)
    for parameter in plain.parameters():
        nn.init.uniform_(parameter)
    save_file(plain.state_dict(), directory / "plain.safetensors")

    def a_plain_model() -> nn.Module:
        model = nn.Sequential(*(Layer(WIDTH) for _ in range(LAYERS)))
        model.load_state_dict(load_file(directory / "plain.safetensors"))
        return model

    return {
        "transformers, BERT in 119 tensors": lambda: bert_class.from_pretrained(directory / "bert"),
        "diffusers, a UNet": lambda: unet_class.from_pretrained(directory / "unet"),
        "modules made, then load_state_dict": a_plain_model,
    }


def main() -> None:
    """Print a line for each way of loading."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for name, load in as_people_load(directory).items():
            ratio, seconds = ratio_of(load, directory / "gpm")
            print(f"{name}: × {ratio:.4f} ({seconds * 1e3:.0f} ms without the sidecar; target 1.01)", flush=True)
        for layers, width in ((LAYERS, WIDTH), (SMALL_LAYERS, int(WIDTH * (LAYERS / SMALL_LAYERS) ** 0.5))):
            model = a_model(layers, width)
            for parameter in model.parameters():
                nn.init.uniform_(parameter)
            save_file(model.state_dict(), directory / "model.safetensors")
            torch.save(model.state_dict(), directory / "model.pt")
            megabytes = (directory / "model.safetensors").stat().st_size / 2**20
            ways: dict[str, Callable[[], object]] = {
                "safetensors, copied": lambda m=model: m.load_state_dict(load_file(directory / "model.safetensors")),  # type: ignore[misc]
                "torch.load, copied": lambda m=model: m.load_state_dict(torch.load(directory / "model.pt")),  # type: ignore[misc]
                "cast and copied": lambda m=model: m.load_state_dict(  # type: ignore[misc]
                    {key: value.half() for key, value in load_file(directory / "model.safetensors").items()}
                ),
                "moved by .double() and .float()": lambda m=model: m.double().float(),  # type: ignore[misc]
            }
            for name, load in ways.items():
                ratio, seconds = ratio_of(load, directory / "gpm")
                print(
                    f"{megabytes:.0f} MB in {4 * layers} tensors, {name}: "
                    f"× {ratio:.4f} ({seconds * 1e3:.0f} ms without the sidecar)"
                )


if __name__ == "__main__":
    main()
