"""The sidecar's life in the host: start and stop, its one thread, forks, exits. Nothing here raises into the host."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Final

from gpumodels.accounting import TensorAccounts
from gpumodels.arrival import Arrivals, imported_torch
from gpumodels.devices import DeviceSource, TorchDevices, device_memory
from gpumodels.failures import LOGGER, Failures
from gpumodels.forks import ForkGate
from gpumodels.holdings import Holdings, Parts
from gpumodels.host import process_info
from gpumodels.identification import Identification
from gpumodels.provenance import Provenance
from gpumodels.publishing import Publisher
from gpumodels.reading import ModuleReader
from gpumodels.registry import Registry
from gpumodels.sampler import Sampler
from gpumodels.scan import Scanner
from gpumodels.torch_hooks import TorchHooks
from gpumodels_shared.identity import this_process
from gpumodels_shared.places import default_directory
from gpumodels_shared.schema import Model, SidecarHealth, Snapshot

DEFAULT_INTERVAL_SECONDS: Final = 1.0
SHORTEST_INTERVAL_SECONDS: Final = 0.05
BUDGET: Final = 0.01
"""Share of one core that scanning may take, over BUDGET_WINDOW_SECONDS."""
BUDGET_WINDOW_SECONDS: Final = 60.0
OLDEST_SCAN_SECONDS: Final = 10.0
"""A scan happens at least so often, for changes that tell nobody (`parameter.data = …`)."""
ALLOCATION_THRESHOLD_BYTES: Final = 64 * 1024**2
"""A change of the allocators' counters that says: look."""
QUIET_SECONDS: Final = 0.15
LONGEST_BUILD_SECONDS: Final = 2.0
"""A model that is being built right now is waited for, QUIET_SECONDS at a time, so that its parts don't flash by as models."""
SCAN_TRIES: Final = 3
JOIN_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.0005
THREAD_NAME: Final = "gpumodels"


class _StoppingError(Exception):
    """The sidecar is asked to stop: whatever it is doing ends here."""


class _SidecarThread(threading.Thread):
    """Known by its name to other copies of this package in the same process."""

    serves_pid: int | None = None
    """The process that it publishes for; None once it was told to stop."""


class Sidecar:
    """One per process."""

    def __init__(self, directory: Path, interval_seconds: float, label: str | None, devices: DeviceSource | None) -> None:
        self.pid = os.getpid()
        self.fork_gate = ForkGate()
        self._interval_seconds = interval_seconds
        identity = this_process()
        self._process = process_info(identity, interval_seconds, label)
        self.failures = Failures()
        self._registry = Registry()
        self._sampler: Sampler | None = None
        self._simulated = devices
        self._devices = devices
        self._publisher = Publisher(directory, identity, int(interval_seconds * 1000), self.failures, self._pause)
        self._hooks: TorchHooks | None = None
        self._provenance: Provenance | None = None
        self._scanner: Scanner | None = None
        self._holdings: Holdings | None = None
        self._parts: Parts | None = None
        self._arrivals = Arrivals()
        self._attach_lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = _SidecarThread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.serves_pid = self.pid
        self._models: tuple[Model, ...] = ()
        self._scanned_version = -1
        self._scanned_provenance = -1
        self._scanned_at = float("-inf")
        self._scanned_allocated = 0
        self._scan_seconds = 0.0
        self._credit_seconds = BUDGET * BUDGET_WINDOW_SECONDS
        self._credited_at = time.monotonic()

    def start(self) -> None:
        """Attach to torch, now or when the host imports it, and begin to publish."""
        if imported_torch() is None and "torch" not in sys.modules:
            self._arrivals.wait({"torch": self._torch_arrived})
        self._attach(imported_torch())
        self._thread.start()

    def stop(self) -> None:
        """Leave torch as it was, say goodbye in the file, and end the thread."""
        self._thread.serves_pid = None
        self._stopping.set()
        self._arrivals.cancel()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)
        with self._attach_lock:
            if self._provenance is not None:
                self._provenance.active = False
            if self._hooks is not None:
                self._hooks.remove()
                self._hooks = None
        self._publisher.close()

    def published_names(self) -> set[str]:
        """Names of the models in the snapshot that viewers can read now."""
        published = self._publisher.published
        return {model.name for model in published.models} if published is not None else set()

    def forked(self) -> None:
        """In the child of a fork: the thread isn't here, and the file is the parent's."""
        self._thread.serves_pid = None
        self._stopping = threading.Event()  # the thread may have been inside the old one, which stays locked then
        self._stopping.set()
        self._arrivals.cancel()
        if self._provenance is not None:
            self._provenance.active = False
        if self._hooks is not None:
            self._hooks.remove()
        self._publisher.abandon()

    def _torch_arrived(self, torch: ModuleType) -> None:
        """Called in the host's thread, inside its `import torch`."""
        with self.failures.guard("attaching to torch"):
            self._attach(torch)

    def _attach(self, torch: ModuleType | None) -> None:
        with self._attach_lock:
            if self._hooks is not None or torch is None or self._stopping.is_set():
                return
            self._provenance = Provenance(torch, self.failures)
            accounts = TensorAccounts(torch, self._provenance, self.failures)
            self._scanner = Scanner(self._registry, ModuleReader(accounts), self.failures)
            self._holdings = Holdings(torch, accounts, self.failures)
            self._devices = self._simulated or TorchDevices(torch)
            self._process = replace(self._process, torch_version=str(torch.__version__))
            self._hooks = TorchHooks(torch, self._registry, self._provenance, self._holdings, self.failures)
            self._arrivals.wait(self._hooks.awaited)
            identification = Identification(self._registry, self._provenance, self._hooks.pipelines, self.failures, self._breathe)
            self._sampler = Sampler(self._registry, identification, self.failures)
            with self.failures.guard("sweeping for modules"):
                self._hooks.sweep()

    def _run(self) -> None:
        with self.failures.guard("leaving signals to the host"):
            _leave_signals_to_host()
        while True:
            started = time.monotonic()
            with self.fork_gate:
                done = False
                with self.failures.guard("a tick"), suppress(_StoppingError):
                    self._tick()
                    done = True
                if not done:  # what can't be told now is no sign that the process hangs
                    self._publisher.beat()
            if self._stopping.wait(max(0.0, self._interval_seconds - (time.monotonic() - started))):
                return

    def _tick(self) -> None:
        if self._hooks is None:
            self._attach(imported_torch())
        self._wait_while_building()
        counters = self._devices.counters() if self._devices is not None else {}
        allocated = sum(counter.allocated_bytes or 0 for counter in counters.values())
        if self._scan_is_due(allocated):
            self._scan()
            self._scanned_allocated = allocated
        elif self._sampler is not None:
            self._models = self._sampler.living(self._models)
        self._publisher.publish(
            Snapshot(
                taken_at_ns=time.time_ns(),
                process=self._process,
                devices=device_memory(self._models, self._parts, counters),
                models=self._models,
                health=SidecarHealth(round(self._scan_seconds, 4), len(self._registry), self.failures.count),
                warnings=self._sampler.warnings if self._sampler is not None else (),
            )
        )

    def _breathe(self) -> None:
        """A pause in work that ends soon in any case."""
        self._stopping.wait(PAUSE_SECONDS)

    def _pause(self) -> None:
        """Between a scan's slices: the host's threads have the interpreter."""
        with self.fork_gate.ajar():
            stopping = self._stopping.wait(PAUSE_SECONDS)
        if stopping:
            raise _StoppingError

    def _wait_while_building(self) -> None:
        give_up = time.monotonic() + LONGEST_BUILD_SECONDS
        while (now := time.monotonic()) < give_up and now - self._registry.grew_at < QUIET_SECONDS:
            with self.fork_gate.ajar():
                stopping = self._stopping.wait(QUIET_SECONDS)
            if stopping:
                return
            self._publisher.beat()

    def _scan_is_due(self, allocated: int) -> bool:
        """Something changed, or may have without anybody telling, or the last scan is old; and the budget allows it."""
        now = time.monotonic()
        full = BUDGET * BUDGET_WINDOW_SECONDS
        self._credit_seconds = min(full, self._credit_seconds + BUDGET * (now - self._credited_at))
        self._credited_at = now
        if self._scanner is None:
            return False
        changed = (
            self._registry.version != self._scanned_version
            or abs(allocated - self._scanned_allocated) > ALLOCATION_THRESHOLD_BYTES
            or (self._holdings is not None and self._holdings.is_training)
        )
        if not changed and now - self._scanned_at < OLDEST_SCAN_SECONDS:
            return False
        return self._credit_seconds > min(self._scan_seconds, full)

    def _scan(self) -> None:
        """Scan until nothing changed meanwhile, a few times at most: half of a move is a state that never was."""
        assert self._scanner is not None
        assert self._provenance is not None
        assert self._sampler is not None
        assert self._holdings is not None
        spent = time.thread_time()
        for _ in range(SCAN_TRIES):
            version, provenance_version = self._registry.version, self._provenance.version
            with self.failures.guard("asking the kernel for mapped files"):
                self._provenance.read_kernel_mappings()
            try:
                found = self._scanner.scan(self._pause, afresh=self._provenance.version != self._scanned_provenance)
            finally:
                self._provenance.forget_kernel_mappings()
            self._scanned_provenance = provenance_version
            if self._registry.version == version:
                break
        self._models = self._sampler.models(found, time.time_ns())
        self._parts = self._scanner.measure(self._holdings, self._pause)
        self._scanned_version = version
        self._scanned_at = time.monotonic()
        self._scan_seconds = time.thread_time() - spent
        self._credit_seconds -= self._scan_seconds


_current: Sidecar | None = None
_lock = threading.RLock()
"""Reentrant, for a signal handler that stops what is just starting."""
_registered = False
_closed_gate = threading.local()
"""The gate that the forking thread holds for the length of its fork."""


def start(*, interval: float | None = None, directory: str | os.PathLike[str] | None = None, label: str | None = None) -> None:
    """Begin to publish this process's models for `gpumodels-tui`. Never raises; a second call changes nothing.

    Args:
        interval: seconds between looks, default 1; `GPUMODELS_INTERVAL` sets it too.
        directory: where the file goes; default `GPUMODELS_DIR`, else a directory of this user's in shared memory.
        label: what to call this process, default from its command line.

    `GPUMODELS=0` in the environment turns it off. What goes wrong is logged to `gpumodels`.
    """
    start_with(None, interval=interval, directory=directory, label=label)


def start_with(
    devices: DeviceSource | None,
    *,
    interval: float | None = None,
    directory: str | os.PathLike[str] | None = None,
    label: str | None = None,
) -> None:
    """`start()`, with devices of the caller's own making: what simulations do."""
    global _current, _registered
    _forget_other_process()
    with Failures().guard("starting"), _lock:
        if os.environ.get("GPUMODELS") == "0":
            LOGGER.info("off, since GPUMODELS=0")
            return
        if sys.platform == "win32":
            LOGGER.warning("Windows is not supported: the sidecar stays off")
            return
        if _current is not None:
            LOGGER.info("already running in this process; this start() changes nothing")
            return
        if _another_copy_runs():
            LOGGER.warning("another copy of gpumodels is already running in this process; this one stays off")
            return
        place = Path(directory).expanduser().absolute() if directory is not None else default_directory()
        if not _registered:
            _registered = True
            os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
            atexit.register(stop)
        sidecar = _current = Sidecar(place, _interval(interval), label, devices)
        try:
            sidecar.start()
        except BaseException:  # no more threads, or interrupted: as if it had never been
            _current = None
            sidecar.stop()
            raise


def stop() -> None:
    """Stop publishing and leave torch as it was. Never raises; nothing happens where nothing runs."""
    global _current
    _forget_other_process()
    with Failures().guard("stopping"), _lock:
        sidecar, _current = _current, None
        if sidecar is not None:
            sidecar.stop()


def published_names() -> set[str]:
    """Names of the models in the snapshot that viewers can read now."""
    sidecar = _current
    return sidecar.published_names() if sidecar is not None else set()


def _before_fork() -> None:
    sidecar = _current
    if sidecar is not None and getattr(_closed_gate, "gate", None) is None and sidecar.fork_gate.close_for_fork():
        _closed_gate.gate = sidecar.fork_gate


def _after_fork_in_parent() -> None:
    gate, _closed_gate.gate = getattr(_closed_gate, "gate", None), None
    if gate is not None:
        gate.open_after_fork()


def _after_fork() -> None:
    global _current, _lock
    _lock = threading.RLock()  # another thread may have held it at the fork
    _closed_gate.gate = None
    sidecar, _current = _current, None
    if sidecar is not None:
        with Failures().guard("after a fork"):
            sidecar.forked()


def _forget_other_process() -> None:
    """Catch up with a fork that Python wasn't told of: C code called fork(2)."""
    if _current is not None and _current.pid != os.getpid():
        _after_fork()


def _another_copy_runs() -> bool:
    """A vendored or reloaded copy of this package has variables of its own, but the thread's name is the same."""
    return any(
        thread.name == THREAD_NAME and getattr(thread, "serves_pid", None) == os.getpid() for thread in threading.enumerate()
    )


def _leave_signals_to_host() -> None:
    """A host that blocks a signal to wait for it would wait in vain, had this thread not blocked it too."""
    own_faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - own_faults)


def _interval(chosen: float | None) -> float:
    if chosen is None:
        stated = os.environ.get("GPUMODELS_INTERVAL", "")
        try:
            chosen = float(stated) if stated else DEFAULT_INTERVAL_SECONDS
        except ValueError:
            LOGGER.warning("GPUMODELS_INTERVAL=%r is no number of seconds; taking %s", stated, DEFAULT_INTERVAL_SECONDS)
            chosen = DEFAULT_INTERVAL_SECONDS
    if not SHORTEST_INTERVAL_SECONDS <= chosen <= 3600:
        LOGGER.warning("an interval of %s s is out of range; taking %s", chosen, DEFAULT_INTERVAL_SECONDS)
        return DEFAULT_INTERVAL_SECONDS
    return chosen
