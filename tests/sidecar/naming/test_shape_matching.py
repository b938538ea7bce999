"""Models whose values are out of reach, and the files that were read for them: by names and shapes, and by whose turn it was."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gpumodels.naming.shape_matching import read_in_its_turn
from gpumodels_shared.schema import Model
from modules import Attached, Backbone, attached

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as one:
        yield one
        assert one.failures.count == 0


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """Writes a file of new values and reads it."""

    def read(name: str) -> dict[str, torch.Tensor]:
        path = tmp_path / f"{name}.safetensors"
        safetensors.save_file(Backbone().state_dict(), path)
        os.utime(path, (1e9, 1e9))
        found: dict[str, torch.Tensor] = safetensors.load_file(path)
        return found

    return read


def out_of_reach() -> Backbone:
    """A model that was never in host memory."""
    with torch.device("meta"):
        return Backbone()


def said(models: tuple[Model, ...]) -> set[tuple[str, float, tuple[str, ...]]]:
    return {(model.name, model.confidence, tuple(Path(path).stem for path in model.candidates)) for model in models}


Read = Callable[[str], dict[str, torch.Tensor]]


def test_two_models_and_two_files_in_turn_belong_together(sidecar: Attached, read: Read) -> None:
    one = out_of_reach()
    read("first_v1")
    other = out_of_reach()
    read("second_v1")
    assert said(sidecar.models()) == {("first_v1", 0.7, ()), ("second_v1", 0.7, ())}
    del one, other


def test_two_files_for_two_models_that_were_not_read_in_turn_are_candidates_of_both(sidecar: Attached, read: Read) -> None:
    models = [out_of_reach(), out_of_reach()]
    read("first_v1"), read("second_v1")
    assert said(sidecar.models()) == {("Backbone", 0.5, ("first_v1", "second_v1"))}
    del models


def test_what_was_read_for_another_model_is_but_a_candidate(sidecar: Attached, read: Read) -> None:
    other = Backbone()
    other.load_state_dict(read("others_v1"))
    del other
    gc.collect()
    model = out_of_reach()
    assert said(sidecar.models()) == {("Backbone", 0.5, ("others_v1",))}
    del model


def test_a_file_that_is_read_again_may_be_for_another_model(sidecar: Attached, read: Read, tmp_path: Path) -> None:
    other = Backbone()
    other.load_state_dict(read("others_v1"))
    del other
    gc.collect()
    model = out_of_reach()
    safetensors.load_file(tmp_path / "others_v1.safetensors")
    assert said(sidecar.models()) == {("others_v1", 0.7, ())}
    del model


def test_what_may_have_been_read_for_a_model_that_is_gone_is_not_the_next_ones(sidecar: Attached, read: Read) -> None:
    model = out_of_reach()
    read("first_v1")
    assert said(sidecar.models()) == {("first_v1", 0.7, ())}
    del model
    gc.collect()
    model = out_of_reach()
    assert said(sidecar.models()) == {("Backbone", 0.5, ("first_v1",))}
    read("second_v1")
    assert said(sidecar.models()) == {("second_v1", 0.7, ())}
    del model


def test_a_model_keeps_its_file_while_it_is_not_written_to_whatever_is_read(sidecar: Attached, read: Read) -> None:
    model = out_of_reach()
    read("first_v1")
    assert said(sidecar.models()) == {("first_v1", 0.7, ())}
    read("second_v1")
    assert said(sidecar.models()) == {("first_v1", 0.7, ())}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert said(sidecar.models()) == {("Backbone", 0.5, ("first_v1", "second_v1"))}


def test_values_from_before_a_move_do_not_deny_what_was_written_afterwards(sidecar: Attached, read: Read) -> None:
    read("unrelated_v1")
    sidecar.origin_tracker.files_read.drop_explained(lambda path: True)
    model = Backbone().to("meta")
    read("first_v1")
    assert said(sidecar.models()) == {("Backbone", 0.5, ("first_v1",))}, "nothing shows that anything was written"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert said(sidecar.models()) == {("first_v1", 0.7, ())}


def test_values_from_before_a_move_confirm_the_file_that_they_are_from(sidecar: Attached, read: Read) -> None:
    model, state = Backbone(), read("first_v1")
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(state[key])
    model.to("meta")
    read("second_v1")
    assert said(sidecar.models()) == {("first_v1", 0.97, ())}


def test_a_model_that_was_written_over_out_of_reach_may_be_either_files(sidecar: Attached, read: Read) -> None:
    model = Backbone()
    model.load_state_dict(read("first_v1"))
    model.to("meta")
    assert said(sidecar.models()) == {("first_v1", 0.95, ())}
    read("second_v1")
    assert said(sidecar.models()) == {("first_v1", 0.95, ())}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert said(sidecar.models()) == {("Backbone", 0.5, ("first_v1", "second_v1"))}


@pytest.mark.parametrize(
    ("built", "rivals", "reads", "found"),
    [
        (1, [3], {"a": 2, "b": 4}, "a"),
        (3, [1], {"a": 2, "b": 4}, "b"),
        (2, [4], {"a": 1, "b": 3}, "a"),
        (4, [2], {"a": 1, "b": 3}, "b"),
        (3, [4], {"a": 1, "b": 2}, None),
        (1, [4], {"a": 2, "b": 3}, None),
        (1, [], {"a": 2, "b": 3}, None),
        (1, [3, 5], {"a": 2, "b": 4}, None),
    ],
)
def test_a_turn_is_one_file_for_each_model(built: int, rivals: list[int], reads: dict[str, int], found: str | None) -> None:
    assert read_in_its_turn(built, rivals, reads) == found
