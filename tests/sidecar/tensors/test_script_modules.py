"""What TorchScript keeps out of Python's sight: constants, attributes, packed weights of quantized modules."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.support.failures import Failures
from gpumodels.tensors.script_modules import ScriptModules
from modules import attached, distinct_bytes

FLOAT = 4
WIDTH = 256
TORCH: Any = torch
"""Torch where its own functions have no types."""


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(128, 128)
        self.second = nn.Linear(128, 128)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(x))
        return out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_module_counts_its_parameters_once() -> None:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(Pair()), stream)
    stream.seek(0)
    with attached() as sidecar:
        scripted = torch.jit.load(stream)  # type: ignore[no-untyped-call]
        (found,) = sidecar.scan()
        assert found.class_name == "Pair"
        assert found.bytes_by_device == {"cpu": distinct_bytes(scripted)}
        assert found.tree.names == ("", "first", "second")
        assert sidecar.failures.count == 0


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.table = torch.zeros(1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(x)) + self.table[0]
        return out


NET_BYTES = 2 * (WIDTH + 1) * WIDTH * FLOAT


def saved_and_loaded(scripted: Any) -> Any:
    stream = io.BytesIO()
    TORCH.jit.save(scripted, stream)
    stream.seek(0)
    return TORCH.jit.load(stream)


def traced() -> Any:
    return TORCH.jit.trace(Net(), torch.zeros(1, WIDTH))


def scripted() -> Any:
    return TORCH.jit.script(Net())


def frozen() -> Any:
    return TORCH.jit.freeze(TORCH.jit.script(Net().eval()))


SCRIPTS: dict[str, Callable[[], Any]] = {
    "scripted": scripted,
    "traced": traced,
    "frozen": frozen,
    "loaded": lambda: saved_and_loaded(scripted()),
    "loaded trace": lambda: saved_and_loaded(traced()),
    "loaded frozen": lambda: saved_and_loaded(frozen()),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_script_modules_of_every_kind_are_rows_with_their_bytes_and_their_classes_names(make: Callable[[], Any]) -> None:
    with attached() as sidecar:
        model = make()
        gc.collect()
        (found,) = sidecar.models()
        assert (found.name, found.class_name) == ("Net", "Net")
        assert NET_BYTES <= found.resident_bytes <= NET_BYTES + 1000 * FLOAT + 256
        assert sidecar.scan() == sidecar.scan()
        assert sidecar.failures.count == 0
        assert model is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_module_that_holds_a_script_module_is_one_row_with_it(make: Callable[[], Any]) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.Linear(WIDTH, WIDTH)
            self.script = make()

    with attached() as sidecar:
        model = Holder()
        gc.collect()
        (found,) = sidecar.models()
        assert found.class_name == "Holder"
        own = distinct_bytes(model.own)
        assert NET_BYTES + own <= found.resident_bytes <= NET_BYTES + own + 1000 * FLOAT + 256
        assert sidecar.failures.count == 0


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.blocks(x)
        return out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("scanned_before", [False, True])
def test_what_a_script_module_was_made_from_is_no_row_beside_the_module_that_holds_it(scanned_before: bool) -> None:
    with attached() as sidecar:
        script = TORCH.jit.script(Blocks())
        gc.collect()
        if scanned_before:
            assert [(found.class_name, found.bytes_by_device) for found in sidecar.scan()] == [("Blocks", {"cpu": NET_BYTES})]
        model = nn.ModuleList([script, nn.Linear(WIDTH, WIDTH)])
        (found,) = sidecar.models()
        assert (found.class_name, found.resident_bytes) == ("ModuleList", distinct_bytes(model))
        assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
        del model
        (found,) = sidecar.models()
        assert (found.class_name, found.resident_bytes) == ("Blocks", NET_BYTES)
        assert sidecar.failures.count == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_only_the_original_of_a_script_module_still_holds_is_a_row() -> None:
    with attached() as sidecar:
        original = Blocks()
        model = nn.ModuleList([TORCH.jit.script(original)])
        original.blocks[0] = nn.Linear(WIDTH, 2 * WIDTH)
        rows = {found.class_name: found.resident_bytes for found in sidecar.models()}
        assert rows == {"ModuleList": NET_BYTES, "Blocks": distinct_bytes(original.blocks[0])}
        assert model is not None


def packed_bytes(features: int, outputs: int) -> int:
    """An int8 weight and a bias in float32."""
    return features * outputs + outputs * FLOAT


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_of_dynamically_quantized_modules_count() -> None:
    with attached() as sidecar:
        model = nn.ModuleDict({"linear": nn.Linear(WIDTH, 512), "lstm": nn.LSTM(WIDTH, 128, num_layers=2)})
        model = TORCH.ao.quantization.quantize_dynamic(model, {nn.Linear, nn.LSTM}, inplace=True)
        gc.collect()
        (found,) = sidecar.scan()
        gates = 4 * 128
        lstm = packed_bytes(WIDTH, gates) + 3 * packed_bytes(128, gates)
        assert found.bytes_by_device == {"cpu": packed_bytes(WIDTH, 512) + lstm}
        assert found.dtypes["qint8"] == WIDTH * 512 + (WIDTH + 3 * 128) * gates
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sidecar.scanner._reader._scripts, "unpacked", lambda _: pytest.fail("unpacked twice"))
            assert sidecar.scan(afresh=True)[0].bytes_by_device == found.bytes_by_device
        assert sidecar.failures.count == 0
        assert model is not None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16], ids=str)
def test_packed_weights_count_in_script_modules_too(dtype: torch.dtype) -> None:
    with attached() as sidecar:
        quantized = TORCH.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(WIDTH, 512)), {nn.Linear}, dtype=dtype)
        model = saved_and_loaded(TORCH.jit.script(quantized))
        del quantized
        gc.collect()
        (found,) = sidecar.scan()
        least = WIDTH * 512 * (1 if dtype is torch.qint8 else 2)
        assert least <= found.bytes_by_device["cpu"] <= least + 512 * FLOAT + 512
        assert model is not None


@pytest.mark.filterwarnings("ignore")
def test_statically_quantized_convolutions_count() -> None:
    with attached() as sidecar:
        model = nn.Sequential(TORCH.ao.nn.quantized.Conv2d(32, 64, 3))
        (found,) = sidecar.scan()
        assert found.bytes_by_device["cpu"] >= 32 * 64 * 9 + 64 * FLOAT
        assert sidecar.failures.count == 0
        assert model is not None


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_torchscripts_modules_are_its_own(failures: Failures) -> None:
    scripts = ScriptModules(torch, failures)
    assert scripts.has(type(scripted()))
    assert not scripts.has(Net)
    assert not scripts.has(nn.ModuleList)


def test_a_module_that_is_not_filled_yet_has_no_class_and_no_tensors(failures: Failures) -> None:
    scripts = ScriptModules(torch, failures)
    assert (scripts.class_name({}), scripts.tensors({})) == (None, [])
    assert scripts.class_name({"_name": "Net"}) == "Net"
    assert failures.count == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_constants_and_attributes_are_given_and_parameters_and_buffers_are_not(failures: Failures) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10))
            self.register_buffer("running", torch.zeros(20))
            self.table = torch.zeros(30)
            self.parts = [torch.zeros(40)]

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
            return x * self.weight, x * self.running, x * self.table, x * self.parts[0]  # type: ignore[operator]

    scripts = ScriptModules(torch, failures)
    found = scripts.tensors(TORCH.jit.script(Both()).__dict__)
    assert sorted((name, tensor.numel()) for name, tensor in found) == [("parts", 40), ("table", 30)]
    constant = scripts.tensors(TORCH.jit.freeze(TORCH.jit.script(Both().eval())).__dict__)
    assert sorted(tensor.numel() for _, tensor in constant) == [10, 20, 30, 40]
    assert failures.count == 0


def a_script_object(name: str, state: Callable[[], Any]) -> Any:
    """Packed weights of this class."""
    return SimpleNamespace(
        _type=lambda: SimpleNamespace(qualified_name=lambda: name),
        _has_method=lambda _: True,
        _get_method=lambda _: state,
    )


def test_objects_of_classes_that_are_not_torchs_are_not_asked_for_their_state(failures: Failures) -> None:
    scripts = ScriptModules(torch, failures)
    theirs = a_script_object("__torch__.torch.classes.mine.Engine", lambda: pytest.fail("foreign code ran"))
    assert scripts.unpacked(theirs) is None
    assert failures.count == 0


def test_packed_weights_are_what_their_state_is_made_of(failures: Failures) -> None:
    scripts = ScriptModules(torch, failures)
    state = (torch.zeros(2, 2), [torch.zeros(3), None], {"a": (torch.zeros(4), 5)})
    conv = scripts.unpacked(a_script_object("__torch__.torch.classes.quantized.Conv2dPackedParamsBase", lambda: state))
    linear = scripts.unpacked(a_script_object("__torch__.torch.classes.quantized.LinearPackedParamsBase", lambda: state))
    assert conv is not None
    assert linear is not None
    assert [tensor.nbytes for tensor in conv] == [16, 12, 16]
    assert [tensor.nbytes for tensor in linear] == [8, 12, 16]  # its weight is packed as float16


def test_packed_weights_that_raise_have_a_size_that_nobody_knows(failures: Failures) -> None:
    def fails() -> Any:
        raise RuntimeError("not packed yet")

    scripts = ScriptModules(torch, failures)
    assert scripts.unpacked(a_script_object("__torch__.torch.classes.quantized.LinearPackedParamsBase", fails)) is None
    assert failures.count == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_layers_of_a_traced_model_are_those_of_the_model() -> None:
    with attached() as sidecar:
        model = traced()
        gc.collect()
        (found,) = sidecar.scan()
        assert found.tree.names == ("", "first", "second")
        assert [found.tree.class_names[number] for number in found.tree.classes] == ["Net", "Linear", "Linear"]
        assert model is not None
