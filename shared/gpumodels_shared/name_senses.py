"""What a file's or a directory's own name says of a model: its name, which state or version of it, or nothing."""

from __future__ import annotations

import os
import re
from enum import Enum
from pathlib import PurePath
from typing import Final

from gpumodels_shared.made_up_names import is_made_up, is_numbered
from gpumodels_shared.no_names import ROLE_NAMES, is_folder_for_anything

_COMPONENT: Final = (
    r"(?i)^((unet|vae|transformer|text_encoder|image_encoder|controlnet|prior|decoder|safety_checker|feature_extractor|vqvae|vqgan|"
    r"movq|vocoder|motion_adapter|language_model|projection_model)(_\d)?|prior_prior|\d+_[A-Z]\w*|fp8|fp16|bf16|fp32|float16|bfloat16|"
    r"((mp|tp|pp|ep)_)?rank[-_]?\d+(_\d+)*|mp_rank_\d+(_\d+)*|pytorch_model_fsdp(_\d+)?|main|master|default|original|non_ema|"
    r"safetensors|gguf|onnx)$"
)
"""Names of directories inside a model's own: diffusers' components, sentence-transformers' modules (`2_Dense`), precisions, the
parts of a model that was saved in parallel, revisions, formats."""
_GENERIC: Final = (
    r"(?i)^(model|models|pytorch_model|diffusion_pytorch_model|adapter_model|adapter|weights?|checkpoint|ckpt|consolidated(\.\d+)?|"
    r"open_clip_(pytorch_)?model|tf_model|state_dict|pytorch_lora_weights|lora_weights|ema|final|last|best|\d+|"
    r"(saved|full|hf|fused|quantized)_model|model_(weights|states?|state_dict|params)|params|states?|snapshot|mmproj([-_]model)?|"
    r"(bf16_)?(zero_pp_rank_\d+_)?mp_rank_\d+(_\d+)?_(model|optim)_states|layer_\d+-model_\d+-model_states|"
    r"model_optim_rng|distrib_optim|__\d+_\d+|pytorch_model_fsdp(_\d+)?|((mp|tp|pp|ep)_)?rank[-_]?\d+)$"
)
"""Names of files that are the same whatever the model; the last two lines are those of programs that train in parallel."""
_COUNTED: Final = r"(checkpoint|ckpt|epoch|ep|step|iter|iteration|global_?step|snapshot)[-_=]?\d+"
_RUN: Final = r"(?i)^(run|trial|fold|seed|job|task|exp|train|version)[-_=]?\d+([-_=.]\w+)*$"
_VARIANT: Final = r"(?i)^(\d+(\.\d+)?[bm]|tiny|small|base|medium|large|huge|giant|xl|xxl|mini|nano|instruct|chat)$"
"""Names of folders for what there is of one model: sizes, above all."""
_STATE: Final = (
    rf"(?i)^({_COUNTED}([-_=.]\w+)*|v?\d+([._]\d+)*|model|weights|checkpoint|ckpt|snapshot|ema|final|last|latest|best|current)$"
)
"""Names of a training run's states and a model's versions: only useful together with the name of the directory above."""
_SAVED_STATE: Final = (
    r"(?i)^((best|last|latest|final|ema)([-_](model|weights|checkpoint|ckpt|snapshot|(v|rank)?\d+))?|v?\d+([._]\d+)*|"
    rf"(model|weights|checkpoint|ckpt)[-_](best|last|latest|final|ema)|({_COUNTED}|(model|weights)[-_=]\d+)([-_=.]\w+)*)$"
)
"""Names of a training run's files, of which its folder holds several (`best.pt` and `last.pt`): they are told apart by both."""
_STATES_FOLDER: Final = r"(?i)^(weights?|model|checkpoints?|ckpts?|snapshots?|states?)$"
"""Names of the folder inside a training run's in which it keeps its files."""
_NUMBERED: Final = r"(?i)^(?!v\d)[a-z]\w*[-_=]?\d+.*$"
_SAYS_LITTLE: Final = r"(?i)^(models?|weights?|params|states?|iter(ation)?|global_?step|snapshot|latest|current)?[\W\d_]*$"
"""States that could be any model's: no name where the directory says nothing."""
_TEMPORARY: Final = r"^tmp[a-z0-9_]{8}$"
"""Names that Python's `tempfile` gives, and with which downloads and copies are read."""
_SOMEBODYS: Final = (
    r"(?i)^((/.*)?/(home\d*|homes|users?|people|volumes)(/[a-z0-9])?/[^/]+|(/run)?/media/[^/]+(/[^/]+)?|"
    r"(/.*)?/(gcs|s3|buckets?)/[^/]+)$"
)
"""Directories that are called after a person or a disk. Like all patterns here it is compiled by `re` at first use, to keep the
host's start fast."""


class Sense(Enum):
    """What a file's or a directory's name says of a model."""

    NAME = "its name"
    STATE = "which state, version or size of it"
    NOTHING = "nothing; what is above may"
    END = "nothing, nor does anything above"


def sense_of_file(stem: str) -> Sense:
    """What a file says by its name without suffixes and packaging."""
    if is_made_up(stem) or re.match(_TEMPORARY, stem):
        return Sense.END
    if re.match(_SAVED_STATE, stem):
        return Sense.STATE
    if not stem or re.match(_GENERIC, stem):
        return Sense.NOTHING
    return Sense.STATE if is_numbered(stem) else Sense.NAME


def sense_of_folder(directory: PurePath, name: str) -> Sense:
    """What a directory says of the model in it. `name`: its own, as people spell it."""
    if name.startswith((".", "tmp")) or is_made_up(name) or _is_somebodys(directory):
        return Sense.END
    if not name or (len(name) == 1 and name.isalpha() and directory.is_absolute()):
        return Sense.END  # a drive, or where people's homes are sorted
    if re.match(_COMPONENT, name):
        return Sense.NOTHING
    if any(re.match(pattern, name) for pattern in (_STATE, _RUN, _VARIANT)) or is_numbered(name):
        return Sense.STATE
    return Sense.END if re.match(_GENERIC, name) or is_folder_for_anything(name) else Sense.NAME


def _is_somebodys(directory: PurePath) -> bool:
    """Whether it is called after a person or a disk: it is in a directory for these, or this process's user is called so."""
    path, home = directory.as_posix(), os.environ.get("HOME", "").rstrip("/")
    if re.match(_SOMEBODYS, path) or f"{home}/".startswith(f"{path}/"):
        return True
    return directory.name in (os.environ.get("USER"), os.environ.get("LOGNAME"))


def says_nothing(name: str) -> bool:
    """Whether a module that is called so has only its role from that (`encoder`, `unet`, `model`), or an identifier."""
    is_word = any(re.match(pattern, name) for pattern in (_GENERIC, _COMPONENT)) or name.lower() in ROLE_NAMES
    return not name or is_word or is_made_up(name)


def may_be_in_hub(part: str) -> bool:
    """Whether this can be the owner or the name of a hub repository; `models/unet`, for example, is a local directory."""
    patterns = (_GENERIC, _COMPONENT, _STATE)
    is_no_name = is_folder_for_anything(part) or is_made_up(part) or is_numbered(part)
    return not is_no_name and not any(re.match(pattern, part) for pattern in patterns)


def is_generic_stem(stem: str) -> bool:
    """Whether files of any model are called so."""
    return re.match(_GENERIC, stem) is not None


def is_states_folder(name: str) -> bool:
    """Whether training runs keep their files in a folder of this name inside their own."""
    return re.match(_STATES_FOLDER, name) is not None


def stands_alone(state: str, is_folder: bool) -> bool:
    """Whether a state's name is one where no directory above says whose it is: `checkpoint-500` is, `2024-05-01` isn't."""
    if re.match(_SAYS_LITTLE, state):
        return False
    return not is_folder or re.match(_NUMBERED, state) is not None or re.match(_VARIANT, state) is not None
