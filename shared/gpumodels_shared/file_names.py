"""Derives a model's name from its file's path: names without packaging, hub repositories, the shards of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from gpumodels_shared.made_up_names import is_content_digest, without_store_prefix
from gpumodels_shared.name_senses import (
    Sense,
    is_generic_stem,
    is_states_folder,
    may_be_in_hub,
    says_nothing,
    sense_of_file,
    sense_of_folder,
    stands_alone,
)
from gpumodels_shared.shards import shard_of
from gpumodels_shared.store_layouts import is_framework, named_in_store, spelled

_PACKAGING: Final = (
    r"(?i)[-_.](fp8|float8|fp16|float16|f16|half|bf16|bfloat16|fp32|float32|f32|e4m3fn|e5m2|scaled|(fp8)?mixed|KJ|pruned|emaonly|ema|"
    r"fp4|nf4|nvfp4|mxfp[48](_moe)?|int[48]|"
    r"((ud|i1)[-_.])?(i?q\d_(\d(_\d_\d)?|k(_(s|m|l|xl|xxl))?|xxs|xs|s|m|nl|xl)|tq\d_\d))$"
)
"""Precisions and what else says how a file is packed; the last line is GGUF's types (`Q4_K_M`, `IQ3_XXS`), as llama.cpp and those
who quantize write them (`UD-Q4_K_XL`, `i1-Q4_K_S`)."""
_MODEL_SUFFIX: Final = r"safetensors|sft|gguf|ggml|pt|pth|bin|ckpt|pkl|onnx|engine|torchscript|ya?ml|json|toml"
_PACKED: Final = r"tar|t?gz|bz2|xz|zst|zip"
_FILE_SUFFIX: Final = rf"(?i)(?<=.)(\.({_MODEL_SUFFIX})(\.(index|json|bak|tmp|part|incomplete|{_PACKED}))*|\.({_PACKED}))$"
"""Suffixes of model files, of the files that describe an architecture, and of how these are packed. Like all patterns here it is
compiled by `re` at first use, to keep the host's start fast."""


def is_generic(path: str) -> bool:
    """Whether the file's own name doesn't name a model (`model.safetensors`); its directory then holds this model only."""
    return is_generic_stem(_stem_of(path))


def is_named_by_content(path: str) -> bool:
    """Whether the file lies in a store that calls it by its content's hash: what people call it, the symlinks to it say."""
    return is_content_digest(PurePath(path).stem) or re.search(r"(?:^|/)models--[^/]+/blobs/", path) is not None


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

    A path in a hub's cache gives `org/name`, or `org/name/file` if the file's name has words that the repository's lacks: many
    repositories hold several models, or one in several quantizations. A generic stem (`diffusion_pytorch_model`) gives the name
    of the nearest directory above that isn't a component (`unet`, `text_encoder_2`), unless that is a folder for models of any
    kind (`loras`, `output`, a home directory). A training run's file has both names, `run/best`, or its own where the directory
    says nothing. What a program made up, as a hash of the content, is no name. Suffixes for packaging and precision are left out.
    """
    stem = _stem_of(path)
    sense = sense_of_file(stem)
    if (repository := _repository(path)) is not None:
        says_more = sense in (Sense.NAME, Sense.STATE) and "/blobs/" not in path and not contains_name(repository, stem)
        return f"{repository}/{stem}" if says_more else repository
    if sense is Sense.END:
        return None
    if sense is Sense.NAME:
        return stem
    folder = _name_from_folders(PurePath(path), is_state=sense is Sense.STATE)
    if sense is Sense.NOTHING:
        return folder
    return f"{folder}/{stem}" if folder is not None else stem if stands_alone(stem, is_folder=False) else None


def _repository(path: str) -> str | None:
    """What the model is called in the store of a hub or a program; None where the path doesn't lead through one."""
    stored = named_in_store(path)
    if stored is None:
        return None
    name, is_certain = stored
    return name if is_certain or all(may_be_in_hub(part) or is_framework(part) for part in name.split("/")) else None


def _name_from_folders(file: PurePath, is_state: bool) -> str | None:
    """The name of the nearest directory above the file that is a model's own; None if none is named after a model.

    Args:
        file: the file.
        is_state: it is one of a training run's, which keeps them in a folder of its own.
    """
    states: list[str] = []
    may_be_in_states_folder = True
    for directory in file.parents:
        name = re.sub(_FILE_SUFFIX, "", without_store_prefix(directory.name))
        if (is_state or states) and may_be_in_states_folder and is_states_folder(name):
            may_be_in_states_folder = False
            continue
        sense = sense_of_folder(directory, name)
        if sense is Sense.END:
            break
        if sense is Sense.NAME:
            return "/".join((spelled(name), *reversed(states)))
        if sense is Sense.STATE:
            states.append(name)
    return "/".join(state for state in reversed(states) if stands_alone(state, is_folder=True)) or None


def name_from_config(stated: str) -> str | None:
    """A name from a config's `_name_or_path`: `org/name` unchanged, from a local path by `name_from_path`; else None."""
    stated = stated.strip().rstrip("/")
    if re.search(_FILE_SUFFIX, stated):
        return name_from_path(stated)
    if stated.count("/") == 1 and not stated.startswith((".", "/", "~")) and all(map(may_be_in_hub, stated.split("/"))):
        return stated
    return name_from_path(stated + "/model") if stated else None


def name_from_attribute(stated: str) -> str | None:
    """The name that a module or a file states for itself; None if it only describes a role (`encoder`, `unet`, `model`).

    What it states may be the file that it was made from: `yolo11n` from `yolo11n.yaml`.
    """
    name = stated.strip()
    if re.search(_FILE_SUFFIX, name):
        name = name_from_path(name) or ""
    return None if says_nothing(name) else name


def _stem_of(path: str) -> str:
    """The file's name without suffixes, the shard's number and packaging."""
    name = PurePath(path).name
    if (shard := shard_of(name)) is not None:
        return _without_packaging(without_store_prefix(shard.stem))
    stem = re.sub(_FILE_SUFFIX, "", name)
    if stem == name:
        stem = re.sub(r"(?<=.)\.[A-Za-z]\w*$", "", name)
    return _without_packaging(without_store_prefix(stem))


def _without_packaging(stem: str) -> str:
    while (shorter := re.sub(_PACKAGING, "", stem)) != stem and shorter:
        stem = shorter
    return stem
