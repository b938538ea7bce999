"""Models whose values are out of reach, and the files that were read for them: by names and shapes, and by whose turn it was."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch

from gpumodels.naming import shape_matching
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


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["program.py"])
    return tmp_path


def written(path: Path, model: torch.nn.Module) -> Path:
    """A file of the model's values, written long ago."""
    safetensors.save_file(model.state_dict(), path) if path.suffix == ".safetensors" else torch.save(model.state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return path


def found_later(model: torch.nn.Module) -> Model:
    """What is said of a model that was there before."""
    with attached() as one:
        one.hooks.sweep()
        (found,) = [found for found in one.models() if found.class_name == type(model).__name__]
        assert one.failures.count == 0
        return found


def names(paths: Iterable[str]) -> set[str]:
    return {Path(path).name for path in paths}


def test_a_model_that_was_there_before_may_be_from_each_file_of_its_names_and_shapes(directory: Path) -> None:
    for name in ("one", "other"):
        written(directory / f"{name}.safetensors", Backbone())
    written(directory / "smaller.safetensors", Backbone(blocks=2))
    model = out_of_reach()
    found = found_later(model)
    assert (found.name, found.confidence, names(found.candidates)) == ("Backbone", 0.5, {"one.safetensors", "other.safetensors"})


def test_one_file_that_fits_is_no_name_for_a_model_that_was_there_before(directory: Path) -> None:
    written(directory / "only.safetensors", Backbone())
    model = out_of_reach()
    found = found_later(model)
    assert (found.name, found.confidence, names(found.candidates)) == ("Backbone", 0.5, {"only.safetensors"})


def test_a_file_that_is_open_is_the_likelier_one(directory: Path) -> None:
    written(directory / "closed.safetensors", Backbone())
    model = out_of_reach()
    with written(directory / "open.safetensors", Backbone()).open("rb"):
        assert names(found_later(model).candidates) == {"open.safetensors"}


def test_pickles_fit_by_their_size_and_fused_models_too(directory: Path) -> None:
    written(directory / "one.pt", Backbone())
    written(directory / "larger.pt", Backbone(blocks=4))
    assert names(found_later(out_of_reach()).candidates) == {"one.pt"}

    class Fused(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qk = torch.nn.ModuleList(torch.nn.Linear(256, 512, device="meta") for _ in range(3))

    written(directory / "one.safetensors", Backbone())
    written(directory / "half.safetensors", Backbone().half())
    model = Fused()
    assert names(found_later(model).candidates) == {"one.pt", "one.safetensors"}


def test_many_files_that_fit_say_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_matching, "MAX_GUESSES", 2)
    for number in range(3):
        written(directory / f"tune{number}x.safetensors", Backbone())
    model = out_of_reach()
    found = found_later(model)
    assert (found.confidence, found.candidates) == (0.0, ())


def test_values_decide_among_the_files_that_were_read_before(directory: Path) -> None:
    model = Backbone()
    written(directory / "one.safetensors", model)
    written(directory / "other.safetensors", Backbone())
    found = found_later(model)
    assert (found.name, found.name_source, found.confidence) == ("one", "values", 0.97)
    assert names(found.files) == {"one.safetensors"}


def test_of_values_that_no_readable_file_has_pickles_are_candidates_for_the_viewer_to_compare(directory: Path) -> None:
    model = Backbone()
    written(directory / "one.pt", model)
    written(directory / "other.safetensors", Backbone())
    found = found_later(model)
    assert (found.name, found.confidence, names(found.candidates)) == ("Backbone", 0.5, {"one.pt"})
    assert found.fingerprint is not None
    assert found.fingerprint.samples


def test_a_model_that_was_built_while_it_was_observed_is_from_no_file_that_was_there_before(directory: Path) -> None:
    written(directory / "one.safetensors", Backbone())
    with attached() as one:
        model = out_of_reach()
        (found,) = one.models()
        assert (found.confidence, found.candidates) == (0.0, ())
        assert model is not None
