"""Hosts that watch their own objects: how long these live, what refers to them, and who calls their methods."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from collections import Counter
from typing import Any, ClassVar

import torch
from torch import nn

from host_unchanged.observing import bits, dies, references, scanned
from host_unchanged.table import program


def _loaded(build: Any = None) -> nn.Module:
    model: nn.Module = (build or (lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))))()
    torch.save(model.state_dict(), "source.pt")
    model.load_state_dict(torch.load("source.pt"))
    scanned()
    return model


@program
def a_dropped_model_dies() -> Any:
    model = _loaded()
    watched = [weakref.ref(each) for each in [*model.modules(), *model.parameters(), *model.buffers()]]
    del model
    return [dies(each) for each in watched]


@program
def a_dropped_tensor_and_storage_die() -> Any:
    torch.save({"weight": torch.ones(64)}, "source.pt")
    state = torch.load("source.pt")
    watched = [weakref.ref(state["weight"]), weakref.ref(state["weight"].untyped_storage())]
    scanned()
    del state
    return [dies(each) for each in watched]


@program
def references_stay_the_same() -> Any:
    model = _loaded()
    things: list[Any] = [model, *model.modules(), *model.parameters(), *model.buffers()]
    return references(things)


@program
def optimizers_and_pipelines_die() -> Any:
    model = _loaded()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    scanned()
    held = references([optimizer])
    watched = weakref.ref(optimizer)
    del optimizer
    return [held, dies(watched)]


@program
def finalizers_run_in_order() -> Any:
    finalized: list[str] = []

    class Finalized(nn.Linear):
        def __del__(self) -> None:
            finalized.append(str(self.in_features))

    models = [Finalized(size, 2) for size in (3, 4, 5)]
    scanned()
    while models:
        models.pop(0)
    dies(lambda: None if len(finalized) == 3 else finalized)
    return finalized


@program
def data_pointers_and_versions_stay() -> Any:
    model = _loaded()
    tensors = [*model.parameters(), *model.buffers()]
    before = [(each.data_ptr(), each._version, id(each.untyped_storage())) for each in tensors]
    scanned()
    after = [(each.data_ptr(), each._version, id(each.untyped_storage())) for each in tensors]
    return [one[:2] == other[:2] for one, other in zip(before, after, strict=True)]


@program
def random_numbers_are_the_same() -> Any:
    import random

    random.seed(3)
    _loaded()
    return [bits(torch.get_rng_state()), bits(repr(random.getstate()).encode()), bits(torch.rand(4))]


class Touched:
    """Counts calls of these classes' own methods: the host's thread makes some, nobody else may make any."""

    calls: ClassVar[Counter[str]] = Counter()

    @classmethod
    def note(cls, name: str) -> None:
        cls.calls[name] += 1


def _noting(*names: str) -> dict[str, Any]:
    def method(name: str) -> Any:
        def noting(self: Any, *arguments: Any) -> Any:
            Touched.note(name)
            return {"__len__": 0, "__hash__": 7, "__iter__": iter(())}.get(name, False)

        return noting

    return {name: method(name) for name in names}


def _raising(self: Any, name: str) -> Any:
    Touched.note(f"__getattr__ {name}")
    raise AttributeError(name)


Foreign: Any = type(
    "Foreign",
    (),
    {
        **_noting("__eq__", "__bool__", "__len__", "__hash__", "__iter__", "__contains__"),
        "__getattr__": _raising,
        "__class__": property(lambda self: Touched.note("__class__") or int),
        "__dict__": property(lambda self: Touched.note("__dict__") or {}),
        "__torch_function__": classmethod(lambda cls, *_: Touched.note("__torch_function__") or NotImplemented),
        "shape": property(lambda self: Touched.note("shape")),
    },
)


class ForeignModule(nn.Module):
    def __getattr__(self, name: str) -> Any:
        Touched.note(f"module __getattr__ {name}")
        return super().__getattr__(name)

    def __eq__(self, other: object) -> bool:
        Touched.note("module __eq__")
        return self is other

    def __hash__(self) -> int:
        Touched.note("module __hash__")
        return 11

    def __bool__(self) -> bool:
        Touched.note("module __bool__")
        return False

    def __len__(self) -> int:
        Touched.note("module __len__")
        return 0

    def named_parameters(self, *arguments: Any, **options: Any) -> Any:
        Touched.note("module named_parameters")
        return super().named_parameters(*arguments, **options)

    def named_modules(self, *arguments: Any, **options: Any) -> Any:
        Touched.note("module named_modules")
        return super().named_modules(*arguments, **options)

    @property
    def device(self) -> Any:
        Touched.note("module device")
        return torch.device("cpu")

    @property
    def config(self) -> Any:
        Touched.note("module config")
        return Foreign()


class DictModule(nn.Module):
    """A module whose `__dict__` is a property, as in lazy and remote modules."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        Touched.note("module __dict__")
        return object.__getattribute__(self, "__dict__") if False else super().__getattribute__("_hidden")

    def __init__(self) -> None:
        object.__setattr__(self, "_hidden", {})


class ForeignTensor(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        Touched.note(f"tensor {getattr(function, '__qualname__', function)}")
        return super().__torch_function__(function, types, arguments, options or {})  # type: ignore[no-untyped-call]

    def __getattribute__(self, name: str) -> Any:
        Touched.note(f"tensor attribute {name}")
        return super().__getattribute__(name)


def _touches() -> dict[str, int]:
    scanned(4)
    return dict(sorted(Touched.calls.items()))


@program
def foreign_modules_are_not_touched() -> Any:
    Touched.calls.clear()
    model: Any = nn.Sequential(nn.Linear(8, 8))
    model.add_module("foreign", ForeignModule())
    model.foreign.inner = nn.Linear(64, 64)
    model.foreign.register_buffer("scale", torch.ones(8))
    touched = _touches()
    model.to(torch.float64).float()
    return [touched, _touches()]


@program
def foreign_attributes_are_not_touched() -> Any:
    Touched.calls.clear()
    model: Any = nn.Linear(64, 64)
    for name in ("config", "hf_device_map", "peft_config", "model", "cache", "ds_tensor", "_hf_hook", "quant_state"):
        setattr(model, name, Foreign())
    model.listed = [Foreign()]
    model.told = {"one": Foreign(), 2: Foreign()}
    model.weight.quant_state = Foreign()
    return _touches()


@program
def foreign_tensors_are_not_touched() -> Any:
    Touched.calls.clear()
    model: Any = nn.Linear(64, 64)
    model.register_buffer("scale", torch.ones(64).as_subclass(ForeignTensor))
    model.weight = nn.Parameter(torch.ones(64, 64).as_subclass(ForeignTensor))
    model.plain = torch.ones(64).as_subclass(ForeignTensor)
    touched = _touches()
    model.double()
    return [touched, _touches()]


@program
def foreign_objects_in_memory_are_not_touched() -> Any:
    Touched.calls.clear()
    kept = [Foreign() for _ in range(10)]
    hidden = DictModule()
    _loaded()
    return [_touches(), len(kept), type(hidden).__name__]


@program
def a_class_that_refuses_everything() -> Any:
    class Refusing(nn.Linear):
        def __getattribute__(self, name: str) -> Any:
            if sys._getframe(1).f_globals.get("__name__", "").startswith("gpumodels"):
                Touched.note(f"gpumodels asks for {name}")
            return super().__getattribute__(name)

        def __reduce_ex__(self, protocol: Any) -> Any:
            Touched.note("__reduce_ex__")
            raise TypeError("not this one")

    Touched.calls.clear()
    model = Refusing(64, 64)
    model.load_state_dict(nn.Linear(64, 64).state_dict())
    return [_touches(), bits(model)]


@program
def copies_hold_nothing_more() -> Any:
    model = _loaded()
    copied = copy.deepcopy(model)
    scanned()
    return [
        [sorted(vars(each)) for each in copied.modules()],
        [sorted(vars(each)) for each in [*model.parameters(), *copied.parameters(), *model.buffers()]],
        [len(each._forward_hooks) + len(each._backward_hooks) for each in model.modules()],
        [each._backward_hooks is None for each in model.parameters()],
        references(list(copied.parameters())),
    ]


@program
def the_collector_is_left_alone() -> Any:
    _loaded()
    return [gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_stats()[2]["uncollectable"], len(gc.garbage)]
