"""What is found out about one model: only what may be true, and only once while nothing changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpumodels.naming.model_inquiry import Findings, ModelInquiry, Sources
from gpumodels.naming.pipeline_slots import PipelineSlot
from modules import Attached, Backbone, attached


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as one:
        yield one


def inquiry(sidecar: Attached, findings: Findings | None = None) -> ModelInquiry:
    (found,) = sidecar.scan()
    sources = Sources(sidecar.registry, sidecar.origin_tracker, sidecar.failures, lambda: None)
    return ModelInquiry(sources, found, findings or Findings())


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(Backbone().state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return path


def test_a_config_counts_only_once_a_file_was_read_from_there(sidecar: Attached, tmp_path: Path) -> None:
    path = written(tmp_path / "tiny" / "model.safetensors")
    model = Backbone()
    model.__dict__["config"] = {"_name_or_path": str(tmp_path / "tiny"), "model_type": "bert"}
    findings = Findings()
    evidence = inquiry(sidecar, findings).stated_evidence(model, None)
    assert (evidence.config_name, evidence.architecture) == (None, "bert")
    assert findings.stated_origins == (str(tmp_path / "tiny"),)
    load_file(path)
    assert inquiry(sidecar, findings).stated_evidence(model, None).config_name == str(tmp_path / "tiny")


def test_a_pipelines_name_counts_like_a_configs(sidecar: Attached, tmp_path: Path) -> None:
    path = written(tmp_path / "tiny" / "unet" / "model.safetensors")
    model, slot = Backbone(), PipelineSlot("unet", str(tmp_path / "tiny"))
    assert inquiry(sidecar).stated_evidence(model, slot).pipeline_name is None
    load_file(path)
    assert inquiry(sidecar).stated_evidence(model, slot).pipeline_name == str(tmp_path / "tiny")


def test_a_match_is_remembered_until_something_is_read_or_loaded(sidecar: Attached, tmp_path: Path) -> None:
    load_file(written(tmp_path / "base_v1.safetensors"))
    model = Backbone()
    asked = inquiry(sidecar)
    first = asked.matched_files(is_name_claimed=False)
    assert asked.matched_files(is_name_claimed=False) is first
    load_file(written(tmp_path / "other_v1.safetensors"))
    second = asked.matched_files(is_name_claimed=False)
    assert len(second.compared) == 2
    del model


def test_values_that_nothing_depends_on_need_not_be_right_and_those_of_a_name_must(sidecar: Attached, tmp_path: Path) -> None:
    load_file(written(tmp_path / "base_v1.safetensors"))
    model = Backbone()
    asked = inquiry(sidecar)
    first = asked.matched_files(is_name_claimed=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert asked.matched_files(is_name_claimed=False) is first
    assert asked.matched_files(is_name_claimed=True) is not first


def test_a_file_that_changed_since_it_was_read_is_no_measure(sidecar: Attached, tmp_path: Path) -> None:
    path = written(tmp_path / "base_v1.safetensors")
    model = Backbone()
    model.load_state_dict(load_file(path))
    findings = Findings()
    asked = inquiry(sidecar, findings)
    asked.stated_evidence(model, None)
    agreement = asked.agreement_with([str(path)])
    assert agreement is not None
    assert agreement.of_samples.is_unchanged
    findings.stamps[str(path)] = findings.stamps[str(path)]._replace(modified_ns=1)
    assert asked.agreement_with([str(path)]) is None


def test_files_read_at_creation_stay_the_same_whatever_is_read_later(sidecar: Attached, tmp_path: Path) -> None:
    load_file(written(tmp_path / "base_v1.safetensors"))
    model = Backbone()
    asked = inquiry(sidecar)
    assert asked.files_read_at_creation() == (str(tmp_path / "base_v1.safetensors"),)
    load_file(written(tmp_path / "other_v1.safetensors"))
    assert asked.files_read_at_creation() == (str(tmp_path / "base_v1.safetensors"),)
    assert inquiry(sidecar).files_read_at_creation() == ()
    del model


def test_a_config_counts_where_its_files_were_read_for_the_model_and_not_for_another(sidecar: Attached, tmp_path: Path) -> None:
    base, tune = written(tmp_path / "base" / "model.safetensors"), written(tmp_path / "tune" / "model.safetensors")
    load_file(base)
    sidecar.origin_tracker.files_read.drop_explained(lambda path: True)
    model = Backbone()
    model.__dict__["config"] = {"_name_or_path": str(tmp_path / "base")}
    assert inquiry(sidecar).stated_evidence(model, None).config_name is None, "it was read for another model"
    load_file(tune)
    assert inquiry(sidecar).stated_evidence(model, None).config_name is None
    load_file(base)
    assert inquiry(sidecar).stated_evidence(model, None).config_name == str(tmp_path / "base")


def test_a_config_does_not_count_where_another_checkpoint_was_read_after_the_model_was_built(
    sidecar: Attached, tmp_path: Path
) -> None:
    load_file(written(tmp_path / "base" / "model.safetensors"))
    model = Backbone()
    model.__dict__["config"] = {"_name_or_path": str(tmp_path / "base")}
    findings = Findings()
    asked = inquiry(sidecar, findings)
    load_file(written(tmp_path / "tune" / "model.safetensors"))
    assert asked.stated_evidence(model, None).config_name is None
