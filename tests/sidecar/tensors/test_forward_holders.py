"""LoRAs whose loaders keep them in closures, partials and hook objects around the `forward` of a model's modules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels_shared.schema import Model
from modules import Attached, Backbone, attached, distinct_bytes

RANK = 16
Pair = tuple[torch.Tensor, torch.Tensor]


class LoRAAdapter:
    """As ComfyUI's: no module, its tensors in a tuple."""

    def __init__(self, weights: tuple[Any, ...]) -> None:
        self.weights = weights


class BypassForwardHook:
    """As ComfyUI's: its method replaces the module's."""

    def __init__(self, module: nn.Module, adapter: LoRAAdapter) -> None:
        self.module, self.adapter = module, adapter
        self.original_forward = module.forward
        module.forward = self._bypass_forward

    def _bypass_forward(self, x: torch.Tensor) -> Any:
        up, down = self.adapter.weights[:2]
        return self.original_forward(x) + x @ down.T @ up.T


class LoRALinear(nn.Module):
    """A module of its own, that no other holds."""

    def __init__(self, down: torch.Tensor, up: torch.Tensor) -> None:
        super().__init__()
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)


def by_hook_object(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    BypassForwardHook(module, LoRAAdapter((up, down, 8.0)))


def by_closure(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    old = module.forward
    module.forward = lambda x: old(x) + x @ down.T @ up.T


def by_closure_over_modules(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    old = module.forward
    lora_down, lora_up = nn.Linear(256, RANK, bias=False), nn.Linear(RANK, 256, bias=False)
    lora_down.weight, lora_up.weight = nn.Parameter(down), nn.Parameter(up)
    module.forward = lambda x: old(x) + lora_up(lora_down(x))


def by_closure_over_one_module(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    old, layer = module.forward, LoRALinear(down, up)
    module.forward = lambda x: old(x) + x @ layer.down.T @ layer.up.T


def by_closure_over_a_dictionary(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    old = module.forward
    weights = {"lora_A.weight": down, "lora_B.weight": up}
    module.forward = lambda x: old(x) + x @ weights["lora_A.weight"].T @ weights["lora_B.weight"].T


def _with_lora(old: Any, down: torch.Tensor, up: torch.Tensor, x: torch.Tensor) -> Any:
    return old(x) + x @ down.T @ up.T


def by_partial(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    module.forward = partial(_with_lora, module.forward, down, up=up)


def by_default_arguments(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    old = module.forward

    def forward(x: torch.Tensor, down: torch.Tensor = down, *, up: torch.Tensor = up) -> Any:
        return old(x) + x @ down.T @ up.T

    module.forward = forward


class CallableLora:
    """An object that is called in the place of `forward`."""

    def __init__(self, old: Any, down: torch.Tensor, up: torch.Tensor) -> None:
        self.old, self.down, self.up = old, down, up

    def __call__(self, x: torch.Tensor) -> Any:
        return self.old(x) + x @ self.down.T @ self.up.T


def by_callable_object(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    module.forward = CallableLora(module.forward, down, up)


def by_bound_function(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    old = module.forward

    def forward(_self: nn.Module, x: torch.Tensor, lora_down: torch.Tensor = down, lora_up: torch.Tensor = up) -> Any:
        return old(x) + x @ lora_down.T @ lora_up.T

    module.forward = MethodType(forward, module)


def by_wrapping_function(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    old = module.forward

    @wraps(old)  # which gives it torch's `__module__`
    def forward(*args: torch.Tensor) -> Any:
        return old(*args) + args[0] @ down.T @ up.T

    module.forward = forward


def by_decorated_function(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    by_closure(module, down, up)
    module.forward = torch.no_grad()(module.forward)


def by_forward_hook(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    module.register_forward_hook(lambda _module, args, output: output + args[0] @ down.T @ up.T)


def by_pre_hook(module: nn.Module, down: torch.Tensor, up: torch.Tensor) -> None:
    module.register_forward_pre_hook(lambda _module, args: (args[0] + args[0] @ down.T @ up.T,))


LOADERS: list[Callable[[nn.Module, torch.Tensor, torch.Tensor], None]] = [
    by_hook_object,
    by_closure,
    by_closure_over_modules,
    by_closure_over_one_module,
    by_closure_over_a_dictionary,
    by_partial,
    by_default_arguments,
    by_callable_object,
    by_bound_function,
    by_wrapping_function,
    by_decorated_function,
    by_forward_hook,
    by_pre_hook,
]


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if type(module) is nn.Linear]


def a_lora(path: Path) -> Path:
    tensors = {}
    for number in range(6):
        tensors[f"{number}.lora_down.weight"] = torch.randn(RANK, 256)
        tensors[f"{number}.lora_up.weight"] = torch.randn(256, RANK)
    save_file(tensors, path)
    return path


def pairs_of(path: Path) -> list[Pair]:
    tensors = load_file(path)
    return [(tensors[f"{number}.lora_down.weight"], tensors[f"{number}.lora_up.weight"]) for number in range(6)]


LORA_BYTES = 6 * 2 * RANK * 256 * 4


def shown(sidecar: Attached) -> list[Model]:
    models = list(sidecar.models())
    assert sidecar.failures.count == 0
    return models


@pytest.mark.parametrize("load", LOADERS)
def test_a_lora_around_forward_is_a_row_under_its_base(
    load: Callable[[nn.Module, torch.Tensor, torch.Tensor], None], tmp_path: Path
) -> None:
    path = a_lora(tmp_path / "style_v1.safetensors")
    with attached() as sidecar:
        base = Backbone()
        (alone,) = shown(sidecar)
        for module, (down, up) in zip(linears(base), pairs_of(path), strict=True):
            load(module, down, up)
        model, lora = shown(sidecar)
        assert (
            (model.resident_bytes, model.parameters) == (alone.resident_bytes, alone.parameters) == (distinct_bytes(base), 394752)
        )
        assert (lora.name, lora.kind, lora.parent) == ("style_v1", "lora", model.id)
        assert (lora.resident_bytes, lora.parameters) == (LORA_BYTES, LORA_BYTES // 4)
        assert model.adapters == (lora.id,)
        assert [Path(file).name for file in lora.files] == ["style_v1.safetensors"]
        for module in linears(base):
            module.__dict__.pop("forward", None)
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        del down, up, module
        assert [(one.name, one.adapters) for one in shown(sidecar)] == [(model.name, ())]


def test_two_loras_on_top_of_each_other_are_two_rows(tmp_path: Path) -> None:
    first, second = a_lora(tmp_path / "first_v1.safetensors"), a_lora(tmp_path / "second_v1.safetensors")
    with attached() as sidecar:
        base = Backbone()
        for path, load in ((first, by_hook_object), (second, by_closure)):
            for module, pair in zip(linears(base), pairs_of(path), strict=True):
                load(module, *pair)
        model, *loras = shown(sidecar)
        assert [(one.name, one.resident_bytes) for one in loras] == [("first_v1", LORA_BYTES), ("second_v1", LORA_BYTES)]
        assert {one.parent for one in loras} == {model.id}


def test_a_lora_without_a_known_file_is_a_row_without_a_name() -> None:
    with attached() as sidecar:
        base = Backbone()
        for module in linears(base):
            by_closure(module, torch.zeros(RANK, 256), torch.zeros(256, RANK))
        _, lora = shown(sidecar)
        assert (lora.name, lora.confidence, lora.resident_bytes) == ("LoRA", 0.0, LORA_BYTES)


def test_another_lora_in_the_same_hook_objects_is_noticed(tmp_path: Path) -> None:
    path = a_lora(tmp_path / "second_v1.safetensors")
    with attached() as sidecar:
        base = Backbone()
        hooks = [
            BypassForwardHook(module, LoRAAdapter((torch.zeros(256, RANK), torch.zeros(RANK, 256)))) for module in linears(base)
        ]
        assert [one.name for one in shown(sidecar)] == ["Backbone", "LoRA"]
        for hook, (down, up) in zip(hooks, pairs_of(path), strict=True):
            hook.adapter.weights = (up, down)
        assert [one.name for one in shown(sidecar)] == ["Backbone", "second_v1"]


def test_what_the_model_holds_itself_is_no_adapter() -> None:
    class WithLora(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lora_down, self.lora_up = nn.Parameter(torch.zeros(64, 256)), nn.Parameter(torch.zeros(256, 64))
            self.__dict__["forward"] = partial(_with_lora, None, self.lora_down, self.lora_up)

    with attached() as sidecar:
        model = WithLora()
        (one,) = shown(sidecar)
        assert one.resident_bytes == distinct_bytes(model)


def test_what_hooks_collect_belongs_to_no_model_and_is_told_by_their_name() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.outputs: list[torch.Tensor] = []

        def __call__(self, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            self.outputs.append(output.detach())

    with attached() as sidecar:
        model = Backbone()
        recorder = Recorder()
        for module in linears(model):
            module.register_forward_hook(recorder)
        linears(model)[0](torch.zeros(64, 256))
        (one,) = shown(sidecar)
        assert one.resident_bytes == distinct_bytes(model)
        assert sidecar.parts().held_by_functions == {"cpu": {"Recorder": 64 * 256 * 4}}
        recorder.outputs.clear()
        assert sidecar.parts().held_by_functions == {}


def test_another_model_in_a_hook_stays_a_model() -> None:
    with attached() as sidecar:
        base, control = Backbone(), Backbone(2)
        base.register_forward_hook(lambda _module, _args, output: (output, control))
        models = shown(sidecar)
        assert [(one.resident_bytes, one.parent) for one in models] == [
            (distinct_bytes(base), None),
            (distinct_bytes(control), None),
        ]


def test_no_code_of_a_hook_object_runs() -> None:
    class Alarmed:
        def __call__(self, *_: Any) -> None:
            raise AssertionError

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    with attached() as sidecar:
        model = Backbone()
        alarmed = Alarmed()
        object.__getattribute__(alarmed, "__dict__")["lora_weight"] = torch.zeros(64, 256)
        linears(model)[0].register_forward_hook(alarmed)
        assert [one.kind for one in shown(sidecar)] == ["model", "lora"]
