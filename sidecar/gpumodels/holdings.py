"""What a process keeps beside its models: gradients, optimizer state, and the caches that generation fills."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from gpumodels.accounting import META, StorageReading, TensorAccounts
from gpumodels.assembling import FoundModel
from gpumodels.failures import Failures
from gpumodels.reading import ModuleReading
from gpumodels.weak_table import WeakTable
from gpumodels.wraps import Wraps, all_subclasses

STEP: Final = 32
"""Modules, or optimizer states, that are worked on between two places where the work may be interrupted."""


@dataclass(slots=True)
class Parts:
    """Bytes by device; each storage counts once, and not again where a model already counts it."""

    gradients: dict[str, int] = field(default_factory=dict)
    optimizer: dict[str, int] = field(default_factory=dict)
    caches: dict[str, int] = field(default_factory=dict)


class Holdings:
    """Weak references to live optimizers and caches, which nobody registers: their constructors are listened to."""

    def __init__(self, torch: ModuleType, accounts: TensorAccounts, failures: Failures) -> None:
        self._accounts = accounts
        self._failures = failures
        self._wraps = Wraps()
        self.optimizers: WeakTable[None] = WeakTable()
        self.caches: WeakTable[None] = WeakTable()
        self._optimizer_type: type = torch.optim.Optimizer
        self._cache_type: type | None = None
        with failures.guard("wrapping Optimizer.__init__"):
            self._wraps.wrap(self._optimizer_type, "__init__", lambda original: self._remembering(original, self.optimizers))

    @property
    def arrivals(self) -> Mapping[str, Callable[[ModuleType], None]]:
        """Modules to be wrapped when they are there, each with what wraps it."""
        return {"transformers.cache_utils": self._caches_arrived}

    @property
    def is_training(self) -> bool:
        """Whether an optimizer lives: gradients come and go at every step then, and nobody tells."""
        return len(self.optimizers) > 0

    def types(self) -> set[type]:
        """Classes of what was there before: to be looked for once, and given to `add_all`."""
        return all_subclasses(self._optimizer_type) | (all_subclasses(self._cache_type) if self._cache_type else set())

    def add_all(self, found: Iterable[Any]) -> None:
        """Optimizers and caches that were there before."""
        for one in found:
            (self.optimizers if self._optimizer_type in type(one).__mro__ else self.caches).put(one, None)

    def remove(self) -> None:
        """Leave the libraries as they were."""
        with self._failures.guard("unwrapping optimizers and caches"):
            self._wraps.unwrap_all()

    def measure(self, readings: Mapping[int, ModuleReading], models: Sequence[FoundModel], parts: Parts) -> Iterator[None]:
        """Fill `parts`. Yields wherever it may be interrupted; holds no tensor then."""
        counted: set[tuple[str, int]] = set()
        for count, reading in enumerate(readings.values()):
            self._add(reading.caches, parts.caches, counted, models)
            self._add(self._gradients_of(reading), parts.gradients, counted, models)
            if count % STEP == 0:
                yield
        for ref in self.caches.refs():
            self._add(self._storages_in(ref()), parts.caches, counted, models)
            yield
        for ref in self.optimizers.refs():
            for states in self._states_of(ref()):
                self._add(states, parts.optimizer, counted, models)
                yield

    def _gradients_of(self, reading: ModuleReading) -> list[StorageReading]:
        found: list[StorageReading] = []
        with self._failures.guard("reading gradients"):
            module = reading.ref() if reading.parameters else None
            for parameter in [*module.__dict__["_parameters"].values()] if module is not None else ():
                gradient = self._accounts.gradient(parameter)
                if gradient is not None:
                    self._accounts.add_storages(gradient, found)
        return found

    def _storages_in(self, cache: Any) -> list[StorageReading]:
        found: list[StorageReading] = []
        with self._failures.guard("reading a cache"):
            for tensor in self._accounts.attributes.all_in(cache):
                self._accounts.add_storages(tensor, found)
        return found

    def _states_of(self, optimizer: Any) -> list[list[StorageReading]]:
        """The storages of an optimizer's state, some parameters' at a time."""
        found: list[list[StorageReading]] = [[]]
        with self._failures.guard("reading an optimizer's state"):
            state = optimizer.__dict__.get("state", {}) if optimizer is not None else {}
            for count, entries in enumerate([*state.values()]):
                if count % STEP == 0:
                    found.append([])
                for tensor in self._accounts.attributes.all_in(dict(entries)):
                    self._accounts.add_storages(tensor, found[-1])
        return found

    def _add(
        self,
        storages: Iterable[StorageReading],
        to: dict[str, int],
        counted: set[tuple[str, int]],
        models: Sequence[FoundModel],
    ) -> None:
        for storage in storages:
            device = storage.key[0]
            if storage.key in counted or device == META or any(storage.key in model.storages for model in models):
                continue
            counted.add(storage.key)
            to[device] = to.get(device, 0) + storage.size_bytes

    def _caches_arrived(self, module: ModuleType) -> None:
        with self._failures.guard("wrapping transformers' Cache"):
            self._cache_type = module.Cache
            self._wraps.wrap(module.Cache, "__init__", lambda original: self._remembering(original, self.caches))

    def _remembering(self, original: Callable[..., Any], table: WeakTable[None]) -> Callable[..., Any]:
        def initialise(one: Any, *arguments: Any, **options: Any) -> None:
            original(one, *arguments, **options)
            with self._failures.guard("remembering what was made"):
                table.put(one, None)

        return initialise
