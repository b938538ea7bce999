"""transformers' `pipeline`, which isn't a module: the model in it is named by the files that it read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modules import attached

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow


def test_a_pipelines_model_is_called_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-news-classifier"
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, num_labels=3
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    with attached() as host:
        classify = transformers.pipeline("text-classification", model=str(folder), tokenizer=str(folder), device=-1)
        assert len(classify("hello")) == 1
        (model,) = host.models()
        assert (model.name, model.files) == ("tiny-news-classifier", (str(folder / "model.safetensors"),))
        expected = sum(tensor.nbytes for tensor in load_file(folder / "model.safetensors").values())
        assert expected <= sum(model.bytes_by_device.values()) <= expected + 8192  # and its position ids
        assert model.confidence >= 0.9
