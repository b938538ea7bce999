"""Everything by which the sidecar learns of what is made in torch: observed calls, and one sweep for what was there before."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from types import FrameType, ModuleType
from typing import Any, Protocol

from gpumodels.hooks.file_readers import FileReaders
from gpumodels.hooks.moves import Moves
from gpumodels.hooks.registration_hooks import RegistrationHooks
from gpumodels.hooks.state_dict_loads import StateDictLoads
from gpumodels.observing.import_hook import imported
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.observing.observers import Observers
from gpumodels.provenance.accelerator_samples import AcceleratorSampler
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.resident import resident


class Listener(Protocol):
    """What must know of objects that are no modules: pipelines, optimizers, caches, patches."""

    def observe(self, observers: Observers) -> None:
        """Begin with what is torch's own."""

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """Modules whose functions are to be observed when they are there, each with what does it."""

    def types(self) -> set[type]:
        """Classes of what was there before: to be looked for once, and given to `add_all`."""

    def add_all(self, found: Iterable[Any], /) -> None:
        """What was there before."""


@resident
class TorchHooks:
    """Feeds the registry and the provenance from inside torch. Nothing of torch's is replaced."""

    def __init__(
        self,
        torch: ModuleType,
        registry: ModuleRegistry,
        origin_tracker: OriginTracker,
        listeners: Sequence[Listener],
        failures: Failures,
        accelerators: AcceleratorSampler | None = None,
    ) -> None:
        """`accelerators` must know of graphs that are captured; None where nothing is sampled there."""
        self._registry = registry
        self._failures = failures
        self._listeners = listeners
        self._module_type = torch.nn.Module
        self._observers = Observers(torch, failures)
        self._registrations = RegistrationHooks(torch, registry, failures)
        self._readers = FileReaders(torch, origin_tracker, registry.load_below)
        self.loads = StateDictLoads(torch, origin_tracker, registry.load_below)
        moves = Moves(torch, origin_tracker, registry.move_below)

        self._arrived: dict[str, Callable[[ModuleType], None]] = {}
        try:
            self._observe(torch, moves, accelerators)
        except BaseException:  # all or nothing
            self.remove()
            raise
        self.awaited = frozenset(name for name in self._arrived if name not in sys.modules)
        """Modules that aren't imported yet, for `module_arrived` when they are."""

    def _observe(self, torch: ModuleType, moves: Moves, accelerators: AcceleratorSampler | None) -> None:
        if not self._observers.observe(torch.nn.Module.__init__, "noting a module", started=self._module_begins):
            LOGGER.info("construction of modules can't be observed here; torch's registration hooks tell of them")
            with self._failures.guard("installing registration hooks"):
                self._registrations.install()
        # Copies and unpickled modules run no constructor.
        self._observers.observe(torch.nn.Module.__setstate__, "noting a module", started=self._module_filled)
        self.loads.observe(self._observers, torch.nn.Module)
        moves.observe(self._observers, torch.nn.Module)
        self._readers.observe(self._observers)
        if accelerators is not None:
            accelerators.observe(self._observers)
        self._arrived.update(self._readers.awaited(self._observers))
        for listener in self._listeners:
            listener.observe(self._observers)
            self._arrived.update(listener.awaited(self._observers))
        for name in self._arrived:
            if (module := imported(name)) is not None:
                self.module_arrived(module)

    def module_arrived(self, module: ModuleType) -> None:
        """One of those that were awaited has just been imported; called in the host's thread."""
        with self._failures.guard(f"observing {module.__name__}"):
            self._arrived[module.__name__](module)

    def remove(self) -> None:
        """Leave torch and the readers as they were."""
        self._observers.remove()
        self._registrations.remove()

    def sweep(self) -> None:
        """Find the modules that were there before: one pass over what the garbage collector tracks, by exact type.

        `isinstance` over all objects would run foreign `__class__` properties. About 25 ms per million objects, all of it in C.
        """
        tracked = gc.get_objects()
        modules: tuple[set[type], Callable[[Iterable[Any]], None]] = all_subclasses(self._module_type), self._registry.add_all
        for types, add_all in (modules, *((listener.types(), listener.add_all) for listener in self._listeners)):
            if types:
                add_all(list(compress(tracked, map(types.__contains__, map(type, tracked)))))

    def _module_begins(self, frame: FrameType) -> None:
        self._registry.add_new(frame.f_locals["self"])

    def _module_filled(self, frame: FrameType) -> None:
        self._registry.add(frame.f_locals["self"])
