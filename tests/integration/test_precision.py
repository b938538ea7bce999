"""Precision as people call it, of models that the real libraries quantize and save, up to what the viewer would show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.naming.stated_precision import stated_precision
from gpumodels_tui.headers.header_reader import HeaderWorker
from modules import attached

pytestmark = pytest.mark.filterwarnings("ignore")


def in_memory(make: Callable[[], Any]) -> tuple[str | None, int]:
    """How the model's weights are stored, and how many parameters it has."""
    with attached() as sidecar:
        model = make()
        found = max(sidecar.scan(), key=lambda one: one.held_bytes)
        return stated_precision(found, model, sidecar.registry, lambda: None), found.parameters


def in_file(path: Path) -> str | None:
    worker = HeaderWorker()
    try:
        header = worker.read(str(path), path.suffix if path.suffix != ".json" else path.name).header
    finally:
        worker.close()
    assert header is not None
    return header.precision


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_of_bitsandbytes(kind: str) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")

    def make() -> nn.Module:
        layer = bitsandbytes.nn.Linear4bit(256, 256, bias=False)
        layer.weight = bitsandbytes.nn.Params4bit(torch.randn(256, 256), requires_grad=False, quant_type=kind)
        model = nn.Sequential(layer).to("cpu")
        model(torch.randn(1, 256))
        return model

    assert in_memory(make) == (kind, 65_536)


def test_eight_bits_of_bitsandbytes() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")

    def make() -> nn.Module:
        model = nn.Sequential(bitsandbytes.nn.Linear8bitLt(256, 256, bias=False, has_fp16_weights=False)).to("cpu")
        model(torch.randn(1, 256))
        return model

    assert in_memory(make) == ("int8", 65_536)


@pytest.mark.parametrize(("config", "label"), [("Int8WeightOnlyConfig", "int8"), ("Float8WeightOnlyConfig", "fp8 scaled")])
def test_configs_of_torchao(config: str, label: str) -> None:
    quantization = pytest.importorskip("torchao.quantization")

    def make() -> nn.Module:
        model = nn.Sequential(nn.Linear(256, 256, bias=False)).to(torch.bfloat16)
        quantization.quantize_(model, getattr(quantization, config)())
        return model

    assert in_memory(make) == (label, 65_536)


@pytest.mark.parametrize("label", ["mxfp4", "mxfp8", "nvfp4"])
def test_block_formats_of_torchao(label: str) -> None:
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor")
    nv = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    values = torch.randn(256, 256, dtype=torch.bfloat16)

    def make() -> nn.Module:
        if label == "nvfp4":
            packed = nv.NVFP4Tensor.to_nvfp4(values)
        else:
            packed = mx.MXTensor.to_mx(values, torch.float4_e2m1fn_x2 if label == "mxfp4" else torch.float8_e4m3fn, 32)
        model = nn.Sequential(nn.Linear(256, 256, bias=False))
        model[0].weight = nn.Parameter(packed, requires_grad=False)
        return model

    assert in_memory(make) == (label, 65_536)


def test_a_model_that_transformers_quantizes_saves_and_loads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=512, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "plain")
    wanted = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    load = transformers.LlamaForCausalLM.from_pretrained
    quantized = load(tmp_path / "plain", quantization_config=wanted, device_map="cpu")
    quantized.save_pretrained(tmp_path / "nf4")
    parameters = 688_896
    assert in_memory(lambda: load(tmp_path / "plain", quantization_config=wanted, device_map="cpu")) == ("nf4", parameters)
    assert in_memory(lambda: load(tmp_path / "nf4", device_map="cpu")) == ("nf4", parameters)
    assert in_memory(lambda: load(tmp_path / "plain", dtype=torch.bfloat16)) == (None, parameters)
    assert [in_file(tmp_path / "nf4" / name) for name in ("model.safetensors", "config.json")] == ["nf4", "nf4"]
    assert [in_file(tmp_path / "plain" / name) for name in ("model.safetensors", "config.json")] == [None, None]


def test_a_gguf_file_as_its_package_writes_it(tmp_path: Path) -> None:
    gguf, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    values = gguf.quants.quantize(numpy.ones((64, 256), dtype=numpy.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.weight", values, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert in_file(path) == "Q8_0"
