"""Derives a model's name from its file's path: names without packaging, hub repositories, the shards of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from gpumodels_shared.no_names import FOLDER_NAMES, ROLE_NAMES

SHARD: Final = r"[-_.]\d{5}-of-(\d{5})$"
_PACKAGING: Final = (
    r"(?i)[-_.](fp8|float8|fp16|float16|f16|half|bf16|bfloat16|fp32|float32|f32|e4m3fn|e5m2|scaled|(fp8)?mixed|KJ|pruned|emaonly|ema|"
    r"fp4|nf4|nvfp4|mxfp[48](_moe)?|int[48]|"
    r"((ud|i1)[-_.])?(i?q\d_(\d(_\d_\d)?|k(_(s|m|l|xl|xxl))?|xxs|xs|s|m|nl|xl)|tq\d_\d))$"
)
"""Precisions and what else says how a file is packed; the last line is GGUF's types (`Q4_K_M`, `IQ3_XXS`), as llama.cpp and those
who quantize write them (`UD-Q4_K_XL`, `i1-Q4_K_S`)."""
_COMPONENT: Final = (
    r"^((unet|vae|transformer|text_encoder|image_encoder|controlnet|prior|decoder|safety_checker|feature_extractor|vqvae|vqgan|movq|"
    r"vocoder|motion_adapter|language_model|projection_model)(_\d)?|prior_prior|\d+_[A-Z]\w*|fp8|fp16|bf16|fp32|float16|bfloat16)$"
)
"""Names of directories inside a model's own: diffusers' components, sentence-transformers' modules (`2_Dense`), precisions."""
_GENERIC: Final = (
    r"(?i)^(model|models|pytorch_model|diffusion_pytorch_model|adapter_model|adapter|weights?|checkpoint|ckpt|consolidated(\.\d+)?|"
    r"open_clip_(pytorch_)?model|tf_model|state_dict|pytorch_lora_weights|lora_weights|ema|final|last|best|\d+)$"
)
_STATE: Final = (
    r"(?i)^((checkpoint|epoch|step|iter|global_step)[-_]?\d+|v?\d+([._]\d+)*|model|weights|checkpoint|ckpt|ema|final|last|best)$"
)
"""Names of a training run's states and a model's versions: only useful together with the name of the directory above."""
_SAVED_STATE: Final = (
    r"(?i)^((best|last|latest|final|ema)([-_](model|weights|checkpoint|ckpt|v?\d+))?|\d+|"
    r"(model|weights|checkpoint|ckpt)[-_](best|last|latest|final|ema)|(checkpoint|ckpt|epoch|step|iter|global_step)[-_=]?\d+([-_=.]\w+)*)$"
)
"""Names of a training run's files, of which its folder holds several (`best.pt` and `last.pt`): they are told apart by both."""
_STATES_FOLDER: Final = r"(?i)^(weights?|models?|checkpoints?|ckpts?|snapshots?|states?)$"
"""Names of the folder inside a training run's in which it keeps its files."""
_NUMBERED: Final = r"(?i)^[a-z]\w*[-_=]?\d+.*$"
_CONTENT_HASH: Final = r"(?i)^((sha|md|blake)\w*(-s\d+)?[-_:]+)?[0-9a-f]{30,}$"
"""Names that stores give to what they keep: hashes of 128 bits and more; the first two digits may be a folder's name."""
_UUID: Final = r"(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_TEMPORARY: Final = r"^tmp[a-z0-9_]{8}$"
"""Names that Python's `tempfile` gives, and with which downloads and copies are read."""
_FILE_SUFFIX: Final = r"(?i)\.(safetensors|sft|gguf|ggml|pt|pth|bin|ckpt|pkl|onnx|engine|torchscript|ya?ml|json|toml)$"
"""Suffixes of model files, and of the files that describe an architecture."""
_HUB: Final = r"(?:^|/)models--([^/]+?)--([^/]+)/(?:snapshots|blobs)/"
"""A path in a Hugging Face cache. Like all patterns here it is compiled by `re` at first use, to keep the host's start fast."""


def checkpoint_of(path: str) -> str:
    """The path without the shard's number: `model-of-00004.safetensors` for `model-00001-of-00004.safetensors`.

    It is the same for all shards of a checkpoint, and differs if a checkpoint was split again into another number of shards.
    """
    pure = PurePath(path)
    return str(pure.with_name(re.sub(SHARD, r"-of-\1", pure.stem) + pure.suffix)) if pure.name else path


def shards_in_all(path: str) -> int | None:
    """The number of shards that this shard's name states; None if the file isn't a shard."""
    numbered = re.search(SHARD, PurePath(path).stem)
    return int(numbered[1]) if numbered else None


def hub_repository(path: str) -> str | None:
    """`org/name` from a path in a Hugging Face cache; None for other paths."""
    hub = re.search(_HUB, path)
    return f"{hub[1]}/{hub[2]}" if hub else None


def is_generic(path: str) -> bool:
    """Whether the file's own name doesn't name a model (`model.safetensors`); its directory then holds this model only."""
    return re.match(_GENERIC, _without_packaging(re.sub(SHARD, "", PurePath(path).stem))) is not None


def is_named_by_content(path: str) -> bool:
    """Whether the file lies in a store that calls it by its content's hash: what people call it, the symlinks to it say."""
    return re.match(_CONTENT_HASH, PurePath(path).stem) is not None or re.search(r"(?:^|/)models--[^/]+/blobs/", path) is not None


def file_group_name(paths: tuple[str, ...], metadata: Mapping[str, Mapping[str, str]]) -> str | None:
    """A name for a file or the shards of a checkpoint: the file's, which is what users chose and search for.

    Only where the path names no model (`model.safetensors` in a folder for anything) is it the metadata's `model_type` or title.

    Args:
        paths: the file, or the shards.
        metadata: the files' metadata, by path.
    """
    name = name_from_path(paths[0])
    if name is not None:
        return name
    for key in ("model_type", "modelspec.title"):
        stated = next((metadata[path][key].strip() for path in paths if metadata.get(path, {}).get(key)), "")
        if (stated_name := name_from_attribute(stated)) is not None:
            return stated_name
    return None


def contains_name(stated: str, name: str | None) -> bool:
    """Whether the stated text contains every word of the name, whatever its case and punctuation; True if there is no name."""
    if name is None:
        return True
    words = re.findall(r"[a-z0-9]+", name.lower())
    compact = re.sub(r"[^a-z0-9]", "", stated.lower())
    return bool(words) and all(word in compact for word in words)


def name_from_path(path: str) -> str | None:
    """`Wan2_2-T2V-A14B-HIGH` from `…/Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors`; None if the path names no model.

    A path in a hub cache gives `org/name`, or `org/name/file` if the file's name has words that the repository's lacks: many
    repositories hold several models, or one in several quantizations. A generic stem (`diffusion_pytorch_model`) gives the name
    of the nearest directory above that isn't a component (`unet`, `text_encoder_2`), unless that is a folder for models of any
    kind (`loras`, `output`, a home directory). A training run's file has both names, `run/best`, or its own where the directory
    says nothing. A hash of the content is no name. Suffixes for packaging and precision are left out.
    """
    pure = PurePath(path)
    stem = _without_packaging(re.sub(SHARD, "", pure.stem))
    is_state = re.match(_SAVED_STATE, stem) is not None
    is_name = bool(stem) and not re.match(_GENERIC, stem)
    if repository := hub_repository(path):
        is_blob = "/blobs/" in path  # named by its content's hash
        return (
            f"{repository}/{stem}"
            if (is_name or is_state) and not is_blob and not contains_name(repository, stem)
            else repository
        )
    if re.match(_CONTENT_HASH, stem) or re.match(_TEMPORARY, stem):
        return None
    if is_name and not is_state:
        return stem
    folder = _name_from_folder(pure, is_state)
    if not is_state:
        return folder
    return f"{folder}/{stem}" if folder is not None else None if stem.isdigit() else stem


def _name_from_folder(file: PurePath, is_state: bool) -> str | None:
    """The name of the nearest directory above the file that is a model's own; None if that isn't named after a model.

    Args:
        file: the file.
        is_state: it is one of a training run's, which keeps them in a folder of its own.
    """
    for parent in file.parents:
        if re.match(_COMPONENT, parent.name) or (is_state and re.match(_STATES_FOLDER, parent.name)):
            continue
        if re.match(_STATE, parent.name):
            alone = parent.name if re.match(_NUMBERED, parent.name) and not re.match(r"v\d", parent.name) else None
            return f"{parent.parent.name}/{parent.name}" if _names_a_model(parent.parent) else alone
        return parent.name if _names_a_model(parent) else None
    return None


def name_from_config(stated: str) -> str | None:
    """A name from a config's `_name_or_path`: `org/name` unchanged, from a local path by `name_from_path`; else None."""
    stated = stated.strip().rstrip("/")
    if re.search(_FILE_SUFFIX, stated):
        return name_from_path(stated)
    if repository := hub_repository(stated + "/"):
        return repository
    if stated.count("/") == 1 and not stated.startswith((".", "/", "~")) and all(map(_may_be_named, stated.split("/"))):
        return stated
    return name_from_path(stated + "/model") if stated else None


def name_from_attribute(stated: str) -> str | None:
    """The name that a module or a file states for itself; None if it only describes a role (`encoder`, `unet`, `model`).

    What it states may be the file that it was made from: `yolo11n` from `yolo11n.yaml`.
    """
    name = stated.strip()
    if re.search(_FILE_SUFFIX, name):
        name = name_from_path(name) or ""
    return None if not name or re.match(_GENERIC, name) or re.match(_COMPONENT, name) or name.lower() in ROLE_NAMES else name


def _may_be_named(part: str) -> bool:
    """Whether this can be the owner or the name of a hub repository; `models/unet`, for example, is a local directory."""
    return not (part.lower() in FOLDER_NAMES or re.match(_GENERIC, part) or re.match(_COMPONENT, part) or re.match(_STATE, part))


def _names_a_model(directory: PurePath) -> bool:
    """Whether the directory seems to be named after a model, not after what is kept there or whom it belongs to."""
    name = directory.name
    if not name or re.match(_GENERIC, name) or name.lower() in FOLDER_NAMES or name.startswith("tmp"):
        return False
    if re.match(_CONTENT_HASH, name) or re.match(_UUID, name):
        return False
    return directory.parent.as_posix() not in ("/home", "/Users")


def _without_packaging(stem: str) -> str:
    while (shorter := re.sub(_PACKAGING, "", stem)) != stem and shorter:
        stem = shorter
    return stem
