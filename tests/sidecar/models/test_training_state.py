"""Gradients, optimizer state and caches, against sums done by hand."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from torch import nn

from gpumodels.models.training_state import NonModelBytes
from modules import attached, distinct_bytes

FLOAT = 4


def test_caches_kept_as_attributes_are_caches_and_no_part_of_the_model() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Linear(16, 16)
            self.kv_cache: list[torch.Tensor] = []

    with attached() as sidecar:
        model = Attention()
        model.kv_cache += [torch.zeros(300), torch.zeros(400)]
        model.past_key_values = torch.zeros(7)
        (found,) = sidecar.scan()
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}
        assert sidecar.parts() == NonModelBytes(caches={"cpu": (300 + 400 + 7) * FLOAT})


def test_gradients_count_beside_the_model_and_go_when_they_are_cleared() -> None:
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
        assert sidecar.parts() == NonModelBytes()
        model(torch.ones(1, 64)).sum().backward()
        assert sidecar.parts() == NonModelBytes(gradients={"cpu": distinct_bytes(model)})
        model.zero_grad(set_to_none=True)
        assert sidecar.parts() == NonModelBytes()


OPTIMIZERS: list[tuple[str, Callable[[nn.Module], torch.optim.Optimizer], int]] = [
    ("sgd", lambda model: torch.optim.SGD(model.parameters(), lr=0.1), 0),
    ("momentum", lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), 1),
    ("adam", lambda model: torch.optim.Adam(model.parameters(), lr=0.1), 2),
    ("adamw foreach", lambda model: torch.optim.AdamW(model.parameters(), lr=0.1, foreach=True), 2),
    ("adamw fused", lambda model: torch.optim.AdamW(model.parameters(), lr=0.1, fused=True), 2),
    ("amsgrad", lambda model: torch.optim.Adam(model.parameters(), lr=0.1, amsgrad=True), 3),
]


@pytest.mark.parametrize(("name", "build", "copies"), OPTIMIZERS, ids=[name for name, _, _ in OPTIMIZERS])
def test_optimizer_state_is_found_without_the_users_code(
    name: str, build: Callable[[nn.Module], torch.optim.Optimizer], copies: int
) -> None:
    with attached() as sidecar:
        model = nn.Linear(64, 64)
        optimizer = build(model)
        model(torch.ones(1, 64)).sum().backward()
        optimizer.step()
        by_hand = {
            tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
            for state in optimizer.state.values()
            for tensor in state.values()
            if isinstance(tensor, torch.Tensor)
        }
        parts = sidecar.parts()
        assert parts.optimizer.get("cpu", 0) == sum(by_hand.values())
        assert sum(by_hand.values()) // distinct_bytes(model) == copies
        assert len(sidecar.training_state.optimizers) == 1
        del optimizer
        gc.collect()
        assert len(sidecar.training_state.optimizers) == 0
        assert sidecar.parts().optimizer == {}


def test_an_optimizer_made_before_the_sidecar_is_found_by_the_sweep() -> None:
    model = nn.Linear(64, 64)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    with attached() as sidecar:
        sidecar.hooks.sweep()
        assert sidecar.parts().optimizer["cpu"] >= 2 * distinct_bytes(model)


def test_what_a_model_already_counts_is_in_no_other_sum() -> None:
    with attached() as sidecar:
        model = nn.Linear(64, 64)
        model.weight.grad = model.weight.data
        model.register_buffer("average", torch.zeros(64, 64))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.state[model.weight] = {"average": model.get_buffer("average"), "momentum": torch.zeros(50)}
        assert sidecar.parts() == NonModelBytes(optimizer={"cpu": 50 * FLOAT})


def test_a_storage_that_two_optimizers_hold_counts_once() -> None:
    with attached() as sidecar:
        model = nn.Linear(64, 64)
        momentum = torch.zeros(64, 64)
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2)]
        for optimizer in optimizers:
            optimizer.state[model.weight] = {"momentum_buffer": momentum}
        assert sidecar.parts() == NonModelBytes(optimizer={"cpu": 64 * 64 * FLOAT})


def test_a_host_is_training_while_an_optimizer_lives() -> None:
    with attached() as sidecar:
        seen = [sidecar.training_state.is_training]
        optimizer = torch.optim.SGD(nn.Linear(4, 4).parameters(), lr=0.1)
        seen.append(sidecar.training_state.is_training)
        del optimizer
        gc.collect()
        seen.append(sidecar.training_state.is_training)
        assert seen == [False, True, False]


def test_an_optimizer_whose_state_cannot_be_read_hides_no_other() -> None:
    with attached() as sidecar:
        model = nn.Linear(64, 64)
        broken, good = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
        broken.__dict__["state"] = 5
        good.state[model.weight] = {"momentum_buffer": torch.zeros(50)}
        assert sidecar.parts() == NonModelBytes(optimizer={"cpu": 50 * FLOAT})
        assert sidecar.failures.count == 1
