"""A server of the shape of vLLM and SGLang: an engine whose spawned workers copy a checkpoint's weights into fused parameters.

Run as a program: `fused_server.py FOLDER WORKERS HOW`; HOW is `plain`, or `quantized` for weights that are changed after loading.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

WIDTH: Final = 128
WORDS: Final = 512
LAYERS: Final = 2
FUSED: Final = {"q_proj": ("qkv_proj", 0), "k_proj": ("qkv_proj", 1), "v_proj": ("qkv_proj", 2)} | {
    "gate_proj": ("gate_up_proj", 0),
    "up_proj": ("gate_up_proj", 1),
}
"""Parts of a checkpoint: the parameter that holds them, and where in it."""


def save_checkpoint(folder: Path) -> None:
    """A Llama in two shards, with its config."""
    state = {"model.embed_tokens.weight": torch.rand(WORDS, WIDTH)}
    for layer in (f"model.layers.{number}" for number in range(LAYERS)):
        state |= {
            f"{layer}.self_attn.{part}.weight": torch.rand(WIDTH, WIDTH) for part in ("q_proj", "k_proj", "v_proj", "o_proj")
        }
        state |= {f"{layer}.mlp.{part}.weight": torch.rand(2 * WIDTH, WIDTH) for part in ("gate_proj", "up_proj")}
        state[f"{layer}.mlp.down_proj.weight"] = torch.rand(WIDTH, 2 * WIDTH)
    folder.mkdir(parents=True)
    half = list(state)[: len(state) // 2]
    save_file({key: state[key] for key in half}, folder / "model-00001-of-00002.safetensors")
    rest = {key: value for key, value in state.items() if key not in half}
    save_file(rest, folder / "model-00002-of-00002.safetensors")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 4,
        "num_hidden_layers": LAYERS,
        "vocab_size": WORDS,
    }
    (folder / "config.json").write_text(json.dumps(config))


class _Parallel(nn.Module):
    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, columns, dtype=torch.float16), requires_grad=False)


class LlamaForCausalLM(nn.Module):
    """A rank's part of the model."""

    def __init__(self, config: Any, ranks: int) -> None:
        super().__init__()
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = _Parallel(WORDS // ranks, WIDTH)
        self.model.layers = nn.ModuleList()
        for _ in range(LAYERS):
            layer, layer.self_attn, layer.mlp = nn.Module(), nn.Module(), nn.Module()
            layer.self_attn.qkv_proj, layer.self_attn.o_proj = (
                _Parallel(3 * WIDTH // ranks, WIDTH),
                _Parallel(WIDTH, WIDTH // ranks),
            )
            layer.mlp.gate_up_proj, layer.mlp.down_proj = (
                _Parallel(4 * WIDTH // ranks, WIDTH),
                _Parallel(WIDTH, 2 * WIDTH // ranks),
            )
            self.model.layers.append(layer)


def _weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118
                yield key, opened.get_tensor(key)


def load_model(folder: Path, rank: int, ranks: int, *, quantized: bool = False) -> nn.Module:
    """What `Worker.load_model` does."""
    from transformers import AutoConfig

    model = LlamaForCausalLM(AutoConfig.from_pretrained(folder), ranks)
    parameters = dict(model.named_parameters())
    for name, value in _weights(folder):
        part = name.split(".")[-2]
        if part in FUSED:
            fused, place = FUSED[part]
            rows = value.shape[0] // ranks
            parameters[name.replace(part, fused)].data.narrow(0, place * rows, rows).copy_(value.narrow(0, rank * rows, rows))
        else:
            along = 0 if part == "embed_tokens" else 1
            size = value.shape[along] // ranks
            parameters[name].data.copy_(value.narrow(along, rank * size, size))
    if quantized:
        for module in model.modules():
            if isinstance(module, _Parallel):
                scale = module.weight.abs().max().float() / 448
                stored = (module.weight / scale).to(torch.float8_e4m3fn).t()
                module.weight, module.weight_scale = (
                    nn.Parameter(stored, requires_grad=False),
                    nn.Parameter(scale, requires_grad=False),
                )
    return model


def load_plugins() -> None:
    """As vLLM does in each of its processes, in some of them more than once; here in several threads at once as well."""
    from importlib.metadata import entry_points

    plugins = [one.load() for one in entry_points(group="vllm.general_plugins")]
    threads = [threading.Thread(target=plugin) for plugin in plugins for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for plugin in plugins:
        plugin()


def _work(folder: str, rank: int, ranks: int, how: str, ready: Any, done: Any) -> None:
    load_plugins()
    model = load_model(Path(folder), rank, ranks, quantized=how == "quantized")
    sidecars = [thread.name for thread in threading.enumerate()].count("gpumodels")
    ready.put((os.getpid(), rank, sidecars, len(list(model.modules()))))
    done.wait()


def main(folder: str, ranks: int, how: str) -> None:
    """Print the pid of the engine and of each worker, with how many sidecars each has, and wait for the end of stdin."""
    load_plugins()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Queue(), context.Event()
    workers = [context.Process(target=_work, args=(folder, rank, ranks, how, ready, done)) for rank in range(ranks)]
    for worker in workers:
        worker.start()
    told = [ready.get(timeout=90) for _ in workers]
    sidecars = [thread.name for thread in threading.enumerate()].count("gpumodels")
    sys.stdout.write(json.dumps({"engine": sidecars, "workers": {pid: count for pid, _, count, _ in told}}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    done.set()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
