"""The sidecar's eyes: attached to the host's torch, it looks when something changed, and says what it sees. Knows no file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from gpumodels.accelerator import AcceleratorSampler
from gpumodels.accounting import TensorAccounts
from gpumodels.arrival import Arrivals, imported_torch
from gpumodels.budget import Budget
from gpumodels.devices import DeviceCounters, DeviceSource, TorchDevices, device_memory
from gpumodels.failures import Failures
from gpumodels.holdings import Holdings, Parts
from gpumodels.identification import Identification
from gpumodels.patches import Patches
from gpumodels.pipelines import Pipelines
from gpumodels.provenance import Provenance
from gpumodels.reading import ModuleReader
from gpumodels.registry import Registry
from gpumodels.resident import resident
from gpumodels.sampler import Sampler
from gpumodels.scan import Scanner
from gpumodels.torch_hooks import TorchHooks
from gpumodels_shared.schema import DeviceMemory, Model

OLDEST_LOOK_SECONDS: Final = 10.0
"""Modules are looked at at least so often, for changes that tell nobody (`parameter.data = …`, `module.weight = …`)."""
WALK_SHARE: Final = 0.004
"""And more often than that as long as it takes no more of a core than this: at 600 modules with every tick."""
ALLOCATION_THRESHOLD_BYTES: Final = 64 * 1024**2
"""A change of the allocators' counters that says: look."""
UNEXPLAINED_SHARE: Final = 0.1
UNEXPLAINED_BYTES: Final = 256 * 1024**2
"""More than this and that share of what an allocator counts that nobody claims says: there may be modules that nobody told of."""
SWEEP_SECONDS: Final = 60.0
"""A sweep stops the host for some 25 ms per million objects, so at most one in so long."""
SCAN_TRIES: Final = 3


@resident
@dataclass(frozen=True, slots=True)
class Attachment:
    """What is there once torch is."""

    torch_version: str
    accelerators: AcceleratorSampler | None
    provenance: Provenance
    holdings: Holdings
    patches: Patches
    hooks: TorchHooks
    scanner: Scanner
    sampler: Sampler
    devices: DeviceSource


@resident
class Observer:
    """One per sidecar. `attach` is called in threads of the host, `look` in the sidecar's."""

    def __init__(
        self,
        devices: DeviceSource | None,
        pause: Callable[[], None],
        breathe: Callable[[], None],
        failures: Failures,
        clock: Callable[[], float] = time.monotonic,
        samples_accelerators: bool = False,
    ) -> None:
        """What it takes.

        Args:
            devices: where the allocators' counters come from; None for torch itself.
            pause: lets the host's threads run, between two slices of work; raises to end it.
            breathe: the same in work that ends soon in any case.
            failures: where what can't be read is counted.
            clock: monotonic seconds.
            samples_accelerators: whether values may be copied from there.
        """
        self._given_devices = devices
        self._pause = pause
        self._breathe = breathe
        self._failures = failures
        self._clock = clock
        self._samples_accelerators = samples_accelerators
        self._arrivals = Arrivals()
        self._attach_lock = threading.Lock()
        self._detached = False
        self._attached: Attachment | None = None
        self.registry = Registry()
        self.budget = Budget(clock)
        self.models: tuple[Model, ...] = ()
        self.devices: tuple[DeviceMemory, ...] = ()
        self._parts: Parts | None = None
        self._seen_version = -1
        self._seen_provenance = -1
        self._seen_at = float("-inf")
        self._walk_seconds = 0.0
        """What the last look took at which nothing had changed."""
        self._seen_arrivals = 0
        self._seen_allocated = 0
        self._swept_at = float("-inf")

    @property
    def torch_version(self) -> str | None:
        """The host's torch; None before it is imported."""
        return self._attached.torch_version if self._attached is not None else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What viewers should say about this process."""
        return self._attached.sampler.warnings if self._attached is not None else ()

    def attach_when_possible(self) -> None:
        """Attach to torch now, or inside the host's own import of it."""
        if imported_torch() is None and "torch" not in sys.modules:
            self._arrivals.wait(["torch"], self._torch_arrived)
        self._attach(imported_torch())

    def detach(self, after_fork: bool = False) -> None:
        """Leave torch as it was; for good. In a forked child no lock is waited for: nobody is left to open it."""
        self._detached = True
        self._arrivals.cancel()
        if after_fork:
            self._attach_lock = threading.Lock()
        with self._attach_lock:
            attached, self._attached = self._attached, None
            if attached is not None:
                attached.hooks.remove()
                attached.provenance.close()

    def look(self) -> None:
        """Bring `models` and `devices` up to date: by a scan where one is due, else by what costs nothing."""
        if self._attached is None:
            self._attach(imported_torch())
        attached = self._attached
        if attached is None:
            return
        counters = attached.devices.counters()
        if self._is_due(attached, counters):
            self._scan(attached)
            self._seen_allocated = _allocated(counters)
        else:
            self.models = attached.sampler.living(self.models)
        self.devices = device_memory(self.models, self._parts, counters)
        self._sweep_if_unexplained(attached)

    def _torch_arrived(self, torch: ModuleType) -> None:
        """Called in the host's thread, inside its `import torch`."""
        with self._failures.guard("attaching to torch"):
            self._attach(torch)

    def _attach(self, torch: ModuleType | None) -> None:
        with self._attach_lock:
            if self._attached is not None or torch is None or self._detached:
                return
            accelerators = AcceleratorSampler(torch, self._failures) if self._samples_accelerators else None
            provenance = Provenance(torch, accelerators)
            accounts = TensorAccounts(torch, provenance, self._failures)
            holdings = Holdings(torch, accounts, self._failures)
            pipelines = Pipelines(self._failures)
            patches = Patches(accounts, self._failures, self.registry.touch, self.registry.loaded)
            listeners = (pipelines, holdings, patches)
            hooks = TorchHooks(torch, self.registry, provenance, listeners, self._failures, accelerators)
            identification = Identification(self.registry, provenance, pipelines, self._failures, self._breathe)
            self._attached = Attachment(
                torch_version=str(torch.__version__),
                accelerators=accelerators,
                provenance=provenance,
                holdings=holdings,
                patches=patches,
                hooks=hooks,
                scanner=Scanner(self.registry, ModuleReader(accounts), self._failures),
                sampler=Sampler(self.registry, identification, self._failures),
                devices=self._given_devices or TorchDevices(torch),
            )
            self._arrivals.wait(hooks.awaited, hooks.module_arrived)
            self._sweep(hooks)

    def _sweep(self, hooks: TorchHooks) -> None:
        self._swept_at = self._clock()
        with self._failures.guard("sweeping for modules"):
            hooks.sweep()

    def _sweep_if_unexplained(self, attached: Attachment) -> None:
        """Look for modules that nobody told of, where an allocator counts much that nobody claims."""
        if self._clock() - self._swept_at < SWEEP_SECONDS or self._parts is None:
            return
        unexplained = sum(device.other_bytes or 0 for device in self.devices)
        allocated = sum(device.allocated_bytes or 0 for device in self.devices)
        if unexplained > max(UNEXPLAINED_BYTES, UNEXPLAINED_SHARE * allocated):
            self._sweep(attached.hooks)

    def _is_due(self, attached: Attachment, counters: Mapping[str, DeviceCounters]) -> bool:
        """Something changed, or may have without anybody telling, or the last scan is old; and the budget allows it."""
        changed = (
            self.registry.version != self._seen_version
            or abs(_allocated(counters) - self._seen_allocated) > ALLOCATION_THRESHOLD_BYTES
            or attached.holdings.is_training
        )
        old = self._clock() - self._seen_at >= min(OLDEST_LOOK_SECONDS, self._walk_seconds / WALK_SHARE)
        return (changed or old) and self.budget.allows(urgent=self.registry.arrivals != self._seen_arrivals)

    def _scan(self, attached: Attachment) -> None:
        """Scan until nothing changed meanwhile, a few times at most: half of a move is a state that never was."""
        spent = time.thread_time()
        provenance = attached.provenance
        try:
            for _ in range(SCAN_TRIES):
                version, provenance_version = self.registry.version, provenance.version
                arrivals = self.registry.arrivals
                with self._failures.guard("asking the kernel for mapped files"):
                    provenance.read_kernel_mappings()
                with self._failures.guard("noting loads that raised"):
                    attached.hooks.loads.finish_what_raised()
                try:
                    found = attached.scanner.scan(self._pause, afresh=provenance_version != self._seen_provenance)
                    found += attached.patches.adapters(found, self._pause)
                finally:
                    provenance.forget_kernel_mappings()
                self._seen_provenance = provenance_version
                if self.registry.version == version:
                    break
            if self.registry.version == self._seen_version and provenance_version == self._seen_provenance:
                self._walk_seconds = time.thread_time() - spent
            self.models = attached.sampler.models(found, time.time_ns())
            self._parts = attached.scanner.measure(attached.holdings, self._pause)
            self._seen_version = version
            self._seen_arrivals = arrivals
            self._seen_at = self._clock()
        finally:
            self.budget.spend(time.thread_time() - spent)


def _allocated(counters: Mapping[str, DeviceCounters]) -> int:
    return sum(counter.allocated_bytes or 0 for counter in counters.values())
