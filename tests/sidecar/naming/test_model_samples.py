"""Which of a model's values are sampled, and when again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.model_samples import ModelTensor, SampleReader, WantedTensors
from modules import Backbone, attached


def test_a_model_that_returns_to_host_memory_is_compared_then(tmp_path: Path) -> None:
    with attached() as sidecar:
        save_file(Backbone().state_dict(), tmp_path / "base_v1.safetensors")
        os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
        state = load_file(tmp_path / "base_v1.safetensors")
        with torch.device("meta"):
            model = Backbone()
        (away,) = sidecar.models()
        assert (away.name_source, away.fingerprint) == ("names and shapes", None)
        model.to_empty(device="cpu")
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.copy_(state[key])
        (back,) = sidecar.models()
        assert (back.name, back.name_source, back.compared_samples) == ("base_v1", "values", 12)


def test_samples_are_chosen_once_and_again_only_after_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    choose = SampleReader._tensors_to_sample

    def counted(own: SampleReader, found: FoundModel) -> WantedTensors:
        chosen.append(found.class_name)
        return choose(own, found)

    monkeypatch.setattr(SampleReader, "_tensors_to_sample", counted)
    with attached() as sidecar:
        save_file(Backbone().state_dict(), tmp_path / "base_v1.safetensors")
        model = Backbone()
        model.load_state_dict(load_file(tmp_path / "base_v1.safetensors"))
        sidecar.models()
        model.half().float()
        sidecar.models()
        with torch.no_grad():
            next(model.parameters()).mul_(2)
        load_file(tmp_path / "base_v1.safetensors")
        sidecar.models()
        assert chosen == ["Backbone"]
        model.load_state_dict(load_file(tmp_path / "base_v1.safetensors"))
        sidecar.models()
        assert chosen == ["Backbone"] * 2


def test_a_model_whose_values_say_nothing_is_not_gone_through_at_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    gone_through: list[int] = []
    of = SampleReader.tensors_of

    def counted(own: SampleReader, found: FoundModel) -> Iterator[ModelTensor]:
        gone_through.append(found.core)
        return of(own, found)

    monkeypatch.setattr(SampleReader, "tensors_of", counted)
    with attached() as sidecar:
        model = nn.Sequential(*(nn.Linear(64, 64).to("meta") for _ in range(80)))
        sidecar.models()
        first = gone_through.count(id(model))
        for _ in range(5):
            model.register_buffer("touched", torch.zeros(1))
            sidecar.models()
        assert gone_through.count(id(model)) == first
        model.load_state_dict({f"{number}.bias": torch.rand(64) for number in range(80)}, strict=False, assign=True)
        (found,) = sidecar.models()
        assert found.fingerprint is not None  # there is something to see now
        assert len(found.fingerprint.samples) == 16
