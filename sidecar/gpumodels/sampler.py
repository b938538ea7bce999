"""From found models to a snapshot: identity, age, names, kinds, metadata, and each device's sums."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gpumodels.assembling import FoundModel
from gpumodels.failures import Failures
from gpumodels.identification import Identification
from gpumodels.kinds import kind_of
from gpumodels.registry import Registry
from gpumodels.weak_table import WeakTable
from gpumodels_shared.schema import SMALL_MODEL_BYTES, SMALL_MODELS_ID, LayerTree, Model

HOST: Final = "cpu"


@dataclass(slots=True)
class _Identity:
    """What stays the same while a model lives."""

    model_id: str
    first_seen_ns: int
    accelerator: str | None = None
    """The accelerator that held most of it last."""


class Sampler:
    """Remembers each model's identity by its core module, so that moves, casts and wrappers change neither id nor age."""

    def __init__(self, registry: Registry, identification: Identification, failures: Failures) -> None:
        self._registry = registry
        self._identification = identification
        self._failures = failures
        self._identities: WeakTable[_Identity] = WeakTable()
        self._cores: dict[str, weakref.ref[Any]] = {}
        self._count = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the viewer should say about this process."""
        return self._identification.warnings

    def models(self, found: Sequence[FoundModel], now_ns: int) -> tuple[Model, ...]:
        """Every model, largest first; those below SMALL_MODEL_BYTES as one."""
        large: list[Model] = []
        small: list[FoundModel] = []
        self._cores = {model_id: core for model_id, core in self._cores.items() if core() is not None}
        with self._failures.guard("looking at pipelines"):
            self._identification.look_at_pipelines()
        for one in found:
            if sum(one.bytes_by_device.values()) + one.missing_bytes + one.shared_bytes < SMALL_MODEL_BYTES:
                small.append(one)
                continue
            with self._failures.guard("describing a model"):
                core = self._registry.ref(one.core)
                if core is not None:
                    large.append(self._model(one, core, now_ns))
        large.sort(key=lambda model: (-model.resident_bytes, -model.offloaded_bytes, model.name, model.id))
        return (*large, *([_sum_of_small(small, now_ns)] if small else []))

    def living(self, models: Sequence[Model]) -> tuple[Model, ...]:
        """Those whose module still lives: an unloaded model is gone at once, scan or no scan."""
        return tuple(model for model in models if model.id not in self._cores or self._cores[model.id]() is not None)

    def _model(self, found: FoundModel, core: weakref.ref[Any], now_ns: int) -> Model:
        identified = self._identification.identify(found, core)
        naming = identified.naming
        module = core()
        if module is None:
            raise ReferenceError("the model was deleted while it was described")
        identity = self._identities.get(module)
        if identity is None:
            self._count += 1
            identity = _Identity(f"m{self._count}", now_ns)
            self._identities.put(module, identity)
            self._cores[identity.model_id] = core
        accelerators = {device: size for device, size in found.bytes_by_device.items() if device != HOST}
        if accelerators:
            identity.accelerator = max(accelerators, key=lambda device: (accelerators[device], device))
        total = sum(found.bytes_by_device.values())
        home = identity.accelerator or HOST
        elsewhere = 0 if identity.accelerator is None else found.bytes_by_device.get(HOST, 0)
        return Model(
            id=identity.model_id,
            name=naming.name,
            kind=kind_of(found.class_name, found.tensor_paths, found.adapter_bytes / total if total else 0.0),
            class_name=found.class_name,
            loaded_at_ns=identity.first_seen_ns,
            bytes_by_device=dict(found.bytes_by_device),
            layers=len(found.tree.names),
            parameters=found.parameters,
            dtypes=dict(found.dtypes),
            name_source=naming.source,
            confidence=naming.confidence,
            candidates=naming.candidates,
            architecture=identified.architecture,
            files=naming.files,
            device=home,
            offloaded_bytes=elsewhere + found.missing_bytes,
            shared_bytes=found.shared_bytes,
            metadata=identified.metadata,
            slot=identified.slot,
            tree=found.tree,
            fingerprint=identified.fingerprint,
            matched_samples=identified.matched_samples,
            compared_samples=identified.compared_samples,
        )


def _sum_of_small(small: Sequence[FoundModel], now_ns: int) -> Model:
    """One entry for all roots too small to be listed."""
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
        name_source="sum",
        confidence=1.0,
        device=HOST,
        offloaded_bytes=sum(one.missing_bytes for one in small),
        tree=LayerTree((), (), (), (), (), (), (), ()),
    )
