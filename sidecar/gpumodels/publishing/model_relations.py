"""Relates models to each other: which adapters each model has, and which models share storages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.model_variants import ModelVariants
from gpumodels_shared.schema import Model


def with_relations(models: Sequence[Model], ids: Mapping[FoundModel, str], variants: ModelVariants) -> list[Model]:
    """The models, each with its adapters and the models that it shares storages with."""
    present = {model.id for model in models}
    parents = {model.id: model.parent for model in models if model.parent in present}
    attached: dict[int, list[FoundModel]] = {}
    for adapter in ids:
        if adapter.attached_to is not None:
            attached.setdefault(adapter.attached_to, []).append(adapter)
    for base, base_id in ids.items() if attached else ():
        for key in attached.keys() & base.members if base.adapter is None else ():
            parents.update((ids[adapter], base_id) for adapter in attached[key] if adapter is not base)
    adapters: dict[str, list[str]] = {}
    for model_id, parent_id in parents.items():
        if parent_id is not None:
            adapters.setdefault(parent_id, []).append(model_id)
    shares = _sharers(ids)
    related = list(models)
    for number, model in enumerate(models):
        parent = parents.get(model.id)
        if adapters.get(model.id) or shares.get(model.id) or parent != model.parent:
            related[number] = variants.of(
                model,
                parent=parent,
                adapters=tuple(adapters.get(model.id, ())),
                shares_with=tuple(sorted(shares.get(model.id, frozenset()) - {model.id})),
            )
    return related


def _sharers(ids: Mapping[FoundModel, str]) -> dict[str, set[str]]:
    """By model, the ids of all models that share a storage with it, its own included."""
    shared = {key for one in ids for key in one.counted_elsewhere}
    holders: dict[tuple[str, int], set[str]] = {}
    for one, model_id in ids.items() if shared else ():
        for key in shared & one.storages.keys():
            holders.setdefault(key, set()).add(model_id)
    found: dict[str, set[str]] = {}
    for together in {frozenset(together) for together in holders.values()}:
        for model_id in together:
            found.setdefault(model_id, set()).update(together)
    return found
