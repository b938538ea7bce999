"""One module as plain data: read without its code, and again only when something of it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.support.weak_table import KeyedRef, WeakTable
from gpumodels.tensors.module_reader import ModuleReader, ModuleReading
from gpumodels.tensors.tensor_storages import TensorReader
from modules import Backbone, Block, attached, distinct_bytes

FLOAT = 4


def test_a_tensor_that_nobody_can_read_is_counted_as_unread_beside_its_model() -> None:
    with attached() as sidecar:
        model = Backbone()
        model.register_buffer("odd", torch.zeros(4))
        with pytest.MonkeyPatch.context() as patch:
            tensor_reader = sidecar.scanner._reader._tensor_reader

            def unable(read: Callable[..., Any]) -> Callable[..., Any]:
                def reads(*arguments: Any) -> Any:
                    if arguments[-1] == "odd":
                        raise NotImplementedError
                    return read(*arguments)

                return reads

            patch.setattr(tensor_reader, "_storage_of", unable(tensor_reader._storage_of))
            patch.setattr(tensor_reader, "plain_storage", unable(tensor_reader.plain_storage))
            (found,) = sidecar.models()
        assert found.resident_bytes == distinct_bytes(model) - 4 * FLOAT
        assert found.unread_tensors == 1


def test_a_module_whose_init_has_not_run_is_passed_over() -> None:
    with attached() as sidecar:
        unfinished = nn.Linear.__new__(nn.Linear)
        sidecar.registry.add(unfinished)
        assert sidecar.scan() == []
        assert sidecar.failures.count == 0


def test_a_module_that_cannot_be_read_is_counted_and_hides_no_other() -> None:
    with attached() as sidecar:
        broken, good = Block(), Backbone()
        broken.__dict__["_parameters"] = 5
        assert [one.class_name for one in sidecar.scan() if one.class_name == "Backbone"] == ["Backbone"]
        assert sidecar.failures.count > 0
        assert good is not None


def test_no_foreign_code_runs_while_a_module_is_read() -> None:
    ran: list[str] = []

    class Nosy(nn.Linear):
        def __getattribute__(self, name: str) -> object:
            if name != "__dict__":
                ran.append(name)
            return super().__getattribute__(name)

        def __eq__(self, other: object) -> bool:
            ran.append("__eq__")
            return self is other

        def __hash__(self) -> int:
            ran.append("__hash__")
            return 1

    with attached() as sidecar:
        model = nn.ModuleList([Nosy(4, 4)])
        ran.clear()
        assert len(sidecar.scan()) == 1
        assert ran == []
        assert len(model) == 1


# Without a scan: one module, read and read again.


class Reading:
    """A reader, and what one who asks it keeps of its answers."""

    def __init__(self) -> None:
        self.failures = Failures()
        self.tracker = OriginTracker(torch)
        self.reader = ModuleReader(TensorReader(torch, self.tracker, self.failures))
        self.table: WeakTable[int] = WeakTable()
        self.added: list[Any] = []

    def ref(self, module: nn.Module) -> KeyedRef:
        return self.table.ref(id(module)) or self.table.put(module, 0)

    def of(self, module: nn.Module, *known: nn.Module) -> ModuleReading:
        self.reader.begin_scan()
        found = self.reader.read(self.ref(module), {id(one): None for one in known}, self.added.append)
        assert found is not None
        return found

    def has_changed(self, module: nn.Module, reading: ModuleReading) -> bool:
        self.reader.begin_scan()
        changed = self.reader.changed([self.ref(module)], {id(module): reading})
        assert changed in ([], [self.ref(module)])
        return bool(changed)


@pytest.fixture
def reading() -> Iterator[Reading]:
    one = Reading()
    yield one
    one.tracker.close()


class Comparing(nn.Linear):
    """To hash or compare it would run code of its own."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("foreign code ran")

    def __hash__(self) -> int:
        raise AssertionError("foreign code ran")


def test_what_a_module_itself_holds_is_read_and_not_what_is_below(reading: Reading) -> None:
    model: Any = nn.BatchNorm1d(8)
    model.inner, model.nothing = nn.Linear(4, 4), None
    model.register_parameter("none", None)
    found = reading.of(model, model.inner)
    assert (found.class_name, found.children) == ("BatchNorm1d", (("inner", id(model.inner)),))
    assert [(one.tensor, one.dtype, one.size_bytes, one.key[0]) for one in found.storages] == [
        ("weight", "float32", 8 * FLOAT, "cpu"),
        ("bias", "float32", 8 * FLOAT, "cpu"),
        ("running_mean", "float32", 8 * FLOAT, "cpu"),
        ("running_var", "float32", 8 * FLOAT, "cpu"),
        ("num_batches_tracked", "int64", 8, "cpu"),
    ]
    assert found.parameters == ((id(model.weight), 8), (id(model.bias), 8))
    assert (found.unread, found.unregistered, found.caches, reading.added) == (0, (), (), [])


def test_modules_that_are_not_known_are_told_of(reading: Reading) -> None:
    model: Any = nn.Module()
    model.known, model.unknown, model.kept = nn.Module(), nn.Module(), [nn.Module()]
    reading.of(model, model.known)
    assert [id(one) for one in reading.added] == [id(model.unknown), id(model.kept[0])]


def test_modules_in_attributes_stand_aside_each_once_and_itself_never(reading: Reading) -> None:
    model: Any = nn.Module()
    model.child = nn.Module()
    other = nn.Module()
    model.kept, model.list, model.me = [other, model.child], [other], [model]
    assert [
        (unregistered.path, unregistered.key, unregistered.through_object) for unregistered in reading.of(model).unregistered
    ] == [("kept.0", id(other), False)]


class InSlots(nn.Module):
    __slots__ = ("empty", "table")

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(4, 4)
        self.table = torch.zeros(16)


class Listing(nn.Module, list[Any]):
    """A module that is a list as well."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("foreign code ran")

    __hash__ = nn.Module.__hash__  # type: ignore[assignment]


class Mapped(nn.Module, dict[str, Any]):
    """A module that is a dict as well."""

    def values(self) -> Any:
        raise AssertionError("foreign code ran")

    __hash__ = nn.Module.__hash__  # type: ignore[assignment]


def test_what_a_module_holds_in_slots_is_read_and_seen_to_change(reading: Reading) -> None:
    model = InSlots()
    before = reading.of(model)
    assert [(storage.tensor, storage.size_bytes) for storage in before.storages] == [("table", 16 * FLOAT)]
    assert not reading.has_changed(model, before)
    model.table = torch.zeros(32)
    assert reading.has_changed(model, before)
    assert reading.failures.count == 0


@pytest.mark.parametrize("kind", [Listing, Mapped])
def test_the_items_of_a_module_that_is_a_list_or_a_dict_are_parts_of_it(kind: type[Any]) -> None:
    with attached() as sidecar:
        model, item, table = kind(), Backbone(), torch.zeros(64, 64)
        model.own = nn.Linear(16, 16)
        (list.extend(model, [item, table]) if kind is Listing else dict.update(model, {"item": item, "table": table}))
        (found,) = sidecar.models()
        assert found.class_name == kind.__name__
        assert found.resident_bytes == distinct_bytes(model.own, item) + 64 * 64 * FLOAT
        assert sidecar.failures.count == 0


CHANGES: dict[str, Callable[[Any], object]] = {
    "data": lambda model: setattr(model.weight, "data", torch.zeros(4, 4)),
    "dtype": lambda model: model.half(),
    "parameter": lambda model: setattr(model, "weight", nn.Parameter(torch.zeros(4, 4))),
    "size": lambda model: model.weight.untyped_storage().resize_(0),
    "child": lambda model: model.add_module("more", nn.Module()),
    "buffer": lambda model: model.register_buffer("more", torch.zeros(1)),
    "attribute": lambda model: setattr(model, "kept", [torch.zeros(1)]),
    "module in an attribute": lambda model: setattr(model, "kept", [nn.Module()]),
    "attribute of a parameter": lambda model: setattr(model.weight, "scale", torch.zeros(1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_what_it_holds_is_seen(reading: Reading, change: Callable[[Any], object]) -> None:
    model = nn.Linear(4, 4)
    before = reading.of(model)
    assert not reading.has_changed(model, before)
    change(model)
    assert reading.has_changed(model, before)
    after = reading.of(model)
    assert not after.is_unchanged_from(before)
    assert not reading.has_changed(model, after)


def test_values_and_gradients_are_no_change(reading: Reading) -> None:
    model = Comparing(4, 4)
    before = reading.of(model)
    model(torch.ones(1, 4)).sum().backward()
    with torch.no_grad():
        model.weight.add_(1.0)
    model.width = 5  # type: ignore[assignment]
    assert not reading.has_changed(model, before)
    again = reading.of(model)._replace(ref=WeakTable[int]().put(model, 0))
    assert again.is_unchanged_from(before)


def test_another_module_under_the_same_id_has_changed_and_one_that_died_is_left_out(reading: Reading) -> None:
    model, other = nn.Linear(4, 4), nn.Linear(4, 4)
    ref = reading.ref(model)
    mistaken = reading.of(other)._replace(stamp=reading.of(model).stamp)
    assert reading.reader.changed([ref], {id(model): mistaken}) == [ref]
    del model
    assert ref() is None
    assert reading.reader.changed([ref], {}) == []
    assert reading.reader.read(ref, {}, reading.added.append) is None


def test_a_module_of_which_a_part_can_not_be_read_is_counted_and_keeps_its_rest(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> Any:
        raise RuntimeError("ours")

    model = nn.Linear(4, 4)
    model.kept = [torch.zeros(1)]  # type: ignore[assignment]
    before = reading.of(model)
    monkeypatch.setattr(reading.reader._tensor_reader.attributes, "of", fails)
    found = reading.of(model)
    assert (found.class_name, found.unread) == ("Linear", before.unread + 1)
    assert reading.failures.count == 1


def test_what_libraries_say_by_their_classes_is_known(reading: Reading) -> None:
    mixin, lightning, sharded = (type(name, (nn.Module,), {}) for name in ("ModelMixin", "LightningModule", "FSDPModule"))
    linear = nn.Linear(2, 2)
    linear.__class__ = type("FSDPLinear", (sharded, nn.Linear), {})
    models = [nn.Module(), type("UNet", (mixin,), {})(), type("Task", (lightning,), {})(), linear]
    found = [reading.of(model) for model in models]
    assert [one.class_name for one in found] == ["Module", "UNet", "Task", "Linear"]
    assert [one.has_identity for one in found] == [False, True, False, False]
    assert [one.is_lightning for one in found] == [False, False, True, False]


def test_whose_forward_a_module_stands_in_for_is_known(reading: Reading) -> None:
    adapted, lora = nn.Linear(4, 4), nn.Linear(4, 4)
    lora.org_forward = adapted.forward  # type: ignore[assignment]
    assert reading.of(lora).attached_to == id(adapted)
    assert reading.of(adapted).attached_to is None
    lora.org_forward = len  # type: ignore[assignment]
    assert reading.of(lora).attached_to is None
