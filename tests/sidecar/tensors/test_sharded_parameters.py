"""What FSDP2 keeps besides the registered parameters: objects built like its own; tests/integration runs the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import CellType, FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.models.training_state import NonModelBytes
from gpumodels.tensors import module_reader
from gpumodels.tensors.sharded_parameters import accumulated_gradients, parameters_beside, tensors_of_shards
from modules import Attached, attached, the_only

FLOAT = 4
WHOLE = 64 * 64
SHARD = WHOLE // 2


def add_load_hook(module: Any, hook: Any) -> None:
    module.register_load_state_dict_post_hook(hook)


class Sharded:
    """One parameter of a module as FSDP2 keeps it; torch names its class `FSDPParam`."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self._module_info = SimpleNamespace(module=module, param_name=name)
        self._sharded_param_data = torch.zeros(SHARD)
        self.sharded_param = nn.Parameter(self._sharded_param_data[:-3])  # the last shard is padded
        self.all_gather_outputs: list[torch.Tensor] = []
        self.unsharded_accumulated_grad: torch.Tensor | None = None
        add_load_hook(module, lambda *_: self.reset())
        self.reshard()

    def reset(self) -> None:
        raise AssertionError("foreign code ran")

    def reshard(self) -> None:
        for tensor in self.all_gather_outputs:
            tensor.untyped_storage().resize_(0)
        self.register(self.sharded_param)

    def unshard(self) -> None:
        self.all_gather_outputs = [torch.zeros(WHOLE)]
        self._unsharded_param = nn.Parameter(self.all_gather_outputs[0].view(64, 64))
        self.register(self._unsharded_param)

    def register(self, parameter: nn.Parameter) -> None:
        """As FSDP2 does it: without a registration that could be observed."""
        self._module_info.module._parameters[self._module_info.param_name] = parameter


Sharded.__name__ = "FSDPParam"
Sharded.__module__ = "torch.distributed.fsdp._fully_shard._fsdp_param"


def a_sharded_module() -> tuple[nn.Module, Sharded]:
    module = nn.Linear(64, 64, bias=False)
    return module, Sharded(module, "weight")


def sizes(sidecar: Attached) -> dict[str, int]:
    return dict(the_only(sidecar).bytes_by_device)


def test_shards_stay_in_the_sum_while_the_weights_are_gathered() -> None:
    with attached() as sidecar:
        model, weight = a_sharded_module()
        assert sizes(sidecar) == {"cpu": SHARD * FLOAT}
        weight.unshard()
        assert sizes(sidecar) == {"cpu": (SHARD + WHOLE) * FLOAT}
        assert the_only(sidecar).parameters == WHOLE
        assert [name for name, _ in tensors_of_shards(vars(model), torch.Tensor)] == ["weight", "weight"]
        weight.reshard()
        assert sizes(sidecar) == {"cpu": SHARD * FLOAT}
        assert sidecar.failures.count == 0


def test_memory_gathered_while_the_shards_are_registered_counts_too() -> None:
    with attached() as sidecar:
        model, weight = a_sharded_module()
        weight.unshard()
        weight.register(weight.sharded_param)
        assert sizes(sidecar) == {"cpu": (SHARD + WHOLE) * FLOAT}
        weight.all_gather_outputs[0].untyped_storage().resize_(0)
        assert sizes(sidecar) == {"cpu": SHARD * FLOAT}
        assert model is not None


def test_weights_that_are_gathered_while_they_are_read_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp before has the shards only, and so has the next one: between them the gathered weights were counted."""
    with attached() as sidecar:
        model, weight = a_sharded_module()
        calls = []

        def while_it_is_read(state: Mapping[str, Any], tensor_type: type) -> list[tuple[str, Any]]:
            calls.append(state)
            if len(calls) == 2:
                weight.unshard()
            return tensors_of_shards(state, tensor_type)

        monkeypatch.setattr(module_reader, "tensors_of_shards", while_it_is_read)
        assert sizes(sidecar) == {"cpu": (SHARD + WHOLE) * FLOAT}
        weight.reshard()
        found = sidecar.scanner.scan(lambda: None, everything=False)
        assert [one.bytes_by_device for one in found] == [{"cpu": SHARD * FLOAT}]
        read = len(calls)
        sidecar.scanner.scan(lambda: None, everything=False)
        assert len(calls) == read  # what didn't change isn't read again
        assert model is not None


def test_shards_that_wait_in_host_memory_are_on_their_device() -> None:
    with attached() as sidecar:
        model, weight = a_sharded_module()
        weight.unshard()
        weight._sharded_param_data = torch.zeros(SHARD, device="meta")
        found = the_only(sidecar)
        assert (found.bytes_by_device, found.missing_bytes) == ({"cpu": WHOLE * FLOAT}, SHARD * FLOAT)
        assert model is not None


def test_gradients_count_whichever_parameters_are_registered() -> None:
    with attached() as sidecar:
        model, weight = a_sharded_module()
        weight.sharded_param.grad = torch.zeros(SHARD - 3)
        weight.unshard()
        weight.unsharded_accumulated_grad = torch.zeros(WHOLE)
        assert sidecar.parts() == NonModelBytes(gradients={"cpu": (SHARD - 3 + WHOLE) * FLOAT})
        weight.unsharded_accumulated_grad = None
        weight._unsharded_param.grad = torch.zeros(64, 64)
        weight.reshard()
        assert sidecar.parts() == NonModelBytes(gradients={"cpu": (SHARD - 3 + WHOLE) * FLOAT})
        assert model is not None


def with_an_empty_cell(value: object = None) -> FunctionType:
    def hook(*_: object) -> None:
        raise AssertionError(value)

    return FunctionType(hook.__code__, globals(), closure=(CellType(),))


class HookObject:
    """A hook that is no function."""

    def __call__(self, *_: object) -> None:
        raise AssertionError("foreign code ran")


@pytest.mark.parametrize("hook", [with_an_empty_cell(), HookObject(), print], ids=["empty cell", "object", "builtin"])
def test_other_hooks_that_run_after_a_load_lead_to_nothing(hook: Any) -> None:
    with attached() as sidecar:
        model = nn.Linear(64, 64, bias=False)
        add_load_hook(model, hook)
        assert sizes(sidecar) == {"cpu": WHOLE * FLOAT}
        state = vars(model)
        assert (tensors_of_shards(state, torch.Tensor), parameters_beside(state), accumulated_gradients(state)) == ([], [], [])
        assert sidecar.failures.count == 0


def test_a_class_of_the_same_name_that_is_not_torchs_is_left_alone() -> None:
    own = type("FSDPParam", (Sharded,), {"__module__": "mine"})
    module = nn.Linear(64, 64, bias=False)
    own(module, "weight")
    assert tensors_of_shards(vars(module), torch.Tensor) == []
