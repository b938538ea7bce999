"""Words that don't name a model: folders in which models are kept, and roles of modules."""

from __future__ import annotations

import re
from typing import Final

_MODEL_FOLDERS: Final = """
loras lora lycoris vae vaes vae_approx checkpoints stable-diffusion diffusion_models unets controlnet controlnets t2i_adapter
upscale_models latent_upscale_models esrgan realesrgan swinir gfpgan codeformer text_encoders clip clip_vision embeddings
textual_inversion hypernetworks audio_encoders style_models gligen photomaker ipadapter animatediff_models motion_modules
model_patches model models ckpt checkpoint diffusers tensorrt sams llm llms gguf bbox segm detect segment classify pose obb
facerestore_models model_store model_repository
"""
"""The model folders of ComfyUI and similar programs, and of training programs that sort runs by task."""

_PROGRAM_FOLDERS: Final = """
comfyui comfyui_windows_portable stable-diffusion-webui stable-diffusion-webui-forge sd-webui automatic invokeai invoke fooocus
swarmui stabilitymatrix stability_matrix lm-studio lmstudio gpt4all ollama jan localai kohya_ss text-generation-webui koboldcpp
vllm sglang tgi triton sagemaker modelscope kagglehub bentoml mlruns mlartifacts wandb tensorboard ray_results optuna nemo
deepspeed megatron transformers keras jax flax
"""
"""Folders of programs that run, keep or train models."""

_OUTPUT_FOLDERS: Final = """
output outputs out results result runs run logs log lightning_logs multirun export exports saved saved_models save trained
pretrained pretrained_models finetuned fine_tuned model_output model_outputs trained_models artifacts artifact experiments
training build dist files snapshots blobs trials studies
"""
"""Folders into which programs write results."""

_USER_FOLDERS: Final = """
home homes user users people root mnt mount merged media data _data datasets disk disks drive mydrive ssd hdd nvme raid nas nfs
lustre gpfs efs fsx gcs s3 bucket buckets storage volume volumes opt ml srv var lib usr local share workspace workspaces work
working content kaggle input inputs downloads download desktop documents cache shared scratch tmp temp projects project repos
repo hub vol runpod-volume autodl-tmp autodl-fs notebook notebooks processing new_folder untitled_folder huggingface torch
pytorch app src source code site-packages dist-packages assets resources static public private this_studio
"""
"""Folders of users and of the system."""


def _plain(word: str) -> str:
    return re.sub(r"[-_. ]", "", word.lower())


_NUMBERED: Final = frozenset(map(_plain, (_OUTPUT_FOLDERS + _USER_FOLDERS).split()))
_ALL: Final = _NUMBERED | frozenset(map(_plain, (_MODEL_FOLDERS + _PROGRAM_FOLDERS).split()))


def is_folder_for_anything(name: str) -> bool:
    """Whether a directory of this name says what is kept there, or whose it is: `Text-Encoders`, `data2`, `output_dir`."""
    plain = _plain(name)
    spellings = (plain, re.sub(r"(?<=.)(dir|folder|path)$", "", plain))
    return any(one in _ALL or one.rstrip("0123456789") in _NUMBERED for one in spellings)


_ROLES: Final = """
encoder decoder backbone head net network module generator discriminator teacher student actor critic policy base main default
first second trunk stem body neck embedder embeddings embedding classifier untitled unnamed lora adapter text image audio video
llm lm
"""

ROLE_NAMES: Final = frozenset(_ROLES.split())
"""Names of modules, in lower case, that only describe their role."""
