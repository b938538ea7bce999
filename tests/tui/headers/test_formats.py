"""Tests of the table of formats: which names are read, and with what."""

from __future__ import annotations

from importlib import import_module

import pytest

from gpumodels_tui.headers.formats import READERS, describes_others, suffix_of


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("/m/a.safetensors", ".safetensors"),
        ("/m/A.SafeTensors", ".safetensors"),
        ("/m/ae.sft", ".sft"),
        ("/m/q4.gguf", ".gguf"),
        ("/m/old.ckpt", ".ckpt"),
        ("/m/config.json", "config.json"),
        ("/m/adapter_config.json", "adapter_config.json"),
        ("/m/quantize_config.json", "quantize_config.json"),
        ("/m/quant_config.json", "quant_config.json"),
        ("/m/hf_quant_config.json", "hf_quant_config.json"),
        ("/m/model.safetensors.index.json", ".safetensors.index.json"),
        ("/m/model.safetensors.index.fp16.json", ".safetensors.index.json"),
        ("/m/tokenizer.json", None),
        ("/m/a.safetensors.incomplete", None),
        ("/m/.safetensors", None),
        ("/m.pt/readme", None),
        ("/m/a.txt", None),
    ],
)
def test_a_name_tells_which_reader(name: str, suffix: str | None) -> None:
    assert suffix_of(name) == suffix
    assert suffix is None or suffix in READERS


@pytest.mark.parametrize("suffix", READERS)
def test_every_format_has_a_reader(suffix: str) -> None:
    reader = import_module(READERS[suffix])
    assert callable(reader.read)
    assert reader.recognises(b"", 0) is False


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "model.safetensors.index.json"])
def test_configs_and_indexes_tell_of_the_files_beside_them(name: str) -> None:
    assert describes_others(f"/m/{name}")


@pytest.mark.parametrize("name", ["a.safetensors", "old.ckpt", "config.json.bak", "tokenizer.json", "config.json/a.gguf"])
def test_models_and_other_files_tell_of_themselves_alone(name: str) -> None:
    assert not describes_others(f"/m/{name}")
