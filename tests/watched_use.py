"""An observer on a fake clock, with a fake GPU's counters, that is asked since when models have not run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from gpumodels.models.allocators import DeviceCounters
from gpumodels.observer import Observer
from gpumodels.support.failures import Failures
from gpumodels.use.last_uses import LastUses
from gpumodels.use.process_rest import ProcessRest
from modules import a_fake

SECOND = 10**9
X = torch.zeros(1, 200)


class Watched:
    """An observer whose clocks and counters the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tracks_calls: bool) -> None:
        self.now_ns = 1000 * SECOND
        self.spent_ns = 0
        self.allocations: int | None = 5
        self.device = "cuda:0"

        def made(torch: object, registry: object, tracks: bool) -> LastUses:
            uses = LastUses(torch, registry, tracks, ProcessRest(lambda: self.spent_ns), lambda: self.now_ns)  # type: ignore[arg-type]
            uses._graphs.may_exist = False
            self.uses = uses
            return uses

        monkeypatch.setattr("gpumodels.observer.LastUses", made)
        self.failures = Failures()
        self.observer = Observer(self, lambda: None, lambda: None, self.failures, tracks_calls=tracks_calls)
        self.observer.attach_when_possible()

    def counters(self, in_use: object = ()) -> Mapping[str, DeviceCounters]:
        """One device's, as the test has it."""
        return {self.device: DeviceCounters(10**9, 10**9, simulated=True, allocation_count=self.allocations)}

    def idle(self, seconds: int = 1, computes: bool = True, allocates: bool = True) -> dict[str, tuple[int, str | None]]:
        """By class name, for how many seconds which models haven't run, after so many seconds with a tick in each."""
        for _ in range(seconds):
            self.now_ns += SECOND
            self.spent_ns += SECOND if computes else 0
            if self.allocations is not None:
                self.allocations += allocates
            self.observer.update()
        self.observer.describe()
        assert self.failures.count == 0
        known = [model for model in self.observer.models if model.last_used_ns is not None]
        return {model.class_name: ((self.now_ns - (model.last_used_ns or 0)) // SECOND, model.last_used_by) for model in known}


class Unet(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 200))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Both layers."""
        out: torch.Tensor = self.layers(x)
        return out


class Vae(Unet):
    """One that is used by a method."""

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        """The first layer alone."""
        out: torch.Tensor = self.layers[0](x)
        return out


def on_gpu(module: nn.Module, device: str = "cuda:0") -> nn.Module:
    """The module, with parameters on a device that doesn't exist."""
    for one in module.modules():
        for name, parameter in list(one._parameters.items()):
            if parameter is not None:
                setattr(one, name, nn.Parameter(a_fake(tuple(parameter.shape), device), requires_grad=False))
    return module
