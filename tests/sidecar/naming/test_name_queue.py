"""Models are seen however long naming takes, and names are found in order, once each."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gpumodels.models.allocators import TorchDevices
from gpumodels.naming.model_names import ModelNames
from gpumodels.observer import Observer
from gpumodels.provenance.checkpoint_values import CheckpointValues
from gpumodels.support.failures import Failures
from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.schema import Model
from modules import Backbone, attached
from work import counted


class Small(Backbone):
    pass


class Watched:
    """An observer on a fake clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.paused = 0
        self.observer = Observer(TorchDevices(torch), lambda: None, self._pause, Failures(), lambda: self.now)

    def update(self, after_seconds: float = 1.0) -> dict[str, Model]:
        """The models by class, with or without names, after so many seconds."""
        self.now += after_seconds
        self.observer.update()
        return {model.class_name: model for model in self.observer.models}

    def named(self) -> dict[str, Model]:
        """The models by class, once all names are found that there is time for."""
        self.observer.find_names()
        return {model.class_name: model for model in self.observer.models}

    def _pause(self) -> None:
        self.paused += 1


@pytest.fixture
def watched() -> Iterator[Watched]:
    gc.collect()
    watched = Watched()
    watched.observer.attach_when_possible()
    watched.update()
    watched.named()
    try:
        yield watched
    finally:
        watched.observer.detach()
        assert watched.observer._failures.count == 0


@pytest.fixture
def found_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The classes of the models that were identified, in order."""
    classes: list[str] = []
    find_out = ModelNames.find_out

    def noted(self: ModelNames, found, core) -> None:  # type: ignore[no-untyped-def]
        classes.append(found.class_name)
        find_out(self, found, core)

    monkeypatch.setattr(ModelNames, "find_out", noted)
    return classes


def test_a_model_is_published_before_its_name_is_found_under_the_name_that_it_states(watched: Watched, tmp_path: Path) -> None:
    save_file(Backbone().state_dict(), tmp_path / "chosen.safetensors")
    model = Backbone()
    model.__dict__["model_name"] = "my-tune"
    model.load_state_dict(load_file(tmp_path / "chosen.safetensors"))
    pending = watched.update()["Backbone"]
    assert (pending.name, pending.name_source, pending.confidence) == ("my-tune", NameSource.PENDING, 0.0)
    assert (pending.files, pending.candidates, pending.metadata) == ((), (), {})
    known = watched.named()["Backbone"]
    assert (known.name, known.name_source) == ("chosen", "state dict")
    assert (known.id, known.bytes_by_device, known.tree) == (pending.id, pending.bytes_by_device, pending.tree)


def test_a_known_name_stays_while_the_model_is_identified_anew(watched: Watched, tmp_path: Path) -> None:
    save_file(Backbone().state_dict(), tmp_path / "chosen.safetensors")
    model = Backbone()
    model.load_state_dict(load_file(tmp_path / "chosen.safetensors"))
    watched.update()
    watched.named()
    model.half()
    assert watched.update()["Backbone"].name == "chosen"
    assert watched.named()["Backbone"].name == "chosen"
    save_file(Backbone().state_dict(), tmp_path / "another.safetensors")
    model.load_state_dict(load_file(tmp_path / "another.safetensors"))
    assert watched.update()["Backbone"].name_source == NameSource.PENDING  # its former name no longer holds
    assert watched.named()["Backbone"].name == "another"


def saved_long_ago(model: nn.Module, path: Path) -> None:
    save_file(model.state_dict(), path)
    os.utime(path, (1e9, 1e9))


def unseen_copy(model: nn.Module, path: Path) -> None:
    """Copy a file's values into the model, as a loader does that can't be observed."""
    values = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values[name])


def test_a_model_that_was_seen_before_its_file_was_read_is_sought_at_once_whatever_scans_cost(
    watched: Watched, tmp_path: Path
) -> None:
    saved_long_ago(Backbone(), tmp_path / "chosen.safetensors")
    model = Backbone()
    watched.update()
    assert watched.named()["Backbone"].name_source == "class"
    watched.observer.budget.charge(100.0)  # as scans do in a busy host
    unseen_copy(model, tmp_path / "chosen.safetensors")
    assert watched.update(0.1)["Backbone"].name_source == NameSource.PENDING
    assert watched.named()["Backbone"].name == "chosen"
    saved_long_ago(Backbone(), tmp_path / "another.safetensors")
    unseen_copy(model, tmp_path / "another.safetensors")
    model.register_buffer("scale", torch.ones(4))
    watched.observer.budget.charge(100.0)
    watched.update(0.1)
    assert watched.named()["Backbone"].name == "another"


def test_data_that_a_host_reads_seeks_no_name(watched: Watched, tmp_path: Path) -> None:
    torch.save({"sample": torch.rand(8)}, tmp_path / "sample.pt")
    model = Backbone()
    watched.update()
    known = watched.named()["Backbone"]
    assert known.resident_bytes > 20 * (tmp_path / "sample.pt").stat().st_size
    watched.observer.budget.spend(3.0)
    for number in range(3):
        torch.save({"sample": torch.rand(8)}, tmp_path / f"sample-{number}.pt")
        torch.load(tmp_path / f"sample-{number}.pt")
        assert watched.update(0.1)["Backbone"] is known
    assert watched.named()["Backbone"] is known
    assert model.training


def test_a_debt_delays_no_arrival_no_load_no_move_and_no_end(watched: Watched, tmp_path: Path) -> None:
    save_file(Backbone().state_dict(), tmp_path / "chosen.safetensors")
    watched.observer.budget.spend(1000.0)
    model = Backbone()
    before = watched.update(0.1)["Backbone"]
    model.half()
    halved = watched.update(0.1)["Backbone"]
    assert halved.resident_bytes * 2 == before.resident_bytes
    assert dict(halved.dtypes) == {"float16": halved.resident_bytes}
    model.to("meta")
    assert watched.update(0.1)["Backbone"].resident_bytes == 0
    del model
    assert "Backbone" not in watched.update(0.1)


def test_new_models_are_named_on_credit_and_known_ones_wait(watched: Watched, found_out: list[str]) -> None:
    model = Small()
    watched.update()
    watched.named()
    found_out.clear()
    watched.observer.budget.spend(1.0)
    newcomer = Backbone()
    watched.update(0.1)
    watched.named()
    assert "Backbone" in found_out
    assert "Small" not in found_out
    watched.update(1000.0)
    watched.named()
    assert "Small" in found_out
    assert model is not newcomer


def test_the_largest_of_those_that_wait_comes_first_and_those_that_wait_before_all_others(
    watched: Watched, found_out: list[str]
) -> None:
    old = Small(blocks=9)
    watched.update()
    watched.named()
    found_out.clear()
    middle, large, small = nn.Linear(600, 600), Backbone(blocks=8), nn.Conv2d(300, 300, 3)
    watched.update()
    watched.named()
    in_order = list(dict.fromkeys(found_out))
    assert [name for name in in_order if name in ("Linear", "Backbone", "Conv2d")] == ["Backbone", "Conv2d", "Linear"]
    assert found_out.index("Linear") < found_out.index("Small")
    assert len({id(one) for one in (old, middle, large, small)}) == 4


def test_at_each_update_a_model_is_identified_once_at_most(watched: Watched, found_out: list[str]) -> None:
    model = Backbone()
    watched.update()
    watched.named()
    for _ in range(3):
        model.half() if next(model.parameters()).dtype is torch.float32 else model.float()
        found_out.clear()
        watched.update(1000.0)
        watched.named()
        assert found_out.count("Backbone") == 1


def test_a_name_is_found_once(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    values_of = CheckpointValues.values_of

    def noted(self: CheckpointValues, whole: str, files):  # type: ignore[no-untyped-def]
        opened.append(Path(whole).name)
        return values_of(self, whole, files)

    monkeypatch.setattr(CheckpointValues, "values_of", noted)
    models = []
    for number in range(4):
        save_file(Backbone().state_dict(), tmp_path / f"tune-{number}.safetensors")
        os.utime(tmp_path / f"tune-{number}.safetensors", (1, 1))  # values can't come from a younger file
        models.append(Backbone())
        for key, value in load_file(tmp_path / f"tune-{number}.safetensors").items():  # in a way that isn't observed
            models[-1].get_parameter(key).data.copy_(value)
    watched.update()
    watched.named()
    assert sorted(model.name for model in watched.observer.models if model.class_name == "Backbone") == [
        "tune-0",
        "tune-1",
        "tune-2",
        "tune-3",
    ]
    opened.clear()
    for _ in range(5):
        watched.update()
        watched.named()
    assert [name for name in opened if name.startswith("tune-")] == []
    assert len(models) == 4


def test_what_did_not_change_is_the_same_object_and_so_is_not_packed_again(watched: Watched) -> None:
    models = [Backbone(), Small()]
    first = watched.update()
    first = watched.named()
    models.append(Backbone(blocks=5))
    watched.update()
    again = {model.id: model for model in watched.observer.models}
    assert all(again[model.id] is model for model in first.values() if model.class_name in ("Backbone", "Small"))


def test_seeing_one_changed_model_costs_what_that_model_costs_and_not_the_others(watched: Watched) -> None:
    def steps_of_a_move() -> int:
        model.half() if next(model.parameters()).dtype is torch.float32 else model.float()
        watched.now += 1e-6  # no time for a walk
        with counted() as work:
            watched.observer.update()
        return work.steps

    model = Backbone(blocks=20)
    watched.update()
    watched.named()
    watched.observer.budget.spend(1.0)
    alone = steps_of_a_move()
    others = [Backbone(blocks=2) for _ in range(100)]
    watched.update()
    watched.named()
    watched.observer.budget.spend(10.0)
    watched.update(0.0)
    among = steps_of_a_move()
    assert among - alone < 100 * 100  # some lines for each of the other rows, none for their modules
    assert len(others) == 100


def test_the_round_asks_nothing_about_what_a_model_was_before(watched: Watched, tmp_path: Path) -> None:
    for name in ("first", "second"):
        save_file(Backbone().state_dict(), tmp_path / f"{name}.safetensors")
    model = Backbone()
    model.load_state_dict(load_file(tmp_path / "first.safetensors"))
    watched.update()
    watched.observer.budget.spend(1.0)  # so that the round is not gone through
    assert watched.named()["Backbone"].name == "first"
    model.load_state_dict(load_file(tmp_path / "second.safetensors"))
    watched.update(0.1)
    assert watched.named()["Backbone"].name == "second"
    for _ in range(4):
        watched.update(1000.0)
        names = watched.named()
        assert names["Backbone"].name == "second"
    attached = watched.observer._attached
    assert attached is not None
    known = attached.model_names._names.get(model)
    assert known is not None
    assert known.known[None].found in attached.name_queue._present


def test_while_names_are_found_it_pauses(watched: Watched) -> None:
    models = [Backbone(blocks=40) for _ in range(3)]
    watched.update()
    before = watched.paused
    watched.named()
    assert watched.paused - before >= len(models)


@pytest.mark.parametrize("way", ["data", "parameter", "submodule"])
def test_changes_without_notice_are_found_in_turn_even_among_many_modules(way: str) -> None:
    with attached() as sidecar:
        models = [Backbone(blocks=30) for _ in range(4)]
        sidecar.scanner.scan(lambda: None, everything=False)
        block = models[2].blocks[7]
        if way == "data":
            block.get_submodule("q").weight.data = torch.zeros(1)
        elif way == "parameter":
            block.get_submodule("q")._parameters["weight"] = nn.Parameter(torch.zeros(1))
        else:
            block._modules["q"] = nn.Identity()
        expected = sum(parameter.nbytes for parameter in models[2].parameters())
        for _ in range(200):
            found = sidecar.scanner.scan(lambda: None, everything=False, walk_seconds=0.0005)
            if sorted(one.own_bytes for one in found)[0] == expected:
                break
        assert sorted(one.own_bytes for one in found)[0] == expected


def test_a_module_that_two_models_share_stays_the_others_when_one_of_them_is_deleted() -> None:
    with attached() as sidecar:
        shared = nn.ReLU()
        first, second = nn.Sequential(nn.Linear(600, 600), shared), nn.Sequential(nn.Linear(600, 600), shared)

        def found() -> list[int]:
            seen = sidecar.scanner.scan(lambda: None, everything=False, walk_seconds=0.01)
            return [one.own_bytes for one in seen]

        assert len(found()) == 2
        del first
        (alone,) = found()
        shared.register_buffer("scale", torch.zeros(1000))
        assert found() == [alone + 4000]
        assert second[1] is shared
        assert not sidecar.scanner._claims._roots_of_shared


def test_a_scan_that_was_broken_off_is_made_up_for() -> None:
    class BrokenOff(BaseException):
        pass

    with attached() as sidecar:
        models = [Backbone(blocks=20), Small(blocks=20)]
        whole = [one.own_bytes for one in sidecar.scanner.scan(lambda: None)]
        for model in models:
            model.half()
        for steps in range(0, 40, 3):
            left = steps

            def pause() -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise BrokenOff

            with pytest.MonkeyPatch.context() as patch, suppress(BrokenOff):
                patch.setattr("gpumodels.support.slices.SLICE_SECONDS", 0.0)
                sidecar.scanner.scan(pause, everything=False)
        found = sidecar.scanner.scan(lambda: None, everything=False)
        assert [one.own_bytes * 2 for one in found] == whole


@pytest.mark.slow
def test_after_three_hundred_loads_and_drops_all_is_as_it_was_after_fifty(watched: Watched, tmp_path: Path) -> None:
    for number in range(3):
        save_file(Backbone().state_dict(), tmp_path / f"tune-{number}.safetensors")

    def sizes(loads: int) -> tuple[int, ...]:
        for number in range(loads):
            model = Backbone()
            model.load_state_dict(load_file(tmp_path / f"tune-{number % 3}.safetensors"))
            watched.update(10.0)
            assert watched.named()["Backbone"].name == f"tune-{number % 3}"
            del model
        watched.update()
        watched.named()
        gc.collect()
        observer = watched.observer
        attached = observer._attached
        assert attached is not None
        scanner = attached.scanner
        held = len(observer.registry), len(scanner._readings), len(scanner._groups), len(scanner._claims._holders)
        known = (
            len(attached.origin_tracker.tensors),
            len(attached.model_names._names),
            len(attached.snapshot_models._identities),
        )
        ours = sum(str(type(one).__module__).startswith("gpumodels") for one in gc.get_objects())
        return (*held, *known, len(scanner._unread), ours)

    after_fifty = sizes(50)
    assert sizes(250) == after_fifty


@pytest.mark.parametrize("stated", ["checkpoints/mine", "x" * 300, "a\0b", "/proc/1/root/nowhere", "./" + "y/" * 3000])
def test_a_stated_name_that_is_no_usable_path_costs_nothing_but_itself(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: str
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    save_file(Backbone().state_dict(), tmp_path / "chosen.safetensors")
    unloaded, model = Small(), Backbone()
    for one in (unloaded, model):
        one.__dict__["config"] = {"_name_or_path": stated}
    model.load_state_dict(load_file(tmp_path / "chosen.safetensors"))
    assert watched.update().keys() == {"Small", "Backbone"}
    named = watched.named()
    assert (named["Backbone"].name, named["Small"].name) == ("chosen", "Small")
    monkeypatch.chdir(tmp_path)


def test_an_error_while_naming_leaves_the_model_its_row(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_module: object) -> None:
        raise OSError("no words")

    monkeypatch.setattr("gpumodels.naming.model_inquiry.stated_names", fails)
    model = Backbone()
    seen = watched.update()["Backbone"]
    assert (seen.name, seen.resident_bytes) == ("Backbone", sum(one.nbytes for one in model.parameters()))
    assert (watched.named()["Backbone"].name, watched.named()["Backbone"].name_source) == ("Backbone", "class")
    assert watched.observer._failures.count > 0
    watched.observer._failures.count = 0  # which the fixture checks
