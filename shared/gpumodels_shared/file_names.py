"""What a model file's path says of the model: names without packaging, hub repositories, the shards of one checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from gpumodels_shared.no_names import PLACES, ROLES

SHARD: Final = r"[-_.]\d{5}-of-(\d{5})$"
_PACKAGING: Final = (
    r"(?i)[-_.](fp8|float8|fp16|float16|f16|half|bf16|bfloat16|fp32|float32|e4m3fn|e5m2|scaled|mixed|KJ|pruned|emaonly|ema)$"
)
_COMPONENT: Final = (
    r"^((unet|vae|transformer|text_encoder|image_encoder|controlnet|prior|decoder|safety_checker|feature_extractor|vqvae|vqgan|movq|"
    r"vocoder|motion_adapter|language_model|projection_model)(_\d)?|prior_prior|\d+_[A-Z]\w*|fp8|fp16|bf16|fp32|float16|bfloat16)$"
)
"""Directories inside a model's own: diffusers' components, sentence-transformers' modules (`2_Dense`), precisions."""
_GENERIC: Final = (
    r"(?i)^(model|models|pytorch_model|diffusion_pytorch_model|adapter_model|adapter|weights?|checkpoint|ckpt|consolidated(\.\d+)?|"
    r"open_clip_(pytorch_)?model|tf_model|state_dict|pytorch_lora_weights|lora_weights|ema|final|last|best|\d+)$"
)
_STATE: Final = (
    r"(?i)^((checkpoint|epoch|step|iter|global_step)[-_]?\d+|v?\d+([._]\d+)*|model|weights|checkpoint|ckpt|ema|final|last|best)$"
)
"""A run's states and a model's versions: of use together with what they are of."""
_HUB: Final = r"(?:^|/)models--([^/]+?)--([^/]+)/(?:snapshots|blobs)/"
"""Patterns are compiled, and kept by `re`, when they are first used: importing this is part of others' start."""


def checkpoint_of(path: str) -> str:
    """The path without what numbers a shard: `model-of-00004.safetensors` of `model-00001-of-00004.safetensors`.

    One text for all shards of one checkpoint, and for nothing else: what was split anew may lie beside its former shards.
    """
    pure = PurePath(path)
    return str(pure.with_name(re.sub(SHARD, r"-of-\1", pure.stem) + pure.suffix)) if pure.name else path


def shards_in_all(path: str) -> int | None:
    """How many shards there are by the name of this one; None for a file that is no shard."""
    numbered = re.search(SHARD, PurePath(path).stem)
    return int(numbered[1]) if numbered else None


def hub_repository(path: str) -> str | None:
    """`org/name` from a path in a Hugging Face cache."""
    hub = re.search(_HUB, path)
    return f"{hub[1]}/{hub[2]}" if hub else None


def is_generic(path: str) -> bool:
    """Whether the file's own name is no model's (`model.safetensors`): what lies beside it tells of it, and of nothing else."""
    return re.match(_GENERIC, _without_packaging(re.sub(SHARD, "", PurePath(path).stem))) is not None


def file_group_name(paths: tuple[str, ...], metadata: Mapping[str, Mapping[str, str]]) -> str | None:
    """A name for one file or the shards of one: its own, unless its metadata say the same more fully.

    A file's `model_type` counts only where it contains all that the file's name says (`wan_high` and
    `Wan2_2-T2V-A14B-HIGH`), or where the file's name says nothing (`model.safetensors`): a fine-tune that carries its
    base model's metadata is still the fine-tune.
    """
    name = name_from_path(paths[0])
    for key in ("model_type", "modelspec.title"):
        stated = next((metadata[path][key].strip() for path in paths if metadata.get(path, {}).get(key)), "")
        if says_more(stated, name) and (telling := name_from_attribute(stated)) is not None:
            return telling
    return name


def says_more(stated: str, name: str | None) -> bool:
    """Whether every word of the name stands in what is stated, or there is no name."""
    if name is None:
        return True
    words = re.findall(r"[a-z0-9]+", name.lower())
    compact = re.sub(r"[^a-z0-9]", "", stated.lower())
    return bool(words) and all(word in compact for word in words)


def name_from_path(path: str) -> str | None:
    """`Wan2_2-T2V-A14B-HIGH` from `…/Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors`; None where the path says nothing.

    Hub caches give `org/name`, and `org/name/file` where the file's name says more than the repository's: many hold several
    models, or one in several quantizations. A generic stem (`diffusion_pytorch_model`) gives its directory's name, past
    component directories (`unet`, `text_encoder_2`), unless that is a place for models of any kind (`loras`, `output`, a home
    directory). What packaging and precision add to a name is left out.
    """
    pure = PurePath(path)
    stem = _without_packaging(re.sub(SHARD, "", pure.stem))
    tells = bool(stem) and not re.match(_GENERIC, stem)
    if repository := hub_repository(path):
        is_blob = "/blobs/" in path  # named by its content's hash
        return f"{repository}/{stem}" if tells and not is_blob and not says_more(repository, stem) else repository
    if tells:
        return stem
    for parent in pure.parents:
        if re.match(_COMPONENT, parent.name):
            continue
        if re.match(_STATE, parent.name):
            return f"{parent.parent.name}/{parent.name}" if _names_a_model(parent.parent) else None
        return parent.name if _names_a_model(parent) else None
    return None


def name_from_config(stated: str) -> str | None:
    """`org/name` as it is; of a local path its last telling part."""
    stated = stated.strip().rstrip("/")
    if repository := hub_repository(stated + "/"):
        return repository
    if stated.count("/") == 1 and not stated.startswith((".", "/", "~")) and all(map(_may_be_named, stated.split("/"))):
        return stated
    return name_from_path(stated + "/model") if stated else None


def name_from_attribute(stated: str) -> str | None:
    """What a module or a file calls itself; None for what says its place or nothing (`encoder`, `unet`, `model`)."""
    name = stated.strip()
    return None if not name or re.match(_GENERIC, name) or re.match(_COMPONENT, name) or name.lower() in ROLES else name


def _may_be_named(part: str) -> bool:
    """Whether this is the owner or the name of a repository; `models/unet` is a directory of somebody's."""
    return not (part.lower() in PLACES or re.match(_GENERIC, part) or re.match(_COMPONENT, part) or re.match(_STATE, part))


def _names_a_model(directory: PurePath) -> bool:
    """Whether somebody named this directory for a model, and not for what is kept there or for whose it is."""
    name = directory.name
    if not name or re.match(_GENERIC, name) or name.lower() in PLACES or name.startswith("tmp"):
        return False
    return directory.parent.as_posix() not in ("/home", "/Users")


def _without_packaging(stem: str) -> str:
    while (shorter := re.sub(_PACKAGING, "", stem)) != stem and shorter:
        stem = shorter
    return stem
