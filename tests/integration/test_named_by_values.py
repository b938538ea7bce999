"""A model whose file nobody saw being read: its process says what values it holds, and the viewer finds the file."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpumodels_tui import cli
from hosts import a_host

pytestmark = pytest.mark.slow

SETUP = """
import gpumodels
gpumodels.start()
import json, struct, torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(96, 96) for _ in range(24))

def load(path, dtype):
    with open(path, "rb") as file:  # by a way that no wrapper sees
        content = file.read()
    length, = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    net = Net()
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            begin, end = header[key]["data_offsets"]
            raw = bytearray(content[8 + length + begin:8 + length + end])
            parameter.copy_(torch.frombuffer(raw, dtype=torch.float32).view(parameter.shape))
    return net.to(dtype)
"""


def write_tune(path: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    state = {f"blocks.{block}.weight": torch.randn(96, 96, generator=generator) for block in range(24)}
    save_file({**state, **{f"blocks.{block}.bias": torch.randn(96, generator=generator) for block in range(24)}}, path)


def models_seen(directory: Path, models: Path) -> list[dict[str, object]]:
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert cli.main(["--dir", str(directory), "--models", str(models), "--json"]) == 0
    return list(json.loads(printed.getvalue())["processes"][0]["models"])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_fine_tune_read_byte_by_byte_is_named_by_its_values(tmp_path: Path, dtype: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for seed in range(4):
        write_tune(models / f"tune-{seed}.safetensors", seed)
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell(f"net = load({str(models / 'tune-2.safetensors')!r}, torch.{dtype})")
        host.models_when(lambda found: any(model.class_name == "Net" and model.fingerprint for model in found))
        (seen,) = models_seen(tmp_path / "gpm", models)
    assert (seen["name"], seen["name_source"], seen["confidence"]) == ("tune-2", "values", 0.97)
    assert seen["files"] == [str(models / "tune-2.safetensors")]


def test_a_model_that_was_never_in_a_file_has_its_classes_name(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_tune(models / "tune.safetensors", 1)
    with a_host(tmp_path / "gpm", SETUP) as host:
        host.tell("net = Net()")
        host.models_when(lambda found: any(model.class_name == "Net" and model.fingerprint for model in found))
        host.tell(f"from safetensors.torch import save_file; save_file(net.state_dict(), {str(models / 'saved.safetensors')!r})")
        (seen,) = models_seen(tmp_path / "gpm", models)
    assert (seen["name"], seen["confidence"], seen["files"]) == ("Net", 0.0, [])
