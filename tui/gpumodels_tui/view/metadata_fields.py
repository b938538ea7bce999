"""The table of raw metadata keys for each fact, in order of precedence. docs/metadata.md describes it for users.

modelspec.* (the ModelSpec standard) comes first, then GGUF's general.*, kohya's ss_* and sshs_*, the plain keys that other tools
write, and last the configs beside the file (`config.*` of transformers and diffusers, `adapter_config.*` of PEFT). Keys of values
inside others, and of components (`*`), are those of `nested_metadata`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Final


def _plain(value: str) -> str | None:
    return value


def _resolution(value: str) -> str | None:
    """`1024×1024` from `1024x1024`, `(1024, 1024)` or `1024`; anything else unchanged."""
    numbers = re.findall(r"\d+", value)
    if not re.fullmatch(r"[\s()\[\],xX×\d]+", value) or not 1 <= len(numbers) <= 2:
        return value
    return "×".join(numbers if len(numbers) == 2 else numbers * 2)


def _day(value: str) -> str | None:
    """`2026-05-28` from ISO 8601 or from seconds since the epoch; None for anything else."""
    if match := re.match(r"\d{4}-\d\d-\d\d", value):
        return match[0]
    try:
        return datetime.fromtimestamp(float(value), timezone.utc).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _words(value: str) -> str | None:
    """`sks dog, oil painting` from that text, or from a list of texts in JSON."""
    if not value.startswith("["):
        return value
    import msgspec  # large, and rarely needed

    try:
        found: list[str] = msgspec.json.decode(value, type=list[str])
    except msgspec.MsgspecError:
        return value
    return ", ".join(word for word in found if word.strip()) or None


def _hash(value: str) -> str | None:
    return value.removeprefix("0x")


FIELDS: Final[tuple[tuple[str, tuple[str, ...], Callable[[str], str | None]], ...]] = (
    ("title", ("modelspec.title", "general.name", "ss_output_name", "title", "name"), _plain),
    ("model type", ("model_type",), _plain),
    (
        "architecture",
        (
            "modelspec.architecture",
            "general.architecture",
            "architecture",
            "config._class_name",
            "config.architectures",
            "config.model_type",
        ),
        _plain,
    ),
    (
        "base model",
        (
            "general.base_model.0.name",
            "general.base_model.0.repo_url",
            "ss_sd_model_name",
            "ss_base_model_version",
            "base_model",
            "base_model_name_or_path",
            "ot_config.base_model_name",
            "lora_adapter_metadata.*.base_model_name_or_path",
            "adapter_config.base_model_name_or_path",
            "config._name_or_path",
        ),
        _plain,
    ),
    ("merged from", ("modelspec.merged_from",), _plain),
    ("author", ("modelspec.author", "general.author", "general.organization", "author", "creator"), _plain),
    ("license", ("modelspec.license", "general.license", "general.license.name", "license"), _plain),
    ("description", ("modelspec.description", "general.description", "ss_training_comment", "description"), _plain),
    ("usage", ("modelspec.usage_hint",), _plain),
    (
        "resolution",
        ("modelspec.resolution", "ss_resolution", "resolution", "config.image_size"),
        _resolution,
    ),
    (
        "rank",
        (
            "ss_network_dim",
            "lora_rank",
            "rank",
            "network_dim",
            "lora_dim",
            "lora_adapter_metadata.*.r",
            "lora_adapter_metadata.r",
            "*.r",
            "ot_config.lora_rank",
            "lora_config.r",
            "peft_config.r",
            "adapter_config.r",
        ),
        _plain,
    ),
    (
        "alpha",
        (
            "adapter.lora.alpha",
            "ss_network_alpha",
            "lora_alpha",
            "alpha",
            "network_alpha",
            "lora_adapter_metadata.*.lora_alpha",
            "lora_adapter_metadata.lora_alpha",
            "*.lora_alpha",
            "ot_config.lora_alpha",
            "lora_config.lora_alpha",
            "peft_config.lora_alpha",
            "adapter_config.lora_alpha",
        ),
        _plain,
    ),
    (
        "trigger words",
        (
            "modelspec.trigger_phrase",
            "ss_trigger_words",
            "trigger_phrase",
            "trigger_words",
            "trigger_word",
            "trained_words",
            "ss_trained_words",
            "instance_prompt",
        ),
        _words,
    ),
    ("training steps", ("ss_steps", "training_info.step", "global_step", "steps", "ss_max_train_steps"), _plain),
    ("training epochs", ("ss_epoch", "training_info.epoch", "epoch", "ss_num_epochs"), _plain),
    ("training images", ("ss_num_train_images",), _plain),
    ("date", ("modelspec.date", "general.date", "ss_training_finished_at", "ss_training_started_at"), _day),
    ("hash", ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash"), _hash),
)

ABSENT: Final = frozenset({"", "none", "null"})
"""Values without a meaning; the next key in the table is used instead."""

REPOSITORIES: Final = ("general.source.huggingface.repository", "general.source.repo_url", "general.repo_url")
"""Keys that name the repository of a file that isn't in a Hugging Face cache."""
