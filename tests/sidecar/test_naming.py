from __future__ import annotations

import pytest

from gpumodels.naming import Evidence, choose_name, name_from_config, name_from_path

WAN_FILE = "/models/diffusion_models/Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (WAN_FILE, "Wan2_2-T2V-A14B-HIGH"),
        ("/m/loras/MyLoRA.safetensors", "MyLoRA"),
        ("/m/flux1-dev-fp8.safetensors", "flux1-dev"),
        ("/m/dreamshaper_8.safetensors", "dreamshaper_8"),
        ("/m/v1-5-pruned-emaonly.safetensors", "v1-5"),
        ("/m/fp16.safetensors", "fp16"),
        ("/m/bert-tiny/model.safetensors", "bert-tiny"),
        ("/m/tiny-sd/unet/diffusion_pytorch_model.fp16.safetensors", "tiny-sd"),
        ("/m/tiny-sd/text_encoder_2/model.safetensors", "tiny-sd"),
        ("/m/llama/model-00001-of-00004.safetensors", "llama"),
        ("/h/hub/models--org--name/snapshots/0a1b/unet/diffusion_pytorch_model.safetensors", "org/name"),
        ("/h/hub/models--org--name/blobs/0a1b2c", "org/name"),
        ("/tmp/tmpab12/model.safetensors", None),
        ("/model.safetensors", None),
    ],
)
def test_a_path_gives_the_name_that_its_user_chose(path: str, name: str | None) -> None:
    assert name_from_path(path) == name


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("org/name", "org/name"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("/home/me/models/tiny-sd", "tiny-sd"),
        ("./my-run/checkpoint-500", "my-run/checkpoint-500"),
        ("", None),
    ],
)
def test_a_configs_name_or_path_gives_a_name(stated: str, name: str | None) -> None:
    assert name_from_config(stated) == name


def test_a_file_that_holds_most_of_the_model_names_it() -> None:
    naming = choose_name(Evidence("WanModel", {(WAN_FILE, "mapped file"): 90}, 100))
    assert (naming.name, naming.source, naming.confidence) == ("Wan2_2-T2V-A14B-HIGH", "mapped file", 0.99)
    assert naming.files == (WAN_FILE,)


def test_a_file_that_holds_a_part_of_the_model_does_not_name_it() -> None:
    naming = choose_name(Evidence("WanModel", {(WAN_FILE, "mapped file"): 40}, 100, architecture="wan"))
    assert (naming.name, naming.source, naming.confidence) == ("WanModel (wan)", "class", 0.0)


def test_the_shards_of_a_checkpoint_are_one_name_and_several_files() -> None:
    shards = {(f"/m/llama/model-0000{part}-of-00002.safetensors", "mapped file"): 50 for part in (1, 2)}
    naming = choose_name(Evidence("LlamaForCausalLM", shards, 100))
    assert naming.name == "llama"
    assert len(naming.files) == 2


def test_two_files_that_hold_as_much_are_candidates_and_no_name() -> None:
    origins = {("/m/a.safetensors", "state dict"): 55, ("/m/b.safetensors", "state dict"): 45}
    naming = choose_name(Evidence("UNet", origins, 100))
    assert (naming.name, naming.source) == ("UNet", "class")
    assert naming.confidence < 0.6
    assert naming.candidates == ("/m/a.safetensors", "/m/b.safetensors")


@pytest.mark.parametrize(
    ("file", "stated", "name"),
    [
        ("/m/wan_high.safetensors", "Wan2_2-T2V-A14B-HIGH", "Wan2_2-T2V-A14B-HIGH"),
        ("/tmp/tmp1/model.safetensors", "VACE-Depth", "VACE-Depth"),
        ("/m/my_tune_v3.safetensors", "Wan2_2-T2V-A14B-HIGH", "my_tune_v3"),
        ("/m/Wan2_2-T2V-A14B-HIGH-mytune.safetensors", "Wan2_2-T2V-A14B-HIGH", "Wan2_2-T2V-A14B-HIGH-mytune"),
    ],
)
def test_metadata_name_a_model_only_where_they_say_more_than_its_file(file: str, stated: str, name: str) -> None:
    evidence = Evidence("WanModel", {(file, "mapped file"): 100}, 100, metadata={file: {"model_type": stated}})
    assert choose_name(evidence).name == name


def test_without_a_file_a_config_names_it_then_an_attribute_then_the_class() -> None:
    everything = Evidence("BertModel", config_name="org/name", architecture="bert", attributes=("mine",))
    assert choose_name(everything).name == "org/name"
    assert choose_name(Evidence("BertModel", architecture="bert", attributes=("mine",))).name == "mine"
    assert choose_name(Evidence("BertModel", architecture="bert")).name == "BertModel (bert)"
    assert choose_name(Evidence("BertModel")).confidence < 0.6
