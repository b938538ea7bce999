"""What model files add to a model: facts in people's terms, and a better name where the sidecar had none. Pure; never a guess.

Raw keys to facts stand in one table, `FIELDS`, in order of precedence: modelspec.* (the ModelSpec standard), GGUF's general.*,
kohya's ss_* and sshs_*, then the plain words that other tools write. Blank values and `None` count as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Model
from gpumodels_shared.units import format_bytes
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts

SURE_ENOUGH: Final = 0.6
"""Below it the sidecar's name is the class."""

LONGEST_NAME: Final = 300


def _plain(value: str) -> str | None:
    return value


def _resolution(value: str) -> str | None:
    """`1024×1024` from `1024x1024`, `(1024, 1024)`, `1024`; anything else as it stands."""
    numbers = re.findall(r"\d+", value)
    if not re.fullmatch(r"[\s()\[\],xX×\d]+", value) or not 1 <= len(numbers) <= 2:
        return value
    return "×".join(numbers if len(numbers) == 2 else numbers * 2)


def _day(value: str) -> str | None:
    """`2026-05-28` from ISO 8601 or from seconds since the epoch; None where it is neither."""
    if match := re.match(r"\d{4}-\d\d-\d\d", value):
        return match[0]
    try:
        return datetime.fromtimestamp(float(value), timezone.utc).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _hash(value: str) -> str | None:
    return value.removeprefix("0x")


FIELDS: Final[tuple[tuple[str, tuple[str, ...], Callable[[str], str | None]], ...]] = (
    ("title", ("modelspec.title", "general.name", "ss_output_name"), _plain),
    ("model type", ("model_type",), _plain),
    ("architecture", ("modelspec.architecture", "general.architecture", "architecture"), _plain),
    (
        "base model",
        (
            "base_model",
            "base_model_name_or_path",
            "general.base_model.0.name",
            "ss_sd_model_name",
            "ss_base_model_version",
        ),
        _plain,
    ),
    ("author", ("modelspec.author", "general.author", "general.organization", "author"), _plain),
    ("license", ("modelspec.license", "general.license", "license"), _plain),
    ("description", ("modelspec.description", "general.description", "description"), _plain),
    ("resolution", ("modelspec.resolution", "ss_resolution"), _resolution),
    ("rank", ("ss_network_dim", "lora_rank", "rank"), _plain),
    ("alpha", ("ss_network_alpha", "lora_alpha", "alpha"), _plain),
    ("trigger words", ("modelspec.trigger_phrase", "trigger_phrase", "trigger_words"), _plain),
    ("training steps", ("ss_steps", "ss_max_train_steps"), _plain),
    ("training epochs", ("ss_epoch", "ss_num_epochs"), _plain),
    ("date", ("modelspec.date", "ss_training_finished_at", "ss_training_started_at"), _day),
    ("hash", ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash"), _hash),
)

ABSENT: Final = frozenset({"", "none", "null"})

_HUB: Final = re.compile(r"(?:^|/)models--([^/]+?)--([^/]+)/(?:snapshots|blobs)/")


def enrich(model: Model, catalogue: CatalogueState) -> tuple[str, dict[str, str]]:
    """Its name, and its facts in people's words and order; both safe to draw."""
    metadata = merged_metadata(model, catalogue)
    facts: dict[str, str] = {}
    for label, keys, read in FIELDS:
        for key in keys:
            value = metadata.get(key)
            if value and (value := value.strip()).lower() not in ABSENT and (shown := read(value)):
                facts[label] = safe_text(shown)
                break
    if "architecture" not in facts and model.architecture:
        facts["architecture"] = safe_text(model.architecture)
    files = known_files(model, catalogue)
    if in_files := _precision(_summed(file.dtypes for file in files)):
        facts["precision in file"] = in_files
    if in_memory := _precision(model.dtypes):
        facts["precision in memory"] = in_memory
    if repository := _repository(model):
        facts["repository"] = repository
    return shown_name(model, catalogue), facts


def known_files(model: Model, catalogue: CatalogueState) -> tuple[FileFacts, ...]:
    """What the catalogue knows of the files that the model came from, each once."""
    found = (catalogue.by_path.get(path) for path in model.files)
    return tuple({facts.path: facts for facts in found if facts is not None}.values())


def merged_metadata(model: Model, catalogue: CatalogueState) -> dict[str, str]:
    """Raw keys and values. What the sidecar saw at loading stands above what the files say now; the main file above others."""
    merged: dict[str, str] = {}
    for facts in reversed(known_files(model, catalogue)):
        merged.update(facts.metadata)
    merged.update(model.metadata)
    return merged


def shown_name(model: Model, catalogue: CatalogueState) -> str:
    """Safe to draw; with `?` where the sidecar itself only guesses."""
    name = safe_text(stated_name(model, catalogue) or model.name, LONGEST_NAME)
    is_guess = model.confidence < SURE_ENOUGH and model.name_source != "class"
    return f"{name}?" if is_guess else name


def stated_name(model: Model, catalogue: CatalogueState) -> str | None:
    """What the model's one file says that it is, where the sidecar knew the file but not what stands in it, and sizes agree."""
    if model.confidence >= SURE_ENOUGH or model.name_source != "class" or model.candidates or len(model.files) != 1:
        return None
    files = known_files(model, catalogue)
    in_file = sum(size for file in files for size in file.dtypes.values())
    in_all = max(model.resident_bytes, model.on_device_bytes + model.offloaded_bytes)
    if not 0 < in_file <= 2 * in_all or in_all > 2 * in_file:
        return None  # a part of the model, or of the file: whose name would it be?
    metadata = merged_metadata(model, catalogue)
    stated = (metadata.get(key, "").strip() for key in ("model_type", "modelspec.title"))
    return next((name for name in stated if name.lower() not in ABSENT), None)


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for key, size in one.items():
            total[key] = total.get(key, 0) + size
    return total


def _precision(dtypes: Mapping[str, int]) -> str:
    """`bfloat16`, or with sizes where there are several, most bytes first: `float8_e4m3fn 13.3 GB, float32 2.1 MB`."""
    ordered = sorted(dtypes.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(ordered) == 1:
        return safe_text(ordered[0][0], 40)
    return ", ".join(f"{safe_text(dtype, 40)} {format_bytes(size)}" for dtype, size in ordered[:8])


def _repository(model: Model) -> str | None:
    """`org/name` from a Hugging Face cache's paths."""
    for path in model.files:
        if hub := _HUB.search(path):
            return safe_text(f"{hub[1]}/{hub[2]}", 200)
    return None
