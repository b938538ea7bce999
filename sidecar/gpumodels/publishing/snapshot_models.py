"""Turns the models that were found into those of a snapshot: with id, age, name, kind, metadata and relations."""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import FormerModel, FoundModel
from gpumodels.models.comfy_manager import MANAGER, Managed
from gpumodels.naming.evidence import Naming
from gpumodels.naming.kinds import kind_of
from gpumodels.naming.model_names import Identified, ModelNames
from gpumodels.naming.model_variants import ModelVariants
from gpumodels.naming.rival_names import without_rival_names
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.publishing.model_relations import with_relations
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import KeyedRef, WeakTable
from gpumodels.use.last_uses import Use
from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.precision import fits
from gpumodels_shared.schema import SMALL_MODEL_BYTES, SMALL_MODELS_ID, LayerTree, Model

HOST: Final = "cpu"
UNSEEN_MODEL: Final = "a deleted model"
"""Stands for the name of a model that lived too briefly to be seen, of which something is left."""
_ALL_AS_FOUND: Final[Mapping[FoundModel, FoundModel]] = {}
_NONE_MANAGED: Final[Mapping[FoundModel, Managed]] = {}
_NONE_KNOWN: Final[Mapping[FoundModel, Use]] = {}
MAX_MODELS: Final = 8000
"""Readers refuse lists of more than 10,000."""


@never_pickled
class _Described(NamedTuple):
    """A model as a snapshot has it, and what it was made from: made from the same again, it is the same object."""

    found: FoundModel
    identified: Identified
    accelerator: str | None
    model: Model
    use: Use | None = None


@never_pickled
@dataclass(slots=True)
class _Identity:
    """A model's id and age, which stay the same while it lives, and what was last published of it."""

    model_id: str
    first_seen_ns: int
    accelerator: str | None = None
    """The accelerator that held most of it when it was last on any."""
    adapters_seen_ns: dict[str, int] = field(default_factory=dict)
    """When each of its adapters was first seen."""
    described: dict[str | None, _Described] = field(default_factory=dict)
    """By adapter's name, and None for the model itself, how each was last described."""


@never_pickled
class SnapshotModels:
    """Remembers each model's identity by its core module, so that moves, casts and wrappers change neither id nor age."""

    def __init__(self, registry: ModuleRegistry, model_names: ModelNames, failures: Failures) -> None:
        self._registry = registry
        self._model_names = model_names
        self._failures = failures
        self._identities: WeakTable[_Identity] = WeakTable()
        self._cores: dict[str, weakref.ref[Any]] = {}
        self._variants = ModelVariants()
        self._names: dict[int, tuple[KeyedRef, str]] = {}
        """By `id()` of the reference to its core, that reference and the latest name of each model, for what is left of it."""
        self._count = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What viewers should say about this process."""
        return self._model_names.warnings

    def models(
        self,
        found: Sequence[FoundModel],
        now_ns: int,
        *,
        shown: Mapping[FoundModel, FoundModel] = _ALL_AS_FOUND,
        managed: Mapping[FoundModel, Managed] = _NONE_MANAGED,
        used: Mapping[FoundModel, Use] = _NONE_KNOWN,
    ) -> tuple[Model, ...]:
        """Every model, largest first; those below SMALL_MODEL_BYTES are summed up in one.

        Args:
            found: the scan's models.
            now_ns: realtime nanoseconds.
            shown: those of them that are to be shown with other memory than they were found with; names don't depend on it.
            managed: those of them that the host's own model manager knows.
            used: those of which it is known when they last ran.
        """
        large: list[Model] = []
        self._cores = {model_id: core for model_id, core in self._cores.items() if core() is not None}
        with self._failures.guard("reading pipelines"):
            self._model_names.begin(found)
        ids: dict[FoundModel, str] = {}
        listed, small = _listed(found)
        for one in listed:
            # No failure if the host has deleted the model meanwhile, as it may at any moment.
            with self._failures.guard("describing a model"), suppress(ReferenceError):
                core = self._registry.ref(one.core)
                if core is not None:
                    model = self._model(one, shown.get(one, one), core, now_ns, used.get(one))
                    ids[one] = model.id
                    large.append(model)
        if len(self._names) > len(large):
            self._forget_names(found)
        large = with_relations(without_rival_names(large, self._variants), ids, self._variants)
        if managed:
            by_id = {ids[one]: known for one, known in managed.items() if one in ids}
            large = [self._managed(model, by_id.get(model.id)) for model in large]
        self._variants.forget_unused()
        large.sort(key=lambda model: (-model.resident_bytes, -model.offloaded_bytes, model.name, model.id))
        return (*large, *([_sum_of_small(small, now_ns)] if small else []))

    def _managed(self, model: Model, known: Managed | None) -> Model:
        if known is None:
            return model
        return self._variants.of(model, managed_by=MANAGER, managed_bytes=known.loaded_bytes)

    def _forget_names(self, found: Sequence[FoundModel]) -> None:
        """Forget the names of dead models of which nothing is left."""
        needed = {id(one.part.left_of.ref) for one in found if one.part.left_of is not None}
        self._names = {key: known for key, known in self._names.items() if key in needed or known[0]() is not None}

    def living(self, models: Sequence[Model]) -> tuple[Model, ...]:
        """The models whose module is still alive: an unloaded model is dropped at once, even before the next scan."""
        return tuple(model for model in models if self._lives(model.id))

    def core(self, model_id: str) -> weakref.ref[Any] | None:
        """The module of the model with this id, of an adapter that of its base; None if there is none."""
        return self._cores.get(model_id.partition("/")[0])

    def _lives(self, model_id: str) -> bool:
        core = self._cores.get(model_id.partition("/")[0])  # an adapter `base/name` lives no longer than its base
        return core is None or core() is not None

    def _identity(self, core: weakref.ref[Any], now_ns: int) -> _Identity:
        module = core()
        if module is None:
            raise ReferenceError("the model was deleted while it was described")
        identity = self._identities.get(module)
        if identity is None:
            self._count += 1
            identity = _Identity(f"m{self._count}", now_ns)
            self._identities.put(module, identity)
            self._cores[identity.model_id] = core
        return identity

    def _model(self, named: FoundModel, found: FoundModel, core: KeyedRef, now_ns: int, use: Use | None) -> Model:
        if found.part.left_of is not None:
            return self._leftover(found, found.part.left_of, core, now_ns)
        identified = self._model_names.latest(named, core)
        identity = self._identity(core, now_ns)
        before = identity.described.get(found.adapter)
        is_known = before is not None and before.found is found and before.identified is identified
        if before is not None and is_known and before.accelerator == identity.accelerator:
            if before.use == use:
                return before.model
            model = before.model
        else:
            describe = self._describe if found.adapter is None else self._describe_adapter
            model = describe(found, identified, identity, now_ns)
        last_ns, known_by = use if use is not None else (None, None)
        if (model.last_used_ns, model.last_used_by) != (last_ns, known_by):
            model = replace(model, last_used_ns=last_ns, last_used_by=known_by)
        identity.described[found.adapter] = _Described(found, identified, identity.accelerator, model, use)
        if found.adapter is None:
            self._names[id(core)] = core, model.name
        return model

    def _leftover(self, found: FoundModel, former: FormerModel, core: KeyedRef, now_ns: int) -> Model:
        """What is left of a model: called by that, and compared with no file."""
        known = self._names.get(id(former.ref))
        name = known[1] if known is not None else former.class_name or UNSEEN_MODEL
        identity = self._identity(core, now_ns)
        before = identity.described.get(found.adapter)
        if before is not None and before.found is found and before.model.leftover_of == name:
            return before.model
        identified = Identified(Naming(f"left of {name}", NameSource.LEFTOVER, 1.0))
        describe = self._describe if found.adapter is None else self._describe_adapter
        model = replace(describe(found, identified, identity, now_ns), leftover_of=name)
        identity.described[found.adapter] = _Described(found, identified, identity.accelerator, model)
        return model

    def _describe_adapter(self, found: FoundModel, identified: Identified, base: _Identity, now_ns: int) -> Model:
        """An adapter: what PEFT put into the base model under one name, or what ComfyUI patches onto it from one file."""
        assert found.adapter is not None
        seen_ns = base.adapters_seen_ns.setdefault(found.adapter, now_ns)
        model_id = f"{base.model_id}/{found.adapter}"
        return replace(_described(model_id, "lora", seen_ns, found, identified, base.accelerator), parent=base.model_id)

    def _describe(self, found: FoundModel, identified: Identified, identity: _Identity, now_ns: int) -> Model:
        accelerators = {device: size for device, size in found.bytes_by_device.items() if device != HOST}
        if accelerators:
            identity.accelerator = max(accelerators, key=lambda device: (accelerators[device], device))
        elif found.paged_onto:
            identity.accelerator = found.paged_onto
        elif found.asleep_on is not None:
            identity.accelerator = found.asleep_on
        total = sum(found.bytes_by_device.values())
        slot = identified.slot or found.part.slot
        adapter_share = found.adapter_bytes / total if total else 0.0
        kind = kind_of(found.class_name, found.attribute_names, adapter_share, slot, identified.naming.files)
        return replace(
            _described(identity.model_id, kind, identity.first_seen_ns, found, identified, identity.accelerator),
            architecture=identified.architecture,
            unread_tensors=found.unread,
            slot=slot,
        )


def _described(
    model_id: str, kind: str, first_seen_ns: int, found: FoundModel, identified: Identified, accelerator: str | None
) -> Model:
    """The fields that models and adapters have in common."""
    naming, samples, tensors, precision = identified.naming, identified.samples, identified.tensors, identified.precision
    host_bytes = found.bytes_by_device.get(HOST, 0) if accelerator is not None else 0
    return Model(
        id=model_id,
        name=naming.name,
        kind=kind,
        class_name=found.class_name,
        loaded_at_ns=first_seen_ns,
        bytes_by_device=dict(found.bytes_by_device),
        layers=len(found.tree.names),
        parameters=found.parameters,
        dtypes=dict(found.dtypes),
        name_source=naming.source,
        confidence=naming.confidence,
        candidates=naming.candidates,
        files=naming.files,
        device=accelerator or HOST,
        offloaded_bytes=host_bytes + found.missing_bytes - found.imported_bytes,
        tree=found.tree,
        shared_bytes=found.shared_bytes,
        metadata=identified.metadata,
        fingerprint=identified.fingerprint,
        file_stamps=identified.file_stamps,
        matched_samples=samples.matched if samples is not None else None,
        compared_samples=samples.compared if samples is not None else None,
        matched_tensors=tensors.matched if tensors is not None else None,
        compared_tensors=tensors.compared if tensors is not None else None,
        precision=precision if precision is not None and fits(precision, found.dtypes) else None,
        pinned_bytes=found.pinned_bytes,
        dynamic_memory=found.paged_onto is not None,
        asleep_bytes=found.asleep_bytes,
        asleep_in=found.asleep_in,
        imported_bytes=found.imported_bytes,
    )


def _listed(found: Sequence[FoundModel]) -> tuple[list[FoundModel], list[FoundModel]]:
    """The models that are listed, and those that are summed up: the small ones, and those beyond what readers accept."""
    listed: list[FoundModel] = []
    small: list[FoundModel] = []
    for one in found:
        # A second object around another model's network, with few bytes of its own, is no second model.
        is_large = one.adapter is not None or one.unread or min(one.held_bytes, one.own_bytes) >= SMALL_MODEL_BYTES
        (listed if is_large else small).append(one)
    if len(listed) > MAX_MODELS:
        largest = set(heapq.nlargest(MAX_MODELS, listed, key=lambda one: one.held_bytes))
        small += [one for one in listed if one not in largest]
        listed = [one for one in listed if one in largest]
    return listed, small


def _sum_of_small(small: Sequence[FoundModel], now_ns: int) -> Model:
    """One entry for all models that are not listed."""
    by_device: dict[str, int] = {}
    by_dtype: dict[str, int] = {}
    for one in small:
        for device, size in one.bytes_by_device.items():
            by_device[device] = by_device.get(device, 0) + size
        for dtype, size in one.dtypes.items():
            by_dtype[dtype] = by_dtype.get(dtype, 0) + size
    noun = "module" if len(small) == 1 else "modules"
    return Model(
        id=SMALL_MODELS_ID,
        name=f"{len(small)} small {noun}",
        kind="model",
        class_name="",
        loaded_at_ns=now_ns,
        bytes_by_device=by_device,
        layers=sum(len(one.tree.names) for one in small),
        parameters=sum(one.parameters for one in small),
        dtypes=by_dtype,
        name_source=NameSource.SUM,
        confidence=1.0,
        device=HOST,
        offloaded_bytes=sum(one.missing_bytes for one in small),
        tree=LayerTree((), (), (), (), (), (), (), ()),
    )
