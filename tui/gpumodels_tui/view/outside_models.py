"""The models of a process without a sidecar as they are shown: by name, and with how each is known. Safe to draw."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from gpumodels_shared.file_names import file_group_name, is_generic, is_named_by_content, name_from_config
from gpumodels_shared.records import Record
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.shards import shard_of
from gpumodels_shared.units import format_bytes
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.outside.facts import KnownBy, OutsideFacts, OutsideModel

LONGEST_NAME: Final = 300
MOST_NAMES: Final = 3
MOST_FILES: Final = 4
WORDS: Final = {
    KnownBy.MAPPED: "mapped",
    KnownBy.OPEN: "open",
    KnownBy.SERVER: "its server says",
    KnownBy.ARGUMENT: "in its arguments",
}


class ShownModel(Record):
    """One model of a process without a sidecar."""

    name: str
    """What people call it: its file where that has a name of its own, else the model's, the repository's or the store's."""
    how: str
    """How it is known: `mapped`, `open`, `its server says`, `in its arguments`."""
    model: OutsideModel
    about: str = ""
    """What its file says that it is: `Q4_K_M`, its title."""

    @property
    def may_not_be_loaded(self) -> bool:
        """Whether it is only named by an argument."""
        return self.model.known_by is KnownBy.ARGUMENT


class ShownModels:
    """What is shown of each process; made again only when its facts or the model files change."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[OutsideFacts, CatalogueState, tuple[ShownModel, ...]]] = {}

    def of(self, pid: int, facts: OutsideFacts, catalogue: CatalogueState) -> tuple[ShownModel, ...]:
        """As `shown_models`."""
        if not facts.models:
            return ()
        made = self._made.get(pid)
        if made is None or made[0] is not facts or made[1] is not catalogue:
            made = self._made[pid] = facts, catalogue, shown_models(facts, catalogue)
        return made[2]

    def keep(self, pids: Container[int]) -> None:
        """Forget all other processes."""
        self._made = {pid: made for pid, made in self._made.items() if pid in pids}


def shown_models(facts: OutsideFacts, catalogue: CatalogueState) -> tuple[ShownModel, ...]:
    """All that are known of, the most certain first."""
    return tuple(
        ShownModel(
            safe_text(_shown_name(model, catalogue), LONGEST_NAME),
            WORDS[model.known_by] + (", deleted since" if model.is_deleted else ""),
            model,
            _about(model, catalogue),
        )
        for model in facts.models
    )


def summary(models: Sequence[ShownModel]) -> tuple[str, str]:
    """The name of the first, with how many others are known alike, and how they are known; both empty without models."""
    if not models:
        return "", ""
    alike = sum(one.model.known_by is models[0].model.known_by for one in models)
    return models[0].name + (f" and {alike - 1} more" if alike > 1 else ""), models[0].how


def model_name(model: OutsideModel, catalogue: CatalogueState) -> str | None:
    """The name by the rules for all models; None if nothing names it. Not safe to draw."""
    if model.stated and (model.known_by is not KnownBy.ARGUMENT or not model.files or is_named_by_content(model.files[0])):
        named = dict.fromkeys(_stated_name(one) for one in model.stated)
        more = len(named) - MOST_NAMES
        return " or ".join(list(named)[:MOST_NAMES]) + (f" or {more} more" if more > 0 else "")
    if not model.files:
        return None
    read = {path: facts.metadata for path in model.files if model.is_here and (facts := catalogue.by_path.get(path)) is not None}
    return file_group_name(model.files, read)


def in_words(one: ShownModel) -> str:
    """The model in one line: `Qwen3-8B-Q4_K_M.gguf (mapped), a file of 4.7 GB, Q4_K_M`."""
    model = one.model
    parts = [f"{one.name} ({one.how})"]
    if model.known_by in (KnownBy.SERVER, KnownBy.ARGUMENT):
        parts[0] = f"{one.name} ({one.how}: {safe_text(model.said_by, 80)})"
    if model.file_bytes is not None:
        files = "a file" if len(model.files) == 1 else f"{len(model.files)} files"
        parts.append(f"{files} of {format_bytes(model.file_bytes)}")
    if model.mapped_bytes and model.mapped_bytes < (model.file_bytes or model.mapped_bytes + 1):
        parts.append(f"{format_bytes(model.mapped_bytes)} mapped")
    if one.about:
        parts.append(one.about)
    return ", ".join(parts)


def _shown_name(model: OutsideModel, catalogue: CatalogueState) -> str:
    if model.files and not is_generic(model.files[0]) and not is_named_by_content(model.files[0]):
        name = model.files[0].rpartition("/")[2]
        shard = shard_of(name)
        return name if shard is None else f"{shard.stem}.{name.rpartition('.')[2]}"
    return model_name(model, catalogue) or (model.files or model.stated)[0].rpartition("/")[2]


def _stated_name(stated: str) -> str:
    """`Qwen3-8B` from a path, `Qwen/Qwen3-8B` and whatever else is no path unchanged."""
    return (name_from_config(stated) or stated.rstrip("/").rpartition("/")[2]) if stated.startswith(("/", ".", "~")) else stated


def _about(model: OutsideModel, catalogue: CatalogueState) -> str:
    facts = catalogue.by_path.get(model.files[0]) if model.files and model.is_here and not model.is_deleted else None
    if facts is None:
        return ""
    title = facts.metadata.get("general.name") or facts.metadata.get("modelspec.title") or ""
    return ", ".join(filter(None, [safe_text(title, 80), safe_text(facts.precision or "", 40)]))
