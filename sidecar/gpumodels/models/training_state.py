"""Measures what a process keeps beside its models: gradients, optimizer state, and the caches that generation fills."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.support.failures import Failures
from gpumodels.support.instances import state_getter, state_of
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.module_tables import entries_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import batched
from gpumodels.support.torch_private import LOAD_HOOKS, PARAMETERS
from gpumodels.support.weak_table import WeakTable
from gpumodels.tensors.engines import kept_by_optimizer
from gpumodels.tensors.forward_holders import ForwardHolders
from gpumodels.tensors.module_reader import ModuleReading
from gpumodels.tensors.sharded_parameters import accumulated_gradients, parameters_beside
from gpumodels.tensors.tensor_storages import META, TensorReader, TensorStorage

STEP: Final = 32
"""Modules, or optimizer states, processed between two points at which the work may be interrupted."""

MAX_HOLDERS: Final = 100
"""Functions whose bytes are told apart."""
MAX_HOLDER_NAME: Final = 200
OTHER_HOLDERS: Final = "others"

StorageKey = tuple[str, int]
"""A `TensorStorage.key`: the device, and the storage's identity."""


@never_pickled
@dataclass(slots=True)
class NonModelBytes:
    """Bytes by device. Each storage counts once, and not at all if a model already counts it."""

    gradients: dict[str, int] = field(default_factory=dict)
    optimizer: dict[str, int] = field(default_factory=dict)
    caches: dict[str, int] = field(default_factory=dict)
    held_by_functions: dict[str, dict[str, int]] = field(default_factory=dict)
    """By device and name of the function, what functions around the `forward` of modules hold."""


@never_pickled
class TrainingState:
    """Weak references to live optimizers and caches. Nobody registers these, so their constructors are observed."""

    def __init__(self, torch: ModuleType, tensor_reader: TensorReader, failures: Failures) -> None:
        self._tensor_reader = tensor_reader
        self._failures = failures
        self.optimizers: WeakTable[None] = WeakTable()
        self.caches: WeakTable[None] = WeakTable()
        self._optimizer_type: type = torch.optim.Optimizer
        self._cache_type: type | None = None
        self._holders = ForwardHolders(torch)
        self._state_of_module = state_getter(torch.nn.Module)

    def observe(self, observers: Observers) -> None:
        """Begin to observe the constructor of torch's optimizers."""
        made = vars(self._optimizer_type)["__init__"]
        observers.observe(made, "remembering an optimizer", returned=lambda frame, _: _remember(frame, self.optimizers))

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """transformers' module of caches, with the function to call once it is imported."""

        def transformers(module: ModuleType) -> None:
            self._cache_type = module.Cache
            made = module.Cache.__init__
            observers.observe(made, "remembering a cache", returned=lambda frame, _: _remember(frame, self.caches))

        return {"transformers.cache_utils": transformers}

    @property
    def is_training(self) -> bool:
        """Whether an optimizer is alive: then gradients are made and freed at every step, and nothing notifies us."""
        return len(self.optimizers) > 0

    def types(self) -> set[type]:
        """Classes of optimizers and caches. The instances that exist already are to be given to `add_all`, once."""
        return all_subclasses(self._optimizer_type) | (all_subclasses(self._cache_type) if self._cache_type else set())

    def add_all(self, found: Iterable[Any]) -> None:
        """Add optimizers and caches that were made before their constructors were observed."""
        for one in found:
            (self.optimizers if self._optimizer_type in type(one).__mro__ else self.caches).put(one, None)

    def measure(
        self,
        readings: Mapping[int, ModuleReading],
        models: Collection[StorageKey],
        parts: NonModelBytes,
        beside: set[StorageKey] | None = None,
    ) -> Iterator[None]:
        """Fill `parts`. Yields wherever it may be interrupted, and holds no tensor then.

        Args:
            readings: all modules.
            models: the storages of all models.
            parts: receives the sums.
            beside: receives the storages of gradients, optimizer states and caches, if they are wanted.
        """
        counted: set[StorageKey] = set()
        for some in batched(readings.values(), STEP):
            for reading in some:
                if reading.caches:
                    self._add(reading.caches, parts.caches, counted, models)
            self._add(self._gradients_of(some), parts.gradients, counted, models)
            for reading in some:
                if reading.is_engine:
                    weights, gradients = self._kept_by_engine(reading)
                    self._add(gradients, parts.gradients, counted, models)
                    self._add(weights, parts.optimizer, counted, models)
            yield
        for ref in self.caches.refs():
            self._add(self._storages_in(ref()), parts.caches, counted, models)
            yield
        for ref in self.optimizers.refs():
            for states in self._states_of(ref()):
                self._add(states, parts.optimizer, counted, models)
                yield
        if beside is not None:
            beside.update(counted)
        for some in batched(readings.values(), STEP):
            for reading in some:
                if reading.has_functions:
                    self._add_held(reading, parts, counted, models)
            yield

    def _gradients_of(self, readings: Sequence[ModuleReading]) -> list[TensorStorage]:
        found: list[TensorStorage] = []
        gradient_of, state_of_module = self._tensor_reader.gradient, self._state_of_module
        for reading in readings:
            module = reading.ref() if reading.parameters else None
            if module is None:
                continue
            try:
                state = state_of_module(module)
                table = state[PARAMETERS]
                parameters = [*table.values()] if type(table) is dict else [each for _, each in entries_of(table)]
                if state.get(LOAD_HOOKS):
                    parameters += parameters_beside(state)
                    for gradient in accumulated_gradients(state):
                        self._tensor_reader.add_storages(gradient, found)
                for parameter in parameters:
                    gradient = gradient_of(parameter)
                    if gradient is not None:
                        self._tensor_reader.add_storages(gradient, found)
            except Exception as error:  # noqa: BLE001  # like a guard, but one per module would take longer than all the rest
                self._failures.note("reading gradients", error)
        return found

    def _kept_by_engine(self, reading: ModuleReading) -> tuple[list[TensorStorage], list[TensorStorage]]:
        """The storages of the second copy of the weights that a training engine's optimizer keeps, and those of its gradients."""
        weights: list[TensorStorage] = []
        gradients: list[TensorStorage] = []
        module = reading.ref()
        if module is not None:
            with self._failures.guard("reading an engine's optimizer"):
                for kept, storages in zip(kept_by_optimizer(self._state_of_module(module)), (weights, gradients), strict=True):
                    for tensor in self._tensor_reader.attributes.tensors_inside(kept):
                        self._tensor_reader.add_storages(tensor, storages)
        return weights, gradients

    def _storages_in(self, cache: Any) -> list[TensorStorage]:
        found: list[TensorStorage] = []
        with self._failures.guard("reading a cache"):
            for tensor in self._tensor_reader.attributes.tensors_inside(cache):
                self._tensor_reader.add_storages(tensor, found)
        return found

    def _states_of(self, optimizer: Any) -> list[list[TensorStorage]]:
        """The storages of an optimizer's state, in lists for STEP parameters each."""
        found: list[list[TensorStorage]] = [[]]
        with self._failures.guard("reading an optimizer's state"):
            state = state_of(optimizer).get("state", {}) if optimizer is not None else {}
            for count, entries in enumerate([*state.values()]):
                if count % STEP == 0:
                    found.append([])
                for tensor in self._tensor_reader.attributes.tensors_inside(dict(entries)):
                    self._tensor_reader.add_storages(tensor, found[-1])
        return found

    def _add_held(
        self, reading: ModuleReading, parts: NonModelBytes, counted: set[StorageKey], models: Collection[StorageKey]
    ) -> None:
        """Add what functions around the module's `forward` hold now and no model does, such as what hooks collect."""
        module = reading.ref()
        with self._failures.guard("reading forward hooks"):
            for _, full_name, tensor, _ in self._holders.held(self._state_of_module(module))[0] if module is not None else ():
                storages: list[TensorStorage] = []
                self._tensor_reader.add_storages(tensor, storages)
                sizes: dict[str, int] = {}
                self._add(storages, sizes, counted, models)
                for device, size in sizes.items():
                    holders = parts.held_by_functions.setdefault(device, {})
                    holder = full_name[:MAX_HOLDER_NAME]
                    name = holder if holder in holders or len(holders) < MAX_HOLDERS else OTHER_HOLDERS
                    holders[name] = holders.get(name, 0) + size

    def _add(
        self,
        storages: Iterable[TensorStorage],
        to: dict[str, int],
        counted: set[StorageKey],
        models: Collection[StorageKey],
    ) -> None:
        for storage in storages:
            device = storage.key[0]
            if storage.key in counted or device == META or storage.key in models:
                continue
            counted.add(storage.key)
            to[device] = to.get(device, 0) + storage.size_bytes


def _remember(frame: FrameType, table: WeakTable[None]) -> None:
    table.put(frame.f_locals["self"], None)
