"""Models compared with files: by values where they can be read, by names and shapes where they can't."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.evidence import MatchedFiles
from gpumodels.naming.model_inquiry import Sources
from modules import Attached, Backbone, attached


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as one:
        yield one


def written(path: Path, model: Backbone | None = None) -> str:
    """A safetensors file, of new values if no model is given, written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file((model or Backbone()).state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return str(path)


def copied_unseen(path: str) -> Backbone:
    """A model with the file's values, which were read but not seen being loaded."""
    model, state = Backbone(), load_file(path)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(state[key])
    return model


class Matching:
    def __init__(self, sidecar: Attached) -> None:
        self.pauses = 0
        self.sources = Sources(sidecar.registry, sidecar.origin_tracker, sidecar.failures, self._pause)
        self._sidecar = sidecar

    def _pause(self) -> None:
        self.pauses += 1

    def found(self) -> FoundModel:
        (found,) = self._sidecar.scan()
        return found

    def match(
        self, stated: tuple[str, ...] = (), among: tuple[str, ...] | None = None, before: MatchedFiles | None = None
    ) -> MatchedFiles:
        found = self.found()
        return self.sources.matching.match(found, self.sources.samples.samples_of(found, (0,), None), stated, among, before)


def test_the_file_with_the_models_values_matches_and_others_do_not(sidecar: Attached, tmp_path: Path) -> None:
    base, other = written(tmp_path / "base_v1.safetensors"), written(tmp_path / "other_v1.safetensors")
    load_file(other)
    model = copied_unseen(base)
    matching = Matching(sidecar)
    matched = matching.match()
    assert (matched.paths, matched.contradicts_config) == ((base,), False)
    assert matched.match is not None
    assert matched.match.is_full
    assert matched.compared.keys() == {base, other}
    assert matching.pauses >= 2
    del model


def test_the_same_values_are_not_compared_again(sidecar: Attached, tmp_path: Path) -> None:
    model = copied_unseen(written(tmp_path / "base_v1.safetensors"))
    matching = Matching(sidecar)
    before = matching.match()
    assert matching.match(before=before) is before
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert matching.match(before=before) is not before


def test_a_file_that_is_younger_than_the_values_was_saved_from_them(sidecar: Attached, tmp_path: Path) -> None:
    model = Backbone()
    matching = Matching(sidecar)
    before = matching.match()
    assert before.paths == ()
    path = tmp_path / "mine_v1.safetensors"
    save_file(model.state_dict(), path)
    os.utime(path, (4e9, 4e9))
    load_file(path)
    assert matching.match(before=before).paths == ()


def test_files_that_a_config_names_are_compared_though_nobody_read_them(sidecar: Attached, tmp_path: Path) -> None:
    base = written(tmp_path / "tiny" / "model.safetensors")
    model = Backbone()
    model.load_state_dict({key: value.clone() for key, value in load_file(base).items()})
    sidecar.origin_tracker.files_read.drop_explained(lambda path: True)
    matched = Matching(sidecar).match(stated=(str(tmp_path / "tiny"),))
    assert matched.paths == (base,)


def test_a_config_is_contradicted_by_its_files_when_they_hold_other_values(sidecar: Attached, tmp_path: Path) -> None:
    written(tmp_path / "tiny" / "model.safetensors")
    model = Backbone()
    matched = Matching(sidecar).match(stated=(str(tmp_path / "tiny"),))
    assert (matched.paths, matched.contradicts_config) == ((), True)
    assert not Matching(sidecar).match(stated=(str(tmp_path / "nowhere"),)).contradicts_config
    del model


def test_out_of_reach_names_and_shapes_count_and_only_those_of_files_read_for_it(sidecar: Attached, tmp_path: Path) -> None:
    one, two = written(tmp_path / "one_v1.safetensors"), written(tmp_path / "two_v1.safetensors")
    load_file(one), load_file(two)
    with torch.device("meta"):
        model = Backbone()
    matching = Matching(sidecar)
    both = matching.match()
    assert (both.fingerprint, both.match, both.paths) == (None, None, (one, two))
    assert matching.match(among=(two,)).paths == (two,)
    assert matching.match(among=()).paths == ()
    del model
