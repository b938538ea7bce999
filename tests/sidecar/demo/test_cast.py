"""The demonstration's models: their files, their names, and how much memory they take."""

from __future__ import annotations

import pytest
import torch

from gpumodels.demo.cast import ModelSpec, real_specs, simulated_specs
from gpumodels.naming.kinds import kind_of
from gpumodels_shared.file_names import file_group_name

MIB = 1024**2
GIB = 1024**3


def size_bytes(part: ModelSpec) -> int:
    """What the part's distinct tensors take in its dtype."""
    with torch.device("meta"):
        model = part.build()
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensor.numel() for tensor in tensors.values()) * part.dtype.itemsize


def kind(part: ModelSpec, file: str) -> str:
    with torch.device("meta"):
        model = part.build()
    paths = frozenset(piece for name in model.state_dict() for piece in name.split("."))
    return kind_of(type(model).__name__, paths, 0.0, None, (file,))


def test_real_models_fit_into_the_memory_of_any_machine() -> None:
    assert 100 * MIB < sum(map(size_bytes, real_specs().values())) < 400 * MIB


def test_simulated_models_are_of_the_size_that_fills_gpus() -> None:
    specs = simulated_specs()
    assert size_bytes(specs["high"]) == size_bytes(specs["low"]) > 13 * GIB
    of_first = sum(size_bytes(part) for part in specs.values() if part.device == 0)
    assert 15 * GIB < of_first < 80 * GIB


def test_both_ways_to_play_have_the_same_models() -> None:
    real, simulated = real_specs(), simulated_specs()
    assert list(real) == list(simulated)
    for role, part in real.items():
        assert (part.name, part.dtype) == (simulated[role].name, simulated[role].dtype)
    assert len({part.name for part in real.values()}) == len(real)


@pytest.mark.parametrize("role", real_specs())
def test_a_real_models_file_and_its_metadata_say_its_name(role: str) -> None:
    part = real_specs()[role]
    assert file_group_name((part.file,), {part.file: part.metadata}) == part.name


def test_each_is_of_the_kind_that_it_plays() -> None:
    kinds = {role: kind(part, f"/models/{part.file}") for role, part in real_specs().items()}
    assert kinds == {"high": "checkpoint", "low": "checkpoint", "vace": "model", "vae": "vae", "text": "clip", "lora": "lora"}


def test_two_real_models_never_share_a_file_and_simulated_ones_have_none() -> None:
    assert len({part.file for part in real_specs().values()}) == len(real_specs())
    assert {part.file for part in simulated_specs().values()} == {""}
