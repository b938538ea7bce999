"""The host's work gives the same results with the sidecar as without, and the sidecar does nothing that could cost the host."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from modules import Backbone, attached, distinct_bytes


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.relu(self.first(x))) * self.scale
        return out


def with_and_without(work: Callable[[], Any]) -> tuple[Any, Any]:
    """The result of the work with the sidecar attached and scanning, and without it."""
    torch.manual_seed(7)
    without = work()
    torch.manual_seed(7)
    with attached() as sidecar:
        sidecar.hooks.sweep()
        result = work()
        sidecar.models()
        sidecar.parts()
        assert sidecar.failures.count == 0
    return result, without


def test_a_pickled_module_is_byte_for_byte_the_same() -> None:
    model = Doubling()
    without = pickle.dumps(model)
    with attached() as sidecar:
        sidecar.hooks.sweep()
        model.load_state_dict(model.state_dict())
        sidecar.models()
        assert pickle.dumps(model) == without


def test_a_saved_model_is_byte_for_byte_the_same() -> None:
    def work() -> bytes:
        stream = io.BytesIO()
        torch.save(Doubling(), stream)
        return stream.getvalue()

    result, without = with_and_without(work)
    assert result == without


def fresh(model: nn.Module, _: Path) -> nn.Module:
    return model


def loaded(model: nn.Module, path: Path) -> nn.Module:
    model.load_state_dict(load_file(path))
    return model


def loaded_from_a_pickle(model: nn.Module, path: Path) -> nn.Module:
    model.load_state_dict(torch.load(path.with_suffix(".pt")))
    return model


def assigned_mapped_tensors(model: nn.Module, path: Path) -> nn.Module:
    model.load_state_dict(load_file(path), assign=True)
    return model


def loaded_and_halved(model: nn.Module, path: Path) -> nn.Module:
    return loaded(model, path).half()


def loaded_moved_and_copied(model: nn.Module, path: Path) -> nn.Module:
    return copy.deepcopy(loaded(model, path).to(torch.bfloat16).to("cpu").float())


def by_torch(model: nn.Module, path: Path) -> bytes:
    torch.save({"state_dict": model.state_dict(), "model": model}, path)
    return path.read_bytes()


def by_safetensors(model: nn.Module, path: Path) -> bytes:
    save_file(model.state_dict(), path, {"step": "3"})
    return path.read_bytes()


@pytest.mark.parametrize(
    "made", [fresh, loaded, loaded_from_a_pickle, assigned_mapped_tensors, loaded_and_halved, loaded_moved_and_copied]
)
@pytest.mark.parametrize("saved", [by_torch, pytest.param(by_safetensors, marks=pytest.mark.slow)])
def test_what_is_saved_after_loading_and_moving_is_byte_for_byte_the_same(
    tmp_path: Path, made: Callable[[nn.Module, Path], nn.Module], saved: Callable[[nn.Module, Path], bytes]
) -> None:
    source = Doubling()
    save_file(source.state_dict(), tmp_path / "source.safetensors")
    torch.save(source.state_dict(), tmp_path / "source.pt")

    def work() -> bytes:
        return saved(made(Doubling(), tmp_path / "source.safetensors"), tmp_path / "saved")

    result, without = with_and_without(work)
    assert result == without


def test_copies_and_state_dicts_are_the_same() -> None:
    def work() -> list[tuple[str, list[float]]]:
        copied = copy.deepcopy(Doubling())
        fresh = Doubling()
        fresh.load_state_dict(copied.state_dict())
        return [(name, tensor.flatten().tolist()) for name, tensor in fresh.state_dict().items()]

    result, without = with_and_without(work)
    assert result == without


def test_a_training_step_gives_the_same_numbers() -> None:
    def work() -> list[float]:
        model = Doubling()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 8)).sum().backward()
            optimizer.step()
        return [value for parameter in model.parameters() for value in parameter.flatten().tolist()]

    result, without = with_and_without(work)
    assert result == without


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_exported_program_is_the_same() -> None:
    result, without = with_and_without(lambda: str(torch.export.export(Doubling(), (torch.ones(2, 8),)).graph))
    assert result == without


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_models_graphs_are_the_same() -> None:
    def work() -> tuple[int, int, list[str]]:
        torch._dynamo.reset()
        explained = torch._dynamo.explain(Doubling())(torch.ones(2, 8))
        return explained.graph_count, explained.graph_break_count, [graph.code for graph in explained.graphs]

    result, without = with_and_without(work)
    assert result == without
    assert result[:2] == (1, 0)


def test_a_scan_moves_nothing_waits_for_nothing_and_touches_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def forbidden(name: str) -> Callable[..., Any]:
        def call(*_: object, **__: object) -> Any:
            called.append(name)
            raise AssertionError(name)

        return call

    with attached() as sidecar:
        model = Backbone()
        torch.optim.SGD(model.parameters(), lr=0.1)
        for name in ("cpu", "item", "tolist", "numpy", "clone", "to", "cuda", "__bool__", "__repr__"):
            monkeypatch.setattr(torch.Tensor, name, forbidden(name))
        for name in ("_lazy_init", "synchronize", "current_device", "device_count", "get_device_properties", "mem_get_info"):
            monkeypatch.setattr(torch.cuda, name, forbidden(name))
        (found,) = sidecar.scan()
        parts = sidecar.parts()
        monkeypatch.undo()
        assert (called, sidecar.failures.count) == ([], 0)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}
        assert parts.gradients == {}
        assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def test_gradients_of_tensors_that_are_no_leaves_are_not_asked_for() -> None:
    with attached() as sidecar:
        model = nn.Linear(8, 8)
        leaf = torch.zeros(8, 8, requires_grad=True)
        del model._parameters["weight"]
        model._parameters["weight"] = leaf * 2  # type: ignore[assignment]
        sidecar.parts()  # a warning would be an error here
        assert sidecar.failures.count == 0
