"""Installs all hooks by which the sidecar learns of objects in torch: observed calls, and a sweep for those made before."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any, Protocol

from gpumodels.hooks.disk_offloading import DiskOffloading
from gpumodels.hooks.file_readers import FileReaders
from gpumodels.hooks.moves import Moves
from gpumodels.hooks.registration_hooks import RegistrationHooks
from gpumodels.hooks.state_dict_loads import StateDictLoads
from gpumodels.observing.import_hook import imported
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.observing.observers import Observers
from gpumodels.observing.reachable_objects import ReachableObjects, Wanted, roots_of_process
from gpumodels.provenance.accelerator_samples import AcceleratorSampler
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.tracked_objects import TrackedObjects


class Listener(Protocol):
    """Keeps track of objects that aren't modules: pipelines, optimizers, caches, ComfyUI's LoRAs."""

    def observe(self, observers: Observers) -> None:
        """Begin to observe torch's own functions."""

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """By module name, functions that begin to observe the module's functions, to be called once it is imported."""

    def types(self) -> set[type]:
        """The exact classes of objects that `TorchHooks.sweep` should find."""

    def add_all(self, found: Iterable[Any], /) -> None:
        """Add objects that were made before the hooks were installed."""


@never_pickled
class TorchHooks:
    """Reports what happens in torch to the registry, the provenance and the listeners. Replaces nothing in torch."""

    def __init__(
        self,
        torch: ModuleType,
        registry: ModuleRegistry,
        origin_tracker: OriginTracker,
        listeners: Sequence[Listener],
        failures: Failures,
        accelerators: AcceleratorSampler | None = None,
    ) -> None:
        """Install the hooks: all of them, or none if that raises.

        Args:
            torch: the host's torch.
            registry: receives modules.
            origin_tracker: receives files and the origins of loaded values.
            listeners: receive other objects.
            failures: counts errors in hooks.
            accelerators: receives captures of CUDA graphs; None if accelerators aren't sampled.
        """
        self._registry = registry
        self._failures = failures
        self._listeners = listeners
        self._module_type = torch.nn.Module
        self._closed = (torch.nn.Module, torch.Tensor)
        """What these hold is read from the modules."""
        self._observers = Observers(torch, failures)
        self._registrations = RegistrationHooks(torch, registry, failures)
        self._readers = FileReaders(torch, origin_tracker, registry.note_load, failures)
        self.loads = StateDictLoads(torch, origin_tracker, registry.note_load)
        self._disk_offloading = DiskOffloading(torch, origin_tracker)
        moves = Moves(torch, origin_tracker, registry.note_move)

        self._on_import: dict[str, Callable[[ModuleType], None]] = {}
        """By name of a module, what to call once it is imported."""
        self.awaited: frozenset[str] = frozenset()
        """Names of the modules that aren't imported yet, or not completely: `module_arrived` expects them."""
        try:
            self._observe(torch, moves, accelerators)
        except BaseException:  # all or nothing
            self.remove()
            raise

    def _observe(self, torch: ModuleType, moves: Moves, accelerators: AcceleratorSampler | None) -> None:
        if not self._observers.observe(torch.nn.Module.__init__, "noting a module", started=self._module_constructed):
            LOGGER.info("construction of modules can't be observed here; torch's registration hooks are used instead")
            with self._failures.guard("installing registration hooks"):
                self._registrations.install()
        # Copies and unpickled modules run no constructor.
        self._observers.observe(torch.nn.Module.__setstate__, "noting a module", started=self._module_copied)
        self.loads.observe(self._observers, torch.nn.Module)
        moves.observe(self._observers, torch.nn.Module)
        self._readers.observe(self._observers)
        if accelerators is not None:
            accelerators.observe(self._observers)
        self._on_import.update(self._readers.awaited(self._observers))
        self._on_import.update(self.loads.awaited(self._observers))
        self._on_import.update(self._disk_offloading.awaited(self._observers))
        for listener in self._listeners:
            listener.observe(self._observers)
            self._on_import.update(listener.awaited(self._observers))
        modules = {name: imported(name) for name in self._on_import}
        self.awaited = frozenset(name for name, module in modules.items() if module is None)
        for module in filter(None, modules.values()):
            self.module_arrived(module)

    def module_arrived(self, module: ModuleType) -> None:
        """Begin to observe an awaited module that has just been imported. Called in the host's thread."""
        with self._failures.guard(f"observing {module.__name__}"):
            self._on_import[module.__name__](module)

    def remove(self) -> None:
        """Remove all hooks: torch and the file readers are left as they were."""
        self._observers.remove()
        self._registrations.remove()

    def sweep(self) -> bool:
        """Find the objects that were made before, by one pass over all that the garbage collector tracks, by exact type.

        `isinstance` would run foreign `__class__` properties. Takes about 25 ms per million objects, entirely in C, while
        no other thread runs: see `TrackedObjects`.

        Returns:
            Whether that was everything. After `gc.freeze()` it isn't: what was there then is left out, torch's classes too.
        """
        wanted = self._wanted()
        tracked = TrackedObjects(gc.get_objects, [kind for kinds, _ in wanted for kind in kinds], self._module_type)
        for kinds, add_all in wanted:
            if kinds:
                add_all(tracked.of(kinds))
        return tracked.is_there

    def walk(self) -> Iterator[None]:
        """Find the same objects by following references, in slices. All threads but the one that asks for the first are asked."""
        yield from ReachableObjects(self._wanted(), self._closed).walk(roots_of_process())

    def _wanted(self) -> list[Wanted]:
        listeners: list[Wanted] = [(listener.types(), listener.add_all) for listener in self._listeners]
        return [(all_subclasses(self._module_type), self._registry.add_all), *listeners]

    def _module_constructed(self, frame: FrameType) -> None:
        self._registry.add_new(frame.f_locals["self"])

    def _module_copied(self, frame: FrameType) -> None:
        self._registry.add(frame.f_locals["self"])
