"""Models against the files that they are named by: what is counted, how often, and what can't be."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modules import Backbone, attached


class Wide(nn.Module):
    """265 tensors that can be compared, as a real model may have them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(32, 32, bias=False) for _ in range(265))


def test_all_tensors_of_a_patched_model_are_counted_in_slices_and_once(tmp_path: Path) -> None:
    pauses: list[None] = []
    with attached(lambda: pauses.append(None)) as sidecar:
        save_file(Wide().state_dict(), tmp_path / "base_v1.safetensors")
        os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
        model = Wide()
        model.load_state_dict({key: value.half() for key, value in load_file(tmp_path / "base_v1.safetensors").items()})
        with torch.no_grad():
            for parameter in list(model.parameters())[:48]:
                parameter.add_(0.01)
        (found,) = sidecar.models()
        assert (found.name, found.confidence) == ("base_v1", 0.75)
        assert (found.matched_tensors, found.compared_tensors) == (217, 265)
        assert found.matched_samples is not None
        assert found.matched_samples <= 16
        assert len(pauses) >= 265 // 16
        pauses.clear()
        assert sidecar.models()[0].matched_tensors == 217
        assert pauses == []
        assert sidecar.failures.count == 0


def test_out_of_reach_nothing_is_counted_and_the_samples_have_to_do(tmp_path: Path) -> None:
    with attached() as sidecar:
        save_file(Backbone().state_dict(), tmp_path / "base_v1.safetensors")
        os.utime(tmp_path / "base_v1.safetensors", (1e9, 1e9))
        state = {key: value.half() for key, value in load_file(tmp_path / "base_v1.safetensors").items()}
        state["blocks.0.q.weight"] = state["blocks.0.q.weight"] + 0.01
        model = Backbone().half()
        model.load_state_dict(state)
        model.to("meta")
        (found,) = sidecar.models()
        assert (found.name, found.matched_samples, found.compared_samples) == ("base_v1", 11, 12)
        assert found.matched_tensors is None
