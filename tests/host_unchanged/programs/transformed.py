"""Hosts that trace, script and transform models, without dynamo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from host_unchanged.observing import bits, file_bits, outcome, plain, scanned
from host_unchanged.table import need, program

jit: Any = torch.jit


class Network(nn.Module):
    if TYPE_CHECKING:  # which torch.jit.script would read
        usage: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.register_buffer("usage", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.first(x))
        self.usage = self.usage * 0.9 + out.detach().mean(0) * 0.1
        return self.second(out)  # type: ignore[no-any-return]


def _model() -> Network:
    torch.manual_seed(5)
    torch.save(Network().state_dict(), "source.pt")
    model = Network()
    model.load_state_dict(torch.load("source.pt"))
    scanned()
    return model


@program
def scripted() -> Any:
    scripted: Any = torch.jit.script(_model())
    scanned()
    scripted.save("scripted.pt")
    loaded: Any = jit.load("scripted.pt")
    scanned()
    x = torch.ones(2, 8)
    return [bits(scripted(x)), bits(loaded(x)), plain(str(scripted.code)), plain(str(loaded.graph)), file_bits("scripted.pt")]


@program
def traced_and_frozen() -> Any:
    x = torch.ones(2, 8)
    traced: Any = jit.trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval(), x)
    frozen = torch.jit.freeze(traced)
    scanned()
    return [plain(str(traced.graph)), plain(str(frozen.graph)), bits(frozen(x)), [name for name, _ in traced.named_parameters()]]


@program
def fx_traced() -> Any:
    traced = torch.fx.symbolic_trace(_model())
    x = torch.ones(2, 8)
    return [traced.code, plain(str(traced.graph)), bits(traced(x)), bits(traced)]


@program
def traced_by_make_fx() -> Any:
    model = _model()

    def step(x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, dict(model.named_parameters()), (x,))  # type: ignore[no-any-return]

    x = torch.ones(2, 8)
    return [outcome(lambda mode=mode: make_fx(step, tracing_mode=mode)(x).code) for mode in ("real", "fake", "symbolic")]


@program
def function_transforms() -> Any:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    values: dict[str, torch.Tensor] = dict(model.named_parameters())
    scanned()

    def loss(given: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, given, (x,)).sum()  # type: ignore[no-any-return]

    x = torch.arange(16.0).reshape(2, 8)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(values, x)
    forward = torch.func.jvp(lambda given: loss(given, x), (values,), ({name: torch.ones_like(v) for name, v in values.items()},))
    stacked = torch.func.stack_module_state([nn.Linear(8, 8), nn.Linear(8, 8)])
    hessian = torch.func.hessian(lambda y: loss(values, y))(x[0])
    return [bits(each), bits(forward), bits(stacked), bits(hessian)]


@program
def checkpointed() -> Any:
    results = []
    for reentrant in (True, False):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
        x = torch.ones(2, 8, requires_grad=True)
        checkpoint(model, x, use_reentrant=reentrant).sum().backward()
        results.append([bits(x.grad), [bits(each.grad) for each in model.parameters()]])
    return results


@program
def training() -> Any:
    torch.use_deterministic_algorithms(True)
    try:
        model = _model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(torch.ones(2, 8)).sum()
            loss.backward()
            optimizer.step()
            scanned(1)
        return [bits(model), bits(optimizer.state_dict()), bits(loss), torch.are_deterministic_algorithms_enabled()]
    finally:
        torch.use_deterministic_algorithms(False)


@program
def anomalies_and_saved_tensors() -> Any:
    seen = []
    model = _model()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(list(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autograd.detect_anomaly(check_nan=True):
        model(torch.ones(2, 8)).sum().backward()
    return [seen, [bits(each.grad) for each in model.parameters()]]


@program
def quantized() -> Any:
    quantization: Any = need("torch.ao.quantization")

    model = quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), {nn.Linear}, dtype=torch.qint8)
    scanned()
    return [bits(model(torch.ones(2, 8))), plain(str(model))]


@program
def meta_fake_and_deferred() -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        empty = Network()
    scanned()
    empty.load_state_dict(_model().state_dict(), assign=True)
    with FakeTensorMode():
        fake = Network()
        shapes = [list(each.shape) for each in fake.parameters()]
    lazy = nn.LazyLinear(4)
    lazy(torch.ones(2, 8))
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    scanned()
    return [
        bits(empty),
        shapes,
        bits(lazy),
        bits(parametrized),
        bits(torch.nn.utils.stateless.functional_call(empty, {}, torch.ones(1, 8))),
    ]


@program
def hooks_of_the_hosts_own() -> Any:
    from torch.nn.modules import module

    seen: list[str] = []
    handles = [
        module.register_module_parameter_registration_hook(
            lambda parent, name, _: seen.append(f"{type(parent).__name__}.{name}")
        ),
        module.register_module_module_registration_hook(lambda parent, name, _: seen.append(f"{type(parent).__name__}/{name}")),
        module.register_module_forward_hook(lambda each, *_: seen.append(f"ran {type(each).__name__}")),
    ]
    first = [handle.id - handles[0].id for handle in handles[1:]]
    model = nn.Sequential(nn.Linear(8, 8))
    model(torch.ones(1, 8))
    for handle in handles:
        handle.remove()
    nn.Linear(2, 2)
    return [seen, first]
