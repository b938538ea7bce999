"""Names that the program gives its models itself."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import gpumodels
from gpumodels.provenance.labels import LABELS
from gpumodels_shared.name_sources import NameSource
from modules import Attached, attached


class Net(nn.Module):
    """Large enough for a row."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(128, 128), nn.Linear(128, 128)


class System(nn.Module):
    """Holds a model as a part."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Net(), nn.Linear(128, 128)


@pytest.fixture
def host() -> Iterator[Attached]:
    with attached() as one:
        yield one


def named(host: Attached) -> set[tuple[str, str, float]]:
    return {(model.name, model.name_source, model.confidence) for model in host.models()}


def test_what_the_program_calls_its_model_is_its_name(host: Attached) -> None:
    net = Net()
    gpumodels.label(net, "ranker v7")
    assert named(host) == {("ranker v7", NameSource.LABEL, 1.0)}
    gpumodels.label(net, "ranker v8")
    assert named(host) == {("ranker v8", NameSource.LABEL, 1.0)}
    gpumodels.label(net, None)
    assert {name for name, *_ in named(host)} == {"Net"}


def test_a_label_from_before_the_start_counts() -> None:
    net = Net()
    gpumodels.label(net, "early")
    with attached() as host:
        host.registry.add_all(net.modules())
        assert named(host) == {("early", NameSource.LABEL, 1.0)}


def test_the_files_that_are_known_stay_unless_the_program_says_which_they_are(host: Attached, tmp_path: Path) -> None:
    save_file(Net().state_dict(), tmp_path / "net.safetensors", metadata={"modelspec.title": "A title"})
    net = Net()
    net.load_state_dict(load_file(tmp_path / "net.safetensors"))
    gpumodels.label(net, "mine")
    (model,) = host.models()
    assert (model.name, model.files) == ("mine", (str(tmp_path / "net.safetensors"),))
    assert model.metadata["modelspec.title"] == "A title"
    shards = [tmp_path / "a-00001-of-00002.safetensors", tmp_path / "a-00002-of-00002.safetensors"]
    gpumodels.label(net, "mine", file=shards)
    (model,) = host.models()
    assert model.files == tuple(map(str, shards))


@pytest.mark.parametrize("labels_the_wrapper", [True, False])
def test_a_model_and_its_wrappers_are_one(host: Attached, labels_the_wrapper: bool) -> None:
    net = Net()
    compiled: Any = torch.compile(net, backend="eager")
    outer = nn.DataParallel(compiled)
    labelled = compiled if labels_the_wrapper else net
    gpumodels.label(labelled, "wrapped")
    assert named(host) == {("wrapped", NameSource.LABEL, 1.0)}
    gpumodels.label(outer, "outer")
    assert named(host) == {("outer", NameSource.LABEL, 1.0)}, "the last one counts"
    gpumodels.label(labelled, "wrapped again")
    assert named(host) == {("wrapped again", NameSource.LABEL, 1.0)}
    gpumodels.label(labelled, None)
    assert named(host) == {("outer", NameSource.LABEL, 1.0)}


COPIES: Final[dict[str, Callable[[nn.Module], nn.Module]]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "deepcopy of what holds it": lambda module: copy.deepcopy(nn.ModuleList([module]))[0],
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_has_no_label_and_the_original_keeps_its_own(host: Attached, how: str) -> None:
    net = Net()
    gpumodels.label(net, "original")
    again = COPIES[how](net)
    host.registry.add_all(again.modules())
    assert named(host) == {("original", NameSource.LABEL, 1.0), ("Net", NameSource.CLASS, 0.0)}
    gpumodels.label(again, "copy")
    del net
    gc.collect()
    assert named(host) == {("copy", NameSource.LABEL, 1.0)}


def test_a_label_stays_where_the_model_is_compiled_in_place_moved_or_held(host: Attached) -> None:
    net = Net()
    gpumodels.label(net, "mine")
    net.compile(backend="eager")
    net.to(torch.bfloat16)
    assert named(host) == {("mine", NameSource.LABEL, 1.0)}
    held = nn.ModuleList([net, Net()])
    gpumodels.label(held[1], "other")
    assert named(host) == {("mine", NameSource.LABEL, 1.0), ("other", NameSource.LABEL, 1.0)}


def test_what_takes_a_deleted_models_place_in_memory_has_not_its_label(host: Attached) -> None:
    for _ in range(20):
        net = Net()
        gpumodels.label(net, "deleted")
        del net
        gc.collect()
        another = Net()
        assert {name for name, *_ in named(host)} == {"Net"}
        del another


def test_a_part_that_the_program_calls_a_model_has_a_row_of_its_own(host: Attached) -> None:
    system = System()
    assert len(named(host)) == 1
    gpumodels.label(system.backbone, "backbone of mine")
    for key in LABELS.take_changed():
        host.registry.note_change(key)
    assert ("backbone of mine", NameSource.LABEL, 1.0) in named(host)
    assert len(named(host)) == 2


def test_nothing_is_kept_alive() -> None:
    net = Net()
    gpumodels.label(net, "short-lived")
    ref, key = weakref.ref(net), id(net)
    assert key in LABELS
    del net
    gc.collect()
    assert ref() is None
    assert key not in LABELS


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(object, "a"), (lambda: None, "a"), (lambda: nn.Linear, "a"), (Net, ""), (Net, 7), (Net, ("a", object()))],
)
def test_nothing_raises_and_nothing_is_labelled(
    module: Callable[[], Any], arguments: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = len(LABELS)
    with caplog.at_level(logging.WARNING, "gpumodels"):
        gpumodels.label(module(), *(arguments if type(arguments) is tuple else (arguments,)))
    assert len(LABELS) == before


def test_foreign_code_is_not_run(host: Attached) -> None:
    class Hostile(Net):
        def __hash__(self) -> int:
            raise AssertionError

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise AssertionError

    net = Hostile()
    gpumodels.label(net, "hostile")
    assert named(host) == {("hostile", NameSource.LABEL, 1.0)}
