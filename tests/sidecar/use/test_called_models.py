"""Which ways of running a model are seen as its use."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from watched_use import SECOND, Unet, Vae, Watched, X

Watch = Callable[[bool], Watched]


def test_values_that_change_and_moves_are_no_use(watch: Watch) -> None:
    watched, model = watch(True), Unet()
    watched.idle(1)
    with torch.no_grad():
        model.layers.get_parameter("0.weight").add_(1)
    model.load_state_dict(model.state_dict())
    model.half().float()
    assert watched.idle(20)["Unet"] == (20, "calls")


def test_the_calls_of_a_model_and_of_its_layers_count_for_it_alone(watch: Watch) -> None:
    watched, unet, vae = watch(True), Unet(), Vae()
    watched.idle(20)
    unet(X)
    assert watched.idle(11) == {"Unet": (10, "calls"), "Vae": (30, "calls")}
    vae.decode(X)
    assert watched.idle(11) == {"Unet": (21, "calls"), "Vae": (10, "calls")}
    unet.layers[1](X)
    unet.forward(X)
    assert watched.idle(11) == {"Unet": (10, "calls"), "Vae": (21, "calls")}


def test_a_state_that_is_called_for_a_model_uses_it(watch: Watch) -> None:
    watched, model = watch(True), Unet()
    watched.idle(20)
    torch.func.functional_call(model, dict(model.named_parameters()), (X,))
    assert watched.idle(11) == {"Unet": (10, "calls")}


def test_a_loop_of_calls_is_published_every_half_a_minute_and_exactly_once_it_is_over(watch: Watch) -> None:
    watched, model = watch(True), Unet()
    idle: list[int] = []
    for _ in range(100):
        model(X)
        idle += [seconds for seconds, _ in watched.idle(1).values()]
    assert idle == [*range(30), *range(30), *range(10)]
    assert watched.idle(10) == {"Unet": (10, "calls")}


def test_threads_use_the_models_that_they_call(watch: Watch) -> None:
    watched, unet, _vae = watch(True), Unet(), Vae()
    watched.idle(20)
    threads = [threading.Thread(target=unet, args=(X,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watched.idle(11) == {"Unet": (10, "calls"), "Vae": (30, "calls")}


def test_a_call_that_is_not_over_is_a_use_however_long_it_takes(watch: Watch) -> None:
    class Waiting(Unet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            entered.set()
            assert may_end.wait(10)
            return x

    entered, may_end = threading.Event(), threading.Event()
    watched, model = watch(True), Waiting()
    watched.idle(20)
    thread = threading.Thread(target=model, args=(X,))
    thread.start()
    try:
        assert entered.wait(10)
        assert watched.idle(200)["Waiting"][0] < 40
    finally:
        may_end.set()
        thread.join()
    assert watched.idle(100)["Waiting"][0] >= 90


def test_a_wrapper_that_is_called_uses_the_model_in_it(watch: Watch) -> None:
    watched, model = watch(True), Unet()
    wrapped = nn.DataParallel(model)
    watched.idle(20)
    wrapped(X)
    assert watched.idle(11) == {"Unet": (10, "calls")}


def test_a_replica_that_is_called_may_be_any_model(watch: Watch) -> None:
    watched, model = watch(True), nn.Linear(300, 300)
    watched.idle(20)
    replica = model._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    replica._parameters.update(model._parameters)
    watched.idle(20)
    replica(torch.zeros(1, 300))
    assert watched.idle(11)["Linear"] == (10, "calls")


def test_a_copy_is_another_model(watch: Watch) -> None:
    watched, model = watch(True), Unet()
    copied = copy.deepcopy(model)
    watched.idle(20)
    copied(X)
    watched.idle(11)
    idle = sorted(
        (watched.now_ns - (one.last_used_ns or 0)) // SECOND for one in watched.observer.models if one.class_name == "Unet"
    )
    assert idle == [10, 30]


def test_a_compiled_module_that_is_called_was_used(watch: Watch) -> None:
    torch._dynamo.reset()
    watched, compiled = watch(True), torch.compile(Unet(), backend="eager")
    compiled(X)
    watched.idle(20)
    compiled(X)
    assert watched.idle(11) == {"Unet": (10, "calls")}
    torch.compile(lambda x: compiled(x), backend="eager")
    assert watched.idle(1) == {}, "a compiled function may run it unseen"


def test_a_compiled_module_may_run_a_model_that_it_does_not_own(watch: Watch) -> None:
    class Pipeline(Unet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            decoded: torch.Tensor = vae(self.layers(x))
            return decoded

    torch._dynamo.reset()
    watched, vae, pipeline = watch(True), Vae(), Pipeline()
    pipeline.compile(backend="eager")
    pipeline(X)
    watched.idle(20)
    pipeline(X)
    idle = watched.idle(11)
    assert idle["Vae"] == (10, "calls")


def test_a_script_module_may_run_without_a_call_that_is_seen(watch: Watch) -> None:
    watched, model = watch(True), nn.Sequential(Unet())
    with pytest.warns(DeprecationWarning, match="jit.trace"):
        model.append(torch.jit.trace(nn.Linear(200, 200), X))  # type: ignore[no-untyped-call]
    assert watched.idle(20) == {}


def test_the_weights_of_a_traced_model_run_in_the_trace(watch: Watch) -> None:
    watched, model = watch(True), Unet()
    with pytest.warns(DeprecationWarning, match="jit.trace"):
        traced = torch.jit.trace(model, X)  # type: ignore[no-untyped-call]
    watched.idle(5)
    assert watched.idle(20) == {}
    assert traced is not model


def test_a_class_whose_call_goes_past_torchs_may_run_unseen(watch: Watch) -> None:
    class Direct(Unet):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return self.forward(x)

    class Checkpointed(Unet):
        def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = super().__call__(*inputs)
            return out

    watched, _models = watch(True), (Direct(), Checkpointed())
    assert watched.idle(20) == {"Checkpointed": (19, "calls")}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_quantized_layers_are_called_as_others_are(watch: Watch) -> None:
    watched = watch(True)
    quantized = nn.Sequential(torch.ao.nn.quantized.Linear(300, 300), torch.ao.nn.quantized.Linear(300, 300))  # type: ignore[no-untyped-call]
    watched.idle(20)
    quantized(torch.quantize_per_tensor(torch.zeros(1, 300), 0.1, 0, torch.quint8))
    assert watched.idle(11)["Sequential"] == (10, "calls")


def test_an_adapter_runs_with_its_base(watch: Watch) -> None:
    peft = pytest.importorskip("peft")
    watched = watch(True)
    base = nn.Sequential()
    base.add_module("unet", Unet())
    model = peft.get_peft_model(base, peft.LoraConfig(r=64, target_modules=["0", "1"]))
    watched.idle(20)
    model(X)
    idle = watched.idle(11)
    loras = [one for one in watched.observer.models if one.kind == "lora"]
    assert loras
    assert {(watched.now_ns - (one.last_used_ns or 0)) // SECOND for one in loras} == {10}
    assert set(idle.values()) == {(10, "calls")}


def test_what_dies_is_forgotten(watch: Watch) -> None:
    watched, kept = watch(True), Unet()
    watched.idle(20)
    called = watched.uses._called
    assert called is not None
    before = len(called._models_of), len(called._tracked)
    for _ in range(3):
        gone = Vae()
        gone(X)
        watched.idle(2)
        del gone
        watched.idle(2)
    assert (len(called._models_of), len(called._tracked)) == before
    assert watched.idle(1)["Unet"][0] == 32
    assert kept is not None
