"""A real PyTorch process with the sidecar in it, told line by line what to do: what the integration tests look at."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

from gpumodels_shared.decoding import decode
from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.schema import Model, Snapshot
from processes import running_python, wait_until

_LOOP: Final = """
import sys, json, traceback
import gpumodels
scope = {"__name__": "__main__"}
answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
for line in sys.stdin:
    try:
        source = json.loads(line)
        try:
            code = compile(source, "<told>", "eval")
        except SyntaxError:
            exec(compile(source, "<told>", "exec"), scope)
            answer = None
        else:
            answer = eval(code, scope)
        print(json.dumps({"answer": answer}), file=answers, flush=True)
    except BaseException:
        print(json.dumps({"error": traceback.format_exc()}), file=answers, flush=True)
"""


class Host:
    """The child. `tell` runs source in it and returns an expression's value; `snapshot` is what its file says."""

    def __init__(self, child: Popen[str], directory: Path) -> None:
        self._child = child
        self._directory = directory
        self.pid = child.pid

    def tell(self, source: str) -> Any:
        """Run statements, or evaluate an expression whose value JSON can carry, in the child."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(source) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    @contextlib.contextmanager
    def reader(self) -> Iterator[SnapshotReader]:
        """Its file, open."""
        names = self._files()
        while len(names) > 1:  # a sidecar that was just started again removes the file of the one before
            wait_until(lambda: len(self._files()) == 1)
            names = self._files()
        assert len(names) == 1, names
        reader = SnapshotReader(self._directory / names[0], os.geteuid())
        try:
            yield reader
        finally:
            reader.close()

    def snapshot(self) -> Snapshot:
        """What the file says now."""
        with self.reader() as reader:
            payload = reader.latest()
            assert payload is not None
            return decode(payload.data)

    def beat(self) -> int:
        """How often it has beaten."""
        return self._file_and_beat()[1]

    def wait_for_ticks(self, count: int) -> None:
        """Until so many ticks have begun and ended since now."""
        file, beat = self._file_and_beat()
        until = beat + count + 1  # the first beat may belong to a tick that began before

        def has_beaten() -> bool:
            nonlocal file, until
            latest, beat = self._file_and_beat()
            if latest != file:  # that of a sidecar which was started since
                file, until = latest, count + 1
            return beat >= until

        wait_until(has_beaten)

    def models_when(self, condition: Callable[[tuple[Model, ...]], bool]) -> tuple[Model, ...]:
        """The models, as soon as the condition holds for them and nothing is half done: none waits for its name."""
        self.wait_for_ticks(1)
        wait_until(lambda: self._published() and self._are_named() and condition(self.snapshot().models))
        return self.snapshot().models

    def settled_models(self, condition: Callable[[tuple[Model, ...]], bool]) -> tuple[Model, ...]:
        """The models, once the condition holds and two ticks changed nothing: a look while they were built saw a part of them."""
        settled: tuple[Model, ...] = ()

        def is_settled() -> bool:
            nonlocal settled
            settled = self.models_when(condition)
            self.wait_for_ticks(2)
            return self.snapshot().models == settled

        wait_until(is_settled)
        return settled

    def close(self) -> int:
        """End its input; its exit code."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        return self._child.wait(30)

    def _files(self) -> list[str]:
        return [name for name in snapshot_files(self._directory) if name.startswith(f"{self.pid}-")]

    def _file_and_beat(self) -> tuple[str, int]:
        wait_until(self._published)
        with self.reader() as reader:
            return reader.path.name, reader.heartbeat().beat

    def _are_named(self) -> bool:
        return all(model.name_source != NameSource.PENDING for model in self.snapshot().models)

    def _published(self) -> bool:
        try:
            with self.reader() as reader:
                return reader.latest() is not None
        except (AssertionError, OSError):
            return False


@contextlib.contextmanager
def a_host(directory: Path, setup: str = "", environment: Mapping[str, str] | None = None) -> Iterator[Host]:
    """A child that has run `setup`; its snapshots go to `directory`, four ticks a second."""
    directory.mkdir(mode=0o700, exist_ok=True)
    settings = {"GPUMODELS_DIR": str(directory), "GPUMODELS_INTERVAL": "0.25", **(environment or {})}
    with running_python(_LOOP, environment=settings) as child:
        host = Host(child, directory)
        if setup:
            host.tell(setup)
        yield host


WAN_SETUP: Final = """
import gpumodels
gpumodels.start()
import torch
from torch import nn
from safetensors.torch import load_file, save_file

class WanLayerNorm(nn.LayerNorm): pass

class WanAttentionBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1 = WanLayerNorm(width)
        self.self_attn = nn.ModuleDict({name: nn.Linear(width, width) for name in "qkvo"})
        self.norm2 = WanLayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

class WanModel(nn.Module):
    def __init__(self, width=64, blocks=50):
        super().__init__()
        self.patch_embedding = nn.Linear(16, width)
        self.blocks = nn.ModuleList(WanAttentionBlock(width) for _ in range(blocks))
        self.head = nn.Linear(width, 16)
        self.register_buffer("freqs", torch.zeros(64, 8))

class AutoencoderKLWan(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(*[nn.Conv2d(24, 24, 3) for _ in range(12)])
        self.decoder = nn.Sequential(*[nn.Conv2d(24, 24, 3) for _ in range(12)])

class UMT5EncoderModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(2000, 64)
        self.block = nn.ModuleList([nn.Linear(64, 64) for _ in range(6)])

class LoRAModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.lora_down = nn.Linear(64, 16, bias=False)
        self.lora_up = nn.Linear(16, 64, bias=False)

class LoRANetwork(nn.Module):
    def __init__(self):
        super().__init__()
        for index in range(32):
            self.add_module(f"lora_unet_blocks_{index}_q", LoRAModule())

def saved(model, path, metadata=None):
    save_file(model.state_dict(), path, metadata)
    return path

def loaded(build, path):
    model = build()
    model.load_state_dict(load_file(path))
    return model

def distinct_bytes(*models, device=None):
    seen = {}
    for model in models:
        for tensor in [*model.parameters(), *model.buffers()]:
            if device is None or str(tensor.device) == device:
                seen[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
    return sum(seen.values())
"""
"""Classes shaped like those of a Wan workflow, and what a workflow does with them."""

FAKES_SETUP: Final = """
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
mode = FakeTensorMode()

def put(model, device):
    for module in model.modules():
        for name, tensor in list(module._parameters.items()):
            if tensor is not None:
                fake = FakeTensor(mode, torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"), torch.device(device))
                setattr(module, name, nn.Parameter(fake, requires_grad=False))
        for name, tensor in list(module._buffers.items()):
            fake = FakeTensor(mode, torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"), torch.device(device))
            setattr(module, name, fake)
    return model
"""
"""Tensors that report `cuda:N` and take no memory."""
