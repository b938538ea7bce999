"""Attaches to the host's torch, keeps models and devices up to date, and has names found. Knows nothing of the snapshot file.

Of its two kinds of work, the first never waits for the second. `update` finds out what is there. Changes that torch notifies us
of are seen at once, whatever was spent before, at a cost that depends on what changed; other changes are found by comparing all
modules in turn, in a small share of a core. `find_names` finds out what the models are called, as long as there is time for it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from types import ModuleType
from typing import Any, Final

from gpumodels.holders.other_memory import Accounted
from gpumodels.hooks.comfy_nodes import ComfyNodes
from gpumodels.hooks.program_stages import connect, disconnect
from gpumodels.hooks.stage_events import StageEvents
from gpumodels.hooks.torch_hooks import Listener, TorchHooks
from gpumodels.models.allocators import DeviceCounters, DeviceSource, TorchDevices, device_memory
from gpumodels.models.assembling import FoundModel
from gpumodels.models.comfy_dynamic_memory import ComfyDynamicMemory
from gpumodels.models.comfy_loras import ComfyLoras
from gpumodels.models.comfy_manager import ComfyManager
from gpumodels.models.scan import Scanner
from gpumodels.models.sleeping_memory import SleepingMemory
from gpumodels.models.training_state import NonModelBytes, TrainingState
from gpumodels.naming.model_names import ModelNames
from gpumodels.naming.name_queue import NameQueue
from gpumodels.naming.pipeline_slots import PipelineSlots
from gpumodels.observing.import_hook import ImportHook, imported_torch
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.out_of_memory.noticing import MemoryErrors
from gpumodels.provenance.accelerator_samples import AcceleratorSampler
from gpumodels.provenance.labels import LABELS
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.publishing.snapshot_models import HOST, SnapshotModels
from gpumodels.publishing.stages import Stages
from gpumodels.support.accelerator_memory import MainAccelerator
from gpumodels.support.accelerators import platform_of
from gpumodels.support.budget import Budget
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import in_slices
from gpumodels.tensors.module_reader import ModuleReader
from gpumodels.tensors.tensor_storages import TensorReader
from gpumodels.use.last_uses import LastUses
from gpumodels_shared.schema import DeviceMemory, Model, Stage

WALK_SHARE: Final = 0.005
"""Share of a core in which changes without notice are searched for (`parameter.data = …`, `module.weight = …`)."""
LONGEST_WALK_SECONDS: Final = 0.05
"""Processor time of the walk in one `update`, however long ago the last one was."""
ASK_KERNEL_SECONDS: Final = 10.0
"""Between two queries for mapped files, at a millisecond each, if torch notified us of nothing."""
OLDEST_MEASURE_SECONDS: Final = 30.0
MEASURE_SHARE: Final = 0.001
"""Share of a core in which gradients, optimizers and caches are measured, unless the last measurement is older than that."""
ALLOCATION_THRESHOLD_BYTES: Final = 64 * 1024**2
"""If the allocators' counters change by more than this, all modules are compared."""
UNEXPLAINED_SHARE: Final = 0.1
UNEXPLAINED_BYTES: Final = 256 * 1024**2
"""If nothing accounts for more allocated bytes than this and that share, there may be modules that were never registered."""
SWEEP_SECONDS: Final = 60.0
"""At least this long between two sweeps, as each stops the host for some 25 ms per million objects."""
NOT_ATTACHED: Final = "no models are shown, because torch can't be observed here; see the log of gpumodels"
WALK_LOAN_SECONDS: Final = 0.3
"""Processor time that the search for frozen objects may borrow."""
WALK_REST_FACTOR: Final = 1000
"""It begins again, as other objects may be reachable then, after so many times as long as it took, and SWEEP_SECONDS at least."""
_OVER: Final = object()
SCAN_TRIES: Final = 3
LONGEST_TRY_SECONDS: Final = 0.3
"""No further try begins after this: while thousands of modules are built in a row, a slightly old state is better than none."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Attachment:
    """All that is made once torch has been imported."""

    torch_version: str
    platform: str | None
    accelerators: AcceleratorSampler | None
    origin_tracker: OriginTracker
    tensor_reader: TensorReader
    training_state: TrainingState
    comfy_loras: ComfyLoras
    dynamic_memory: ComfyDynamicMemory
    sleeping_memory: SleepingMemory
    comfy_manager: ComfyManager
    main_accelerator: MainAccelerator
    stages: Stages
    last_uses: LastUses
    hooks: TorchHooks
    scanner: Scanner
    model_names: ModelNames
    name_queue: NameQueue
    snapshot_models: SnapshotModels
    devices: DeviceSource


@never_pickled
class Observer:
    """One per sidecar. `attach_when_possible` is called in a thread of the host, `update` and `find_names` in the sidecar's.

    Args:
        devices: where the allocators' counters come from; None for torch itself.
        pause: called between two slices of work; lets the host's threads run, and raises to end the work.
        pause_naming: called instead while names are found, which may take long; may call `update`.
        failures: where what can't be read is counted.
        clock: monotonic seconds.
        samples_accelerators: whether values may be copied from accelerators.
        memory_errors: where failed allocations are noted; None notes none.
        tracks_calls: whether calls of modules are noted, to tell when a model was last used.
    """

    def __init__(
        self,
        devices: DeviceSource | None,
        pause: Callable[[], None],
        pause_naming: Callable[[], None],
        failures: Failures,
        clock: Callable[[], float] = time.monotonic,
        samples_accelerators: bool = False,
        memory_errors: MemoryErrors | None = None,
        tracks_calls: bool = False,
    ) -> None:
        self._given_devices = devices
        self._pause = pause
        self._pause_naming = pause_naming
        self._failures = failures
        self._clock = clock
        self._samples_accelerators = samples_accelerators
        self._memory_errors = memory_errors
        self._tracks_calls = tracks_calls
        self._import_hook = ImportHook()
        self._attach_lock = threading.Lock()
        self._detached = self._cant_attach = False
        self._attached: Attachment | None = None
        self.registry = ModuleRegistry()
        self._stage_events = StageEvents(self.registry)
        self.budget = Budget(clock)
        self.models: tuple[Model, ...] = ()
        self.devices: tuple[DeviceMemory, ...] = ()
        self._parts: NonModelBytes | None = None
        self._found: list[FoundModel] = []
        self._seen_version = -1
        self._last_look_at = clock()
        self._asked_version = -1
        self._asked_at = float("-inf")
        """When the kernel was last asked which model files are mapped."""
        self._walk_not_before = float("-inf")
        self._full_scan_seconds = 0.0
        """Processor time of the last scan that compared all modules."""
        self._measure_seconds = 0.0
        self._measured_at = float("-inf")
        self._seen_allocated = 0
        self.last_update_seconds = 0.0
        """Processor time of the last `update`."""
        self._swept_at = float("-inf")
        self._walk: Iterator[None] | None = None
        """The walk in progress for objects that the sweep left out."""
        self._walk_seconds = 0.0
        """Processor time that it took so far."""
        self._walk_again_at = float("inf")

    @property
    def torch_version(self) -> str | None:
        """The host's torch; None before it is imported."""
        return self._attached.torch_version if self._attached is not None else None

    @property
    def platform(self) -> str | None:
        """Whose devices torch calls `cuda`."""
        return self._attached.platform if self._attached is not None else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What viewers should say about this process."""
        if self._attached is not None:
            return self._attached.snapshot_models.warnings
        return (NOT_ATTACHED,) if self._cant_attach else ()

    @property
    def model_manager(self) -> str | None:
        """The host's own model manager; None if it has none."""
        return self._attached.comfy_manager.name if self._attached is not None else None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What the host did last, where its work has parts with names."""
        return self._attached.stages.stages() if self._attached is not None else ()

    def core_of(self, model_id: str) -> Callable[[], Any] | None:
        """A weak reference to the module of this model; None if there is no such model."""
        return self._attached.snapshot_models.core(model_id) if self._attached is not None else None

    def accounted(self) -> Accounted | None:
        """What is known at the moment of the memory, for a viewer that asks about the rest; None before torch is imported."""
        attached = self._attached
        if attached is None:
            return None
        beside: set[tuple[str, int]] = set()
        parts = attached.scanner.measure(attached.training_state, self._pause, beside)
        counters = attached.devices.counters({memory.device for memory in self.devices if memory.models_bytes})
        outside, asleep = attached.dynamic_memory.outside_torch, attached.sleeping_memory.asleep
        of_models = attached.scanner.storages
        return Accounted(
            attached.tensor_reader,
            lambda key: key in of_models or key in beside,
            device_memory(self.models, parts, counters, outside, asleep),
        )

    def attach_when_possible(self) -> None:
        """Attach to torch now, or during the host's own import of it."""
        connect(self._stage_events)
        if imported_torch() is None and "torch" not in sys.modules:
            self._import_hook.wait(["torch"], self._torch_imported)
        self._attach(imported_torch())

    def detach(self, after_fork: bool = False) -> None:
        """Leave torch as it was, for good. A forked child waits for no lock: the thread that held it doesn't exist there."""
        self._detached = True
        self._import_hook.cancel()
        disconnect(self._stage_events)
        if after_fork:
            self._attach_lock = threading.Lock()
        with self._attach_lock:
            attached, self._attached = self._attached, None
            if attached is not None:
                attached.hooks.remove()
                attached.origin_tracker.close()

    def was_notified(self) -> bool:
        """Whether there is anything for `update(only_notified=True)`: torch was imported, or the registry was notified."""
        if self._attached is None:
            return not self._detached and imported_torch() is not None
        return self.registry.version != self._seen_version

    def update(self, only_notified: bool = False) -> None:
        """Bring `models` and `devices` up to date with all changes that torch notified us of, and with some of the others.

        Args:
            only_notified: leave the others alone, and measure nothing beside the models.
        """
        if self._attached is None:
            self._attach(imported_torch())
        attached = self._attached
        if attached is None:
            return
        self._import_hook.check()
        began = time.thread_time()
        try:
            counters = attached.devices.counters({memory.device for memory in self.devices if memory.models_bytes})
            attached.main_accelerator.device = _main_device(counters)
            attached.last_uses.begin(counters)
            attached.stages.update()
            for key in LABELS.take_changed():
                if self.registry.ref(key) is not None:
                    self.registry.note_change(key)
            contents_version = self.registry.contents_version
            self._update_models(attached, counters, only_notified)
            outside, asleep = attached.dynamic_memory.outside_torch, attached.sleeping_memory.asleep
            self.devices = device_memory(self.models, self._parts, counters, outside, asleep)
            if self.registry.contents_version == contents_version:
                attached.stages.scanned(contents_version, _host_bytes(self.models))
        finally:
            self.last_update_seconds = time.thread_time() - began
            self.budget.charge(self.last_update_seconds)
        if not only_notified:
            self._sweep_if_unexplained(attached)

    def forget_momentary(self) -> None:
        """Drop what was true only when it was read, before a wait in the middle of `find_names`."""
        if self._attached is not None:
            self._attached.origin_tracker.forget_kernel_mappings()

    def find_names(self) -> None:
        """Find out what the models are called, until all is known that can be, or the time for it is spent; updates `models`."""
        attached = self._attached
        if attached is None:
            return
        self._walk_on(attached)
        with self._failures.guard("finding the files that nodes name"):
            attached.stages.find_files(self._pause_naming)
        origin_tracker = attached.origin_tracker
        if self._may_ask_kernel():
            self._asked_version, self._asked_at = self.registry.version, self._clock()
            with self._failures.guard("asking the kernel for mapped files"):
                origin_tracker.read_kernel_mappings()
        try:
            while attached.name_queue.find_next():
                self._pause_naming()
        finally:
            origin_tracker.forget_kernel_mappings()
        self.describe()

    def _may_ask_kernel(self) -> bool:
        """Whether the registry was notified of anything since the kernel was last asked, or that was long ago."""
        return self.registry.version != self._asked_version or self._clock() - self._asked_at >= ASK_KERNEL_SECONDS

    def describe(self) -> None:
        """Update `models` to what is known by now about the models of the last scan."""
        attached = self._attached
        if attached is not None:
            shown = {**attached.sleeping_memory.shown, **attached.dynamic_memory.shown}
            managed, used = attached.comfy_manager.managed, attached.last_uses.known
            models = attached.snapshot_models.models(self._found, time.time_ns(), shown=shown, managed=managed, used=used)
            self.models = attached.snapshot_models.living(models)

    def _torch_imported(self, torch: ModuleType) -> None:
        """Called in the host's thread, inside its `import torch`."""
        with self._failures.guard("attaching to torch"):
            self._attach(torch)

    def _attach(self, torch: ModuleType | None) -> None:
        with self._attach_lock:
            if self._attached is not None or torch is None or self._detached:
                return
            attached = None
            with self._failures.guard("attaching to torch"):
                attached = self._attachment(torch)
            if attached is None:  # it would fail the next time, too
                self._detached = self._cant_attach = True
                self._import_hook.cancel()
                return
            self._attached = attached
            self._import_hook.wait(attached.hooks.awaited, attached.hooks.module_arrived)
            self._sweep(attached.hooks)

    def _attachment(self, torch: ModuleType) -> Attachment:
        """Attach to torch; if that fails half-way, undo it and raise."""
        origin_tracker = None
        try:
            accelerators = AcceleratorSampler(torch, self._failures) if self._samples_accelerators else None
            origin_tracker = OriginTracker(torch, accelerators)
            tensor_reader = TensorReader(torch, origin_tracker, self._failures)
            training_state = TrainingState(torch, tensor_reader, self._failures)
            pipeline_slots = PipelineSlots(self._failures)
            comfy_loras = ComfyLoras(tensor_reader, self._failures, self.registry.request_scan)
            comfy_manager = ComfyManager(comfy_loras.patchers, self._failures)
            main_accelerator = MainAccelerator(torch)
            memory_errors = MemoryErrors(self._failures) if self._memory_errors is None else self._memory_errors
            self._stage_events.measure(main_accelerator, comfy_manager.paged_memory)
            comfy_nodes = ComfyNodes(self._stage_events, memory_errors.note)
            last_uses = LastUses(torch, self.registry, self._tracks_calls)
            listeners: tuple[Listener, ...] = (
                pipeline_slots,
                training_state,
                comfy_loras,
                comfy_nodes,
                memory_errors,
                *last_uses.listeners,
            )
            module_reader = ModuleReader(tensor_reader)
            model_names = ModelNames(self.registry, origin_tracker, pipeline_slots, self._failures, self._pause_naming)
            return Attachment(
                torch_version=str(torch.__version__),
                platform=platform_of(torch),
                accelerators=accelerators,
                origin_tracker=origin_tracker,
                tensor_reader=tensor_reader,
                training_state=training_state,
                comfy_loras=comfy_loras,
                sleeping_memory=SleepingMemory(self.registry, tensor_reader, self._failures),
                dynamic_memory=ComfyDynamicMemory(
                    self.registry, module_reader.paged_models, tensor_reader, self._failures, self._clock
                ),
                comfy_manager=comfy_manager,
                main_accelerator=main_accelerator,
                stages=Stages(self._stage_events, origin_tracker.files_named),
                last_uses=last_uses,
                scanner=Scanner(self.registry, module_reader, self._failures),
                model_names=model_names,
                name_queue=NameQueue(self.registry, model_names, self._failures, self.budget),
                snapshot_models=SnapshotModels(self.registry, model_names, self._failures),
                devices=self._given_devices or TorchDevices(torch),
                # Last, as it begins to observe; if that fails, it undoes what it did.
                hooks=TorchHooks(torch, self.registry, origin_tracker, listeners, self._failures, accelerators),
            )
        except BaseException:
            if origin_tracker is not None:
                origin_tracker.close()
            raise

    def _sweep(self, hooks: TorchHooks) -> None:
        self._swept_at = self._clock()
        with self._failures.guard("sweeping for modules"):
            if not hooks.sweep() and self._walk is None:
                self._walk, self._walk_seconds = hooks.walk(), 0.0

    def _walk_on(self, attached: Attachment) -> None:
        """Search for frozen objects, at once for as long as the loan lasts, then little by little; and again much later."""
        if self._walk is None and self._clock() >= self._walk_again_at:
            self._walk_again_at = float("inf")
            self._sweep(attached.hooks)
        while self._walk is not None and self.budget.allows(WALK_LOAN_SECONDS):
            began = time.thread_time()
            is_over = True
            with self._failures.guard("searching for frozen objects"):
                is_over = next(self._walk, _OVER) is _OVER
            seconds = time.thread_time() - began
            self._walk_seconds += seconds
            self.budget.spend(seconds)
            if is_over:
                self._walk = None
                self._walk_again_at = self._clock() + max(SWEEP_SECONDS, WALK_REST_FACTOR * self._walk_seconds)
            self._pause_naming()

    def _sweep_if_unexplained(self, attached: Attachment) -> None:
        """Search for unregistered modules, if an allocator counts many bytes that nothing accounts for."""
        if self._clock() - self._swept_at < SWEEP_SECONDS or self._parts is None:
            return
        unexplained = sum(device.other_bytes or 0 for device in self.devices) - attached.dynamic_memory.unfilled_bytes
        allocated = sum(device.allocated_bytes or 0 for device in self.devices)
        if unexplained > max(UNEXPLAINED_BYTES, UNEXPLAINED_SHARE * allocated):
            self._sweep(attached.hooks)

    def _update_models(self, attached: Attachment, counters: Mapping[str, DeviceCounters], only_notified: bool) -> None:
        """Scan until nothing changed meanwhile, a few times at most: a model half moved is a state that never lasted."""
        now, allocated = self._clock(), _allocated(counters)
        walk_seconds = min(LONGEST_WALK_SECONDS, WALK_SHARE * (now - self._last_look_at)) if now >= self._walk_not_before else 0.0
        if only_notified:
            walk_seconds = 0.0
        self._last_look_at = now
        # Memory was allocated or freed, maybe without notice: compare all modules, if that is quick or the budget allows it.
        moved = abs(allocated - self._seen_allocated) > ALLOCATION_THRESHOLD_BYTES
        everything = moved and not only_notified and (self._full_scan_seconds <= walk_seconds or self.budget.allows())
        version = self._seen_version
        for attempt in range(SCAN_TRIES):
            if attempt and (self.registry.version == version or self._clock() - now > LONGEST_TRY_SECONDS):
                break
            without_notice = self.registry.version == self._seen_version and not everything
            version, began = self.registry.version, time.thread_time()
            self._scan(attached, everything and not attempt, 0.0 if attempt else walk_seconds)
            if not only_notified:
                self._measure(attached)
            if without_notice:  # assembling a large model takes long: the time is paid off before the next walk
                excess = time.thread_time() - began - walk_seconds
                self._walk_not_before = now + max(0.0, excess) / WALK_SHARE
        self._seen_version = version
        if everything:
            self._seen_allocated = allocated

    def _scan(self, attached: Attachment, everything: bool, walk_seconds: float) -> None:
        began = time.thread_time()
        origin_tracker = attached.origin_tracker
        with self._failures.guard("noting loads that raised"):
            attached.hooks.loads.finish_raised_loads()
        if not self.registry.only_moved() and self._may_ask_kernel():
            origin_tracker.allow_kernel_query()
        try:
            found = attached.scanner.scan(self._pause, everything=everything, walk_seconds=walk_seconds)
            found = attached.comfy_loras.with_adapters(found, self._pause)
            attached.dynamic_memory.update(found, self._pause)
            attached.sleeping_memory.update(found, self._pause)
            attached.comfy_manager.update(found)
            in_slices(attached.last_uses.update(found), self._pause)
        finally:
            origin_tracker.forget_kernel_mappings()
        if everything:
            self._full_scan_seconds = time.thread_time() - began
        is_same = len(found) == len(self._found) and all(map(is_, found, self._found))
        self._found = self._found if is_same else found
        attached.name_queue.set_models(self._found)
        self.describe()

    def _measure(self, attached: Attachment) -> None:
        """Measure what is kept beside the models. This goes through all modules, so it is rarer the more there are."""
        now = self._clock()
        if now - self._measured_at >= min(OLDEST_MEASURE_SECONDS, self._measure_seconds / MEASURE_SHARE):
            began = time.thread_time()
            self._parts = attached.scanner.measure(attached.training_state, self._pause)
            self._measure_seconds = time.thread_time() - began
            self._measured_at = now


def _main_device(counters: Mapping[str, DeviceCounters]) -> str | None:
    """The device that holds most."""
    return max(counters, key=lambda device: counters[device].reserved_bytes or 0, default=None)


def _host_bytes(models: Sequence[Model]) -> int:
    return sum(model.bytes_by_device.get(HOST, 0) for model in models)


def _allocated(counters: Mapping[str, DeviceCounters]) -> int:
    return sum(counter.allocated_bytes or 0 for counter in counters.values())
