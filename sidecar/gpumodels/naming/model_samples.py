"""A model's own tensors, by the keys of its state dict, and the first values of some: as they are, or as they were last read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import ADAPTER_PREFIXES, PEFT_TABLES, FoundModel
from gpumodels.models.shared_weights import own_weights
from gpumodels.naming.weight_conversions import WeightConversions, conversions_of
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.host_samples import TensorPart
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.instances import state_of
from gpumodels.support.module_tables import entries_of, entry, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import writes_of
from gpumodels.support.weak_table import KeyedRef
from gpumodels_shared.fingerprint import TENSORS, TENSORS_EXAMINED, VALUES, keys_examined, large_keys, samples_among
from gpumodels_shared.schema import TensorSample

MODULES_PER_STEP: Final = 64
WRAPPED_KEYS: Final = ("base_layer.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "base_model.model.")
"""What wrappers add to the keys of the weights they wrap."""


@never_pickled
class ModelTensor(NamedTuple):
    """Where one of a model's tensors is kept; the tensor itself isn't held."""

    key: str
    """In the model's state dict; of a tensor that was converted while it was loaded, in its file."""
    module: KeyedRef
    name: str
    """Under which the module holds it."""
    part: TensorPart | None = None
    """Which part of it; None for all of it."""


@never_pickled
class _Conversions(NamedTuple):
    """The conversions with which a module was loaded."""

    prefix: str
    """Of the module, in the model's state dict."""
    used: WeightConversions


@never_pickled
class WantedTensors(NamedTuple):
    """The tensors of a model that samples are wanted of."""

    examined: Mapping[str, ModelTensor]
    """By key, in the order in which they are wanted; the large ones are among them."""
    large: Sequence[str]
    """The keys of those that are wanted in any case."""
    in_all: int
    """How many tensors the model has."""


@never_pickled
class WeighedSamples(NamedTuple):
    """Samples, and how many of the model's elements each stands for."""

    samples: Sequence[TensorSample]
    elements: Sequence[float]


class Currency(Enum):
    """Whether samples still say what a model holds."""

    CURRENT = "current"
    """They were taken where the values are now."""
    OUTDATED = "outdated"
    """They were taken before the values were copied there. Whether something was written there since isn't known."""
    WRITTEN_OVER = "written over"
    """The same, and something was."""


@never_pickled
@dataclass(frozen=True, slots=True)
class ModelSamples:
    """A model's samples."""

    found: FoundModel
    version: tuple[int, ...]
    wanted: WantedTensors
    """What samples were wanted of."""
    sampled: tuple[ModelTensor, ...]
    """The tensors that they were taken from."""
    samples: tuple[TensorSample, ...]
    """In the order of `sampled`; of tensors that are out of reach now, what was read before."""
    in_reach: tuple[TensorSample, ...]
    """Those that were read from host memory just now."""
    addresses: tuple[int, ...]
    """Of each of `in_reach`, the address of its first value."""

    @property
    def tensors(self) -> int:
        """How many tensors the model has."""
        return self.wanted.in_all

    @property
    def are_most(self) -> bool:
        """Whether at least half of the samples that would be taken if all were in reach are."""
        return bool(self.in_reach) and 2 * len(self.in_reach) >= min(TENSORS, self.tensors)


@never_pickled
class SampleReader:
    """Reads samples of models. Remembers nothing, and holds no module or tensor while it pauses."""

    def __init__(self, registry: ModuleRegistry, origin_tracker: OriginTracker, pause: Callable[[], None]) -> None:
        self._registry = registry
        self._origin_tracker = origin_tracker
        self._pause = pause

    def samples_of(self, found: FoundModel, version: tuple[int, ...], before: ModelSamples | None) -> ModelSamples:
        """The model's samples, of the tensors chosen before if these still say as much.

        Args:
            found: the model.
            version: another one, other values may have been loaded, or may be had.
            before: what was found the last time; the answer again where nothing changed.
        """
        if before is not None and before.found is found and before.version == version and self._are_unchanged(before):
            return before
        if before is not None and own_weights(before.found).left_out != own_weights(found).left_out:
            before = None
        if before is not None and before.samples:
            again = self._take(found, version, before.sampled, before.wanted)
            # What was loaded since may have made constants say something, and what said something a constant.
            if again.samples == before.samples or (before.version == version and len(again.samples) == len(before.samples)):
                return again
        if before is None or before.version != version or not found.has_same_structure_as(before.found):
            wanted = self._tensors_to_sample(found)
        else:
            wanted = before.wanted
        examined = wanted.examined
        samples = samples_among(examined, lambda key: self._sample(examined[key]), self._pause, wanted.large)
        return self._take(found, version, tuple(examined[sample.key] for sample in samples), wanted)

    def _take(
        self,
        found: FoundModel,
        version: tuple[int, ...],
        sampled: tuple[ModelTensor, ...],
        wanted: WantedTensors,
    ) -> ModelSamples:
        now = [self._read(ref) for ref in sampled]
        kept = [sample or self._sample(ref) for sample, ref in zip(now, sampled, strict=True)]
        in_reach = [(ref, sample) for ref, sample in zip(sampled, now, strict=True) if sample is not None]
        return ModelSamples(
            found=found,
            version=version,
            wanted=wanted,
            sampled=sampled,
            samples=tuple(sample for sample in kept if sample is not None),
            in_reach=tuple(sample for _, sample in in_reach),
            addresses=tuple(self._address(ref) for ref, _ in in_reach),
        )

    def more_of(self, samples: ModelSamples) -> WeighedSamples:
        """Samples of all tensors that were examined, as they are or were last seen: they say more surely how much agrees."""
        examined, large, in_all = samples.wanted
        taken = samples_among(examined, lambda key: self._sample(examined[key]), self._pause, large, TENSORS_EXAMINED)
        for_each = max(in_all / TENSORS_EXAMINED, 1.0)
        sizes = {sample.key: math.prod(sample.shape) for sample in taken}
        return WeighedSamples(taken, [size if key in large else size * for_each for key, size in sizes.items()])

    def currency_of(self, samples: ModelSamples) -> Currency:
        """Whether the samples still say what the model holds."""
        tensors = self._origin_tracker.tensors
        outdated = written = 0
        for ref in samples.sampled:
            tensor = _held(ref)
            if tensor is not None and type(tensor) in tensors.plain_types and not tensor.is_cpu:
                storage = tensors.storage_of(tensor)
                outdated += tensors.is_outdated(storage)
                written += tensors.was_written(storage, tensor)
        if not outdated:
            return Currency.CURRENT
        return Currency.WRITTEN_OVER if 2 * written >= outdated else Currency.OUTDATED

    def were_overwritten(self, samples: ModelSamples) -> bool:
        """Whether most of the model was written to, out of reach, since it was seen to be filled."""
        tensors = self._origin_tracker.tensors
        held = [_held(ref) for ref in tuple(samples.wanted.examined.values())[:TENSORS]]
        written = [tensors.was_overwritten(tensors.storage_of(tensor), tensor) for tensor in held if tensor is not None]
        return 2 * sum(written) > len(written)

    def writes(self, samples: ModelSamples) -> tuple[int | None, ...]:
        """How often some of the model's tensors were written to: another answer, and it may hold other values."""
        refs = samples.sampled or tuple(samples.wanted.examined.values())[:TENSORS]
        return tuple(writes_of(tensor) for tensor in self._plain(refs) if not tensor.is_cpu)

    def writes_to_first(self, found: FoundModel, count: int) -> tuple[int | None, ...]:
        """How often the first of its tensors were written to, at most `count` of them."""
        return tuple(map(writes_of, self._plain(islice(self.tensors_of(found), count))))

    def _plain(self, refs: Iterable[ModelTensor]) -> Iterator[Any]:
        plain_types = self._origin_tracker.tensors.plain_types
        return (tensor for tensor in map(_held, refs) if type(tensor) in plain_types)

    def in_host_memory(self, found: FoundModel) -> Iterator[TensorSample]:
        """Samples of all its tensors that lie in host memory."""
        for ref in self.tensors_of(found):
            if (sample := self._read(ref)) is not None:
                yield sample

    def shapes(self, found: FoundModel) -> Iterator[tuple[str, tuple[int, ...]]]:
        """(key, shape) of all its tensors."""
        for ref in self.tensors_of(found):
            tensor = _held(ref)
            if tensor is not None:
                yield ref.key, tuple(tensor.shape) if ref.part is None else ref.part.shape

    def tensors_of(self, found: FoundModel) -> Iterator[ModelTensor]:
        """Every parameter that is neither an adapter's nor shared with another model; of an adapter, those that PEFT holds.

        What has several names, as tied weights, has the first of them. Of one that was made of several tensors while it was
        loaded, each of these. Those are left out that were converted in a way in which they can't be compared with their file.
        """
        if found.adapter is not None:
            yield from self._tensors_of_adapter(found.core, found.adapter)
            return
        prefixes = ADAPTER_PREFIXES if 2 * found.adapter_bytes <= found.own_bytes else ()
        left_out = own_weights(found).left_out
        met: set[tuple[int, TensorPart | None]] = set()
        for prefix, ref, conversions in self._modules_below("", found.core, prefixes):
            for one in self._parameters_of(prefix, ref, prefixes, conversions):
                tensor = (id(_held(one)), one.part)
                if (ref.key, one.name) not in left_out and tensor not in met:
                    met.add(tensor)
                    yield one

    def _tensors_of_adapter(self, core: int, adapter: str) -> Iterator[ModelTensor]:
        """Their keys are those of the adapter's file, which doesn't say the name under which PEFT holds it."""
        if not adapter or "." in adapter:
            return  # ComfyUI's, by their files: no module holds them
        for prefix, holder, _ in self._modules_below("", core, ADAPTER_PREFIXES):
            for table, key in _children(holder):
                ref = self._registry.ref(key) if table in PEFT_TABLES else None
                if ref is None:
                    continue
                if any(one.name == adapter for one in self._parameters_of("", ref, (), None)):
                    yield ModelTensor(f"{prefix}{table}", ref, adapter)
                for name, layer in _children(ref):
                    if name == adapter:
                        for inner, module, _ in self._modules_below(f"{prefix}{table}.", layer, ()):
                            yield from self._parameters_of(inner, module, (), None)

    def _modules_below(
        self, prefix: str, root: int, left_out: tuple[str, ...]
    ) -> Iterator[tuple[str, KeyedRef, _Conversions | None]]:
        """This module and those below it, with what their tensors' keys begin with, and how these were converted while loaded.

        Args:
            prefix: what the keys of the root's tensors begin with.
            root: the registry's key of the root.
            left_out: how the names of modules begin that are left out, with all below them.
        """
        waiting: list[tuple[str, int, _Conversions | None]] = [(prefix, root, None)]
        met = {root}
        count = 0
        while waiting:
            prefix, key, conversions = waiting.pop()
            ref = self._registry.ref(key)
            if ref is None:
                continue
            stated = _stated_conversions(ref)
            conversions = conversions if stated is None else _Conversions(prefix, stated)
            below: list[tuple[str, int, _Conversions | None]] = []
            for name, child in _children(ref):
                if child not in met and not name.startswith(left_out):
                    met.add(child)
                    below.append((_below(prefix, name), child, conversions))
            waiting.extend(reversed(below))  # in the order of a state dict
            yield prefix, ref, conversions
            count += 1
            if count % MODULES_PER_STEP == 0:
                self._pause()

    def _parameters_of(
        self, prefix: str, ref: KeyedRef, left_out: tuple[str, ...], conversions: _Conversions | None
    ) -> list[ModelTensor]:
        """The module's own parameters, as they were loaded; none if it was deleted."""
        module = ref()
        return [
            found
            for name, tensor in (entries_of(tables_of(state_of(module)).parameters) if module is not None else ())
            if not name.startswith(left_out)
            for found in self._as_loaded(ModelTensor(f"{prefix}{name}", ref, name), tensor, conversions)
        ]

    def _as_loaded(self, ref: ModelTensor, tensor: Any, conversions: _Conversions | None) -> Sequence[ModelTensor]:
        """The tensors in the file that this one was made of."""
        if conversions is None or type(tensor) not in self._origin_tracker.tensors.plain_types:
            return (ref,)
        parts = conversions.used.parts_of(ref.key[len(conversions.prefix) :], tuple(tensor.shape))
        return [ref._replace(key=conversions.prefix + part.key, part=part.part) for part in parts]

    def _tensors_to_sample(self, found: FoundModel) -> WantedTensors:
        """Where samples are to be looked for, and how many tensors there are."""
        refs = {ref.key: ref for ref in self.tensors_of(found)}
        large = large_keys({key: self._size_of(ref) or 0 for key, ref in refs.items()})
        examined = {key: refs[key] for key in dict.fromkeys((*keys_examined(refs, self._pause), *large))}
        self._origin_tracker.sample_accelerators(tensor for ref in examined.values() if (tensor := _held(ref)) is not None)
        has_values = {key: ref for key, ref in examined.items() if (size := self._size_of(ref)) is None or size >= VALUES}
        return WantedTensors(has_values, [key for key in large if key in has_values], len(refs))

    def _size_of(self, ref: ModelTensor) -> int | None:
        """Its number of elements; None where finding out might run foreign code."""
        tensor = _held(ref)
        if tensor is None or type(tensor) not in self._origin_tracker.tensors.plain_types:
            return None
        return int(tensor.numel()) if ref.part is None else math.prod(ref.part.shape)

    def _are_unchanged(self, before: ModelSamples) -> bool:
        """Whether the same bytes stand where the samples stood: the storages are the same while the scan finds the same model.

        If one went just now, and its memory is somebody else's, that shows in bytes that differ, and it is looked at properly.
        """
        read = self._origin_tracker.sampler.read_memory
        return all(
            read(address, len(sample.data)) == sample.data
            for address, sample in zip(before.addresses, before.in_reach, strict=True)
        )

    def _address(self, ref: ModelTensor) -> int:
        tensor = _held(ref)
        return 0 if tensor is None else self._origin_tracker.sampler.address_of(tensor, ref.part)

    def _sample(self, ref: ModelTensor) -> TensorSample | None:
        """As it is, or as it was last seen."""
        tensor = _held(ref)
        sample = None if tensor is None else self._origin_tracker.sample_of(tensor, ref.part)
        return None if sample is None else TensorSample(ref.key, *sample)

    def _read(self, ref: ModelTensor) -> TensorSample | None:
        """As it is, where it lies in host memory."""
        tensor = _held(ref)
        sample = None if tensor is None else self._origin_tracker.sample_now(tensor, ref.part)
        return None if sample is None else TensorSample(ref.key, *sample)


def _below(prefix: str, name: str) -> str:
    inner = f"{prefix}{name}."
    if not inner.endswith(WRAPPED_KEYS):
        return inner
    return prefix if not inner.endswith("base_model.model.") else inner[: -len("base_model.model.")]


def _children(ref: KeyedRef) -> list[tuple[str, int]]:
    """Names and ids of the modules that the module holds; none if it was deleted."""
    module = ref()
    return [] if module is None else [(name, id(child)) for name, child in entries_of(tables_of(state_of(module)).modules)]


def _stated_conversions(ref: KeyedRef) -> WeightConversions | None:
    module = ref()
    return None if module is None else conversions_of(state_of(module))


def _held(ref: ModelTensor) -> Any:
    """The module's parameter of this name, as long as both live."""
    module = ref.module()
    return None if module is None else entry(tables_of(state_of(module)).parameters, ref.name)
