"""Memory in plain attributes: found however it is kept, with no line of the host's classes run."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.tensors.extra_tensors import (
    MAX_DEPTH,
    MAX_ITEMS,
    NO_EXTRA_TENSORS,
    ExtraTensorFinder,
    ExtraTensors,
    offloaded_copy,
    offloaded_file,
)
from modules import Backbone, Block, a_fake, attached, distinct_bytes, the_only

FLOAT = 4
WIDTH = 256
Pair = namedtuple("Pair", ["first", "rest"])


class Stack:
    """A plain object that holds something."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers


def test_plain_tensor_attributes_count_with_their_module() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.freqs = torch.zeros(1000)
            self.pair = [torch.zeros(10), torch.zeros(20)]
            self.table = {"a": torch.zeros(30), "deep": {"b": torch.zeros(5000)}}

    with attached() as sidecar:
        model = nn.ModuleList([Rotary()])
        (found,) = sidecar.scan()
        assert found.bytes_by_device == {"cpu": (1000 + 10 + 20 + 30 + 5000) * FLOAT}
        assert found.parameters == 0
        model[0].freqs = torch.zeros(2000)
        (found,) = sidecar.scan()
        assert found.bytes_by_device == {"cpu": (2000 + 10 + 20 + 30 + 5000) * FLOAT}


BACKUPS: dict[str, Callable[[torch.Tensor], Any]] = {
    "dict": lambda tensor: {"weight": tensor},
    "dict of dicts": lambda tensor: {"a": {"weight": tensor}},
    "dict of lists": lambda tensor: {"a": [tensor, None, 3]},
    "list of dicts of tuples": lambda tensor: [{"a": (tensor, "cpu")}],
    "named tuples": lambda tensor: {"a": Pair(tensor, False)},
    "ordered dict of objects": lambda tensor: OrderedDict(a=Stack([tensor])),
    "object": lambda tensor: SimpleNamespace(pinned={"weight": tensor}),
}


@pytest.mark.parametrize("keep", BACKUPS.values(), ids=BACKUPS.keys())
def test_backups_in_plain_attributes_count_with_their_module(keep: Callable[[torch.Tensor], Any]) -> None:
    with attached() as sidecar:
        model: Any = nn.Linear(4, 4, bias=False)
        model.weight = nn.Parameter(a_fake((WIDTH, WIDTH), "cuda:0"), requires_grad=False)
        model.backup = keep(torch.zeros(1000, 900))
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cuda:0": WIDTH * WIDTH * 2, "cpu": 1000 * 900 * FLOAT}
        model.backup = None
        assert the_only(sidecar).bytes_by_device == {"cuda:0": WIDTH * WIDTH * 2}


def test_a_backup_that_is_the_weight_itself_counts_once() -> None:
    with attached() as sidecar:
        model: Any = nn.Linear(WIDTH, WIDTH)
        model.backup = {"": {"weight": model.weight, "bias": model.bias.data}}
        assert the_only(sidecar).bytes_by_device == {"cpu": distinct_bytes(model)}


def test_attributes_that_hold_each_other_end() -> None:
    with attached() as sidecar:
        model: Any = Backbone()
        endless: dict[str, Any] = {"tensor": torch.zeros(10)}
        endless["again"] = [endless]
        model.state = endless
        model.long = [[0] * 1000 for _ in range(1000)]
        assert the_only(sidecar).bytes_by_device == {"cpu": distinct_bytes(model) + 10 * FLOAT}


def test_no_foreign_code_runs_where_objects_are_looked_into() -> None:
    ran: list[str] = []

    class Nosy:
        def __init__(self) -> None:
            object.__setattr__(self, "blocks", [Block()])

        def __getattribute__(self, name: str) -> object:
            ran.append(name)
            return object.__getattribute__(self, name)

        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            ran.append("__dict__")
            return {}

        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            ran.append("__class__")
            return nn.Module

        def __eq__(self, other: object) -> bool:
            ran.append("__eq__")
            return True

        def __hash__(self) -> int:
            ran.append("__hash__")
            return 1

        def __len__(self) -> int:
            ran.append("__len__")
            return 0

        def __bool__(self) -> bool:
            ran.append("__bool__")
            return False

    class Key:
        def __hash__(self) -> int:
            ran.append("__hash__")
            return 1

    class NosyModule(nn.Module):
        def __getattr__(self, name: str) -> Any:
            ran.append(name)
            return super().__getattr__(name)

    with attached() as sidecar:
        model: Any = NosyModule()
        model.scale = nn.Parameter(torch.ones(4))
        model.kept = {Key(): Nosy()}
        ran.clear()
        found = the_only(sidecar)
        assert sidecar.scan() == [found]
        assert ran == []
        assert found.bytes_by_device == {"cpu": distinct_bytes(Block()) + 4 * FLOAT}
        assert sidecar.failures.count == 0


# Without a model around: what is found in a dictionary.


@pytest.fixture
def attributes() -> ExtraTensorFinder:
    return ExtraTensorFinder(torch)


def held(attributes: ExtraTensorFinder, **kept: Any) -> ExtraTensors:
    """What is found in a module that has these attributes."""
    module: Any = nn.Module()
    module.__dict__.update(kept)
    return attributes.of(module.__dict__)


def a_class_of(module: str, name: str, *bases: type) -> Any:
    """A class as a library has it."""
    return type(name, bases, {"__module__": module})


def test_a_module_of_torchs_own_tables_and_plain_values_holds_nothing_more(attributes: ExtraTensorFinder) -> None:
    assert held(attributes) is attributes.of(nn.Linear(2, 2).__dict__) is NO_EXTRA_TENSORS
    assert (
        held(attributes, width=3, name="a", scale=0.5, dtype=torch.half, size=torch.Size([2]), act=torch.relu) is NO_EXTRA_TENSORS
    )
    assert attributes.of({}) is NO_EXTRA_TENSORS


def test_what_is_found_has_the_attributes_name_and_what_is_a_cache_is_told_by_names(attributes: ExtraTensorFinder) -> None:
    kept, state, step = torch.zeros(1), {"kv_cache": torch.zeros(2), "other": torch.zeros(3)}, [torch.zeros(4)]
    found = held(attributes, kept=kept, state=state, past_key_values=step)
    assert [(name, tensor.numel(), is_cache) for name, tensor, is_cache in found.tensors] == [
        ("kept", 1, False),
        ("state", 2, True),
        ("state", 3, False),
        ("past_key_values", 4, True),
    ]


def test_modules_are_found_with_their_paths_and_whether_an_object_lies_between(attributes: ExtraTensorFinder) -> None:
    first, second, third = nn.Module(), nn.Module(), nn.Module()
    found = held(attributes, direct=first, parts={"down": [second]}, trainer=Stack([third]))
    assert [(path, id(module), through) for path, module, through in found.modules] == [
        ("direct", id(first), False),
        ("parts.down.0", id(second), False),
        ("trainer.layers.0", id(third), True),
    ]


def test_what_lies_too_deep_or_too_far_down_a_list_is_data_and_not_looked_at(attributes: ExtraTensorFinder) -> None:
    deep: Any = torch.zeros(1)
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    assert len(held(attributes, deep=deep).tensors) == 1
    assert held(attributes, deep=[deep]).tensors == []
    tail = torch.zeros(1)
    assert len(held(attributes, data=[0] * (MAX_ITEMS - 1) + [tail]).tensors) == 1
    assert held(attributes, data=[0] * MAX_ITEMS + [tail]).tensors == []
    assert held(attributes, data=[[0] * (MAX_ITEMS // 2), [0] * (MAX_ITEMS // 2), [tail]]).tensors == []


CLOSED: dict[str, Any] = {
    "an optimizer": a_class_of("mine", "Adam", a_class_of("theirs", "Optimizer")),
    "a trainer": a_class_of("mine", "Trainer"),
    "an error": a_class_of("mine", "Failed", RuntimeError),
    "a library's": a_class_of("accelerate.hooks", "AlignDevicesHook"),
    "the standard library's": SimpleNamespace,
}


@pytest.mark.parametrize("kind", CLOSED.values(), ids=CLOSED.keys())
def test_objects_that_lead_from_one_model_to_others_are_not_looked_into(attributes: ExtraTensorFinder, kind: Any) -> None:
    one = kind()
    one.model, one.weight = nn.Module(), torch.zeros(1)
    found = held(attributes, kept=one)
    assert (len(found.modules), len(found.tensors)) == ((1, 1) if kind is SimpleNamespace else (0, 0))


def test_libraries_own_holders_are_looked_into_where_they_keep_tensors_and_nowhere_else(attributes: ExtraTensorFinder) -> None:
    state: Any = a_class_of("bitsandbytes.functional", "QuantState")()
    state.absmax, state.unknown = torch.zeros(1), torch.zeros(2)
    state.state2 = a_class_of("bitsandbytes.functional", "QuantState")()
    state.state2.code = torch.zeros(3)
    found = held(attributes, quant_state=state)
    assert [tensor.numel() for _, tensor, _ in found.tensors] == [1, 3]


def test_what_transformers_caches_hold_is_a_cache_whatever_it_is_called(attributes: ExtraTensorFinder) -> None:
    layer: Any = a_class_of("transformers.cache_utils", "DynamicLayer")()
    layer.keys = torch.zeros(1)
    cache: Any = a_class_of("transformers.cache_utils", "DynamicCache")()
    cache.layers = [layer]
    assert [(name, is_cache) for name, _, is_cache in held(attributes, memory=cache).tensors] == [("memory", True)]


def test_an_object_in_which_nothing_was_found_is_opened_again_at_the_next_look(attributes: ExtraTensorFinder) -> None:
    config: Any = Stack([])
    assert held(attributes, config=config).tensors == []
    config.layers.append(torch.zeros(1))
    assert held(attributes, config=config).tensors == []  # in the same look
    attributes.begin_scan()
    assert len(held(attributes, config=config).tensors) == 1


def test_on_a_tensor_what_is_counted_elsewhere_is_left_out(attributes: ExtraTensorFinder) -> None:
    tensor: Any = torch.zeros(4)
    tensor.scale, tensor.main_grad, tensor.exp_avg, tensor.patches = (torch.zeros(size) for size in (1, 2, 3, 4))
    assert [inner.numel() for inner in attributes.tensors_on(tensor)] == [1]


def test_all_tensors_in_an_optimizers_state_are_found(attributes: ExtraTensorFinder) -> None:
    state = {0: {"step": 1, "exp_avg": torch.zeros(1), "blocks": [torch.zeros(2), (torch.zeros(3),)]}}
    assert [tensor.numel() for tensor in attributes.tensors_inside(state)] == [1, 2, 3]


def test_the_copy_that_accelerate_keeps_is_found_behind_its_hooks_and_prefixes() -> None:
    weights = {"layers.0.weight": torch.zeros(1)}
    loader: Any = a_class_of("accelerate.utils", "OffloadedWeightsLoader")()
    loader.state_dict = weights
    prefixed: Any = a_class_of("accelerate.utils", "PrefixedDataset")()
    prefixed.dataset, prefixed.prefix = loader, "layers.0."
    align: Any = a_class_of("accelerate.hooks", "AlignDevicesHook")()
    align.weights_map = prefixed
    sequence: Any = a_class_of("accelerate.hooks", "SequentialHook")()
    sequence.hooks = (a_class_of("accelerate.hooks", "ModelHook")(), align)
    for hook in (align, sequence):
        assert offloaded_copy({"_hf_hook": hook}, "weight") is weights["layers.0.weight"]
        assert offloaded_copy({"_hf_hook": hook}, "bias") is None
    assert offloaded_copy({}, "weight") is None
    align.weights_map = None
    assert offloaded_copy({"_hf_hook": align}, "weight") is None


def test_the_file_that_accelerate_reads_is_found_behind_its_hooks_and_prefixes() -> None:
    loader: Any = a_class_of("accelerate.utils", "OffloadedWeightsLoader")()
    loader.state_dict, loader.save_folder = {}, Path("/tmp/offload")
    loader.index = {
        "layers.0.weight": {"dtype": "float32", "shape": [1]},
        "layers.0.scale": {"safetensors_file": "/models/base/../base/one.safetensors", "weight_name": "other"},
        "layers.0.odd": 3,
    }
    prefixed: Any = a_class_of("accelerate.utils", "PrefixedDataset")()
    prefixed.dataset, prefixed.prefix = loader, "layers.0."
    align: Any = a_class_of("accelerate.hooks", "AlignDevicesHook")()
    align.weights_map = prefixed
    found = [offloaded_file({"_hf_hook": align}, name) for name in ("weight", "scale", "odd", "bias")]
    assert found == ["/tmp/offload/layers.0.weight.dat", "/models/base/one.safetensors", None, None]
    loader.save_folder = None
    assert offloaded_file({"_hf_hook": align}, "weight") is None
    assert offloaded_file({}, "weight") is None
