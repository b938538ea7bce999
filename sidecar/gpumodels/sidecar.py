"""Starts and stops the sidecar, runs its one thread, and handles forks and exits. Nothing here raises into the host."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from gpumodels.fork_gate import ForkGate
from gpumodels.forked_children import ForkedChildren
from gpumodels.holders.answering import Answering
from gpumodels.models.allocators import DeviceSource
from gpumodels.observer import Observer
from gpumodels.observing.import_hook import imported_torch
from gpumodels.out_of_memory.failed_allocations import FailedAllocations, Look
from gpumodels.process_end import ProcessEnd
from gpumodels.publishing.device_choice import DeviceChoice
from gpumodels.publishing.process_info import process_info, with_job_of
from gpumodels.publishing.publisher import Publisher
from gpumodels.support.descriptors import close_all_inherited
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.host_profilers import leave_torch_trace, profiler_is_running
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.other_threads import OtherThreads
from gpumodels.support.slices import SLICE_SECONDS
from gpumodels.support.torch_private import write_allocator_history
from gpumodels_shared.identity import this_process
from gpumodels_shared.places import default_directory
from gpumodels_shared.schema import OutOfMemory, ProcessInfo, SidecarHealth, Snapshot

DEFAULT_INTERVAL_SECONDS: Final = 1.0
SHORTEST_INTERVAL_SECONDS: Final = 0.05
QUIET_SECONDS: Final = 0.15
LONGEST_BUILD_SECONDS: Final = 2.0
"""A tick waits for a model that is just being built, QUIET_SECONDS at a time, so that its parts don't flash up as models."""
JOIN_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.0005
BURST_SECONDS: Final = 0.05
LONG_PAUSE_SECONDS: Final = 0.012
"""Pauses last this long after BURST_SECONDS of work in one tick, if the host is busy: large changes show later, without harm."""
NAMES_SECONDS: Final = 0.1
"""How long a tick waits for the names of new models, before it publishes these as pending."""
PROFILED: Final = "a profiler is running in this process; until it ends, only new and changed models are shown, without names"
THREAD_NAME: Final = "gpumodels"


class _Stopping(BaseException):  # no error: it goes through every guard
    """Raised in the sidecar's thread to end whatever it is doing, once it is asked to stop."""


@never_pickled
class _SidecarThread(threading.Thread):
    """The sidecar's thread. Other copies of this package in the same process find it by its name."""

    serves_pid: int | None = None
    """The process that it publishes for; None once it was told to stop."""
    end: Callable[[], None]
    """Stops the sidecar. Another copy of this package has no other way to do so."""
    package: weakref.ref[ModuleType]
    """This copy of the package; dead once nobody can call its `stop()` any more."""


@never_pickled
class Sidecar:
    """A process's one sidecar: the thread, what it observes, and what it publishes."""

    def __init__(
        self,
        directory: Path,
        interval_seconds: float,
        label: str | None,
        devices: DeviceSource | None,
        samples_accelerators: bool,
        attached: bool = False,
        tracks_calls: bool = False,
    ) -> None:
        self.pid = os.getpid()
        self.fork_gate = ForkGate()
        self._interval_seconds = interval_seconds
        identity = this_process()
        self._process = process_info(identity, interval_seconds, label)
        self._device_choice = DeviceChoice()
        self._is_newly_attached = attached
        """Whether the models that were there when it was attached have not been published yet."""
        self.failures = Failures()
        self._publisher = Publisher(directory, identity, int(interval_seconds * 1000), self.failures, self._pause)
        self._failed_allocations = FailedAllocations(self.failures, self._keep_record)
        self._observer = Observer(
            devices,
            self._pause,
            self._pause_naming,
            self.failures,
            samples_accelerators=samples_accelerators,
            memory_errors=self._failed_allocations.errors,
            tracks_calls=tracks_calls,
        )
        self._answering = Answering(self._observer.core_of, self._observer.accounted, self._pause, self.failures)
        self._process = replace(self._process, answers=self._answering.is_on)
        self._stopping = threading.Event()
        self._tick_at = 0.0
        """When the next tick is due, monotonic."""
        self._publish_at = float("inf")
        """When to publish what is known, with or without names, monotonic; infinity once it is published."""
        self._busy_since = 0.0
        """Processor time of this thread when the tick began."""
        self._slice_until = 0.0
        """While names are found, when the next pause is due, in `time.perf_counter()`."""
        self._others = OtherThreads()
        self._is_resting = False
        """Whether viewers were told that a profiler runs."""
        self._thread = _SidecarThread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.serves_pid = self.pid
        self._thread.end = _stop_own
        self._thread.package = weakref.ref(sys.modules[__package__])

    def start(self) -> None:
        """Attach to torch, now or when the host imports it, and begin to publish."""
        self._observer.attach_when_possible()
        self._thread.start()

    def stop(self) -> None:
        """End the thread, leave torch as it was, and mark the file as exited."""
        self._thread.serves_pid = None
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)
        if not self._thread.is_alive():
            self._publish_last_errors()
        self._observer.detach()
        self._answering.close(self._publisher.file)
        self._publisher.close()

    def note_error(self, error: Any) -> None:
        """Note the error that ends this process, in case that it is a failed allocation."""
        self._failed_allocations.errors.note(error)

    def published_names(self) -> set[str]:
        """Names of the models in the snapshot that viewers can read now."""
        published = self._publisher.published
        return {model.name for model in published.models} if published is not None else set()

    def forked(self) -> None:
        """Clean up in a fork's child, where the thread doesn't exist and the file is the parent's."""
        self._thread.serves_pid = None
        self._stopping = threading.Event()  # the thread may have held the lock of the old one
        self._stopping.set()
        close_all_inherited()
        self._observer.detach(after_fork=True)
        self._publisher.abandon()

    def _run(self) -> None:
        with self.failures.guard("leaving signals to the host"):
            _leave_signals_to_host()
        while True:
            self._tick_at = time.monotonic() + self._interval_seconds
            with self.fork_gate, suppress(_Stopping):
                if profiler_is_running():
                    self._rest()
                else:
                    self._is_resting = False
                    self._tick()
                    self._find_names()
                    self._answering.answer(self._publisher.file)
            # After a long tick the next was put off for the sake of names (`_pause_naming`); now there are none to find.
            if self._wait(max(0.0, min(self._interval_seconds, self._tick_at - time.monotonic()))):
                return

    def _wait(self, seconds: float) -> bool:
        """Wait this long. Returns True at once when the sidecar is to stop."""
        stopping = self._stopping.wait(seconds)
        leave_torch_trace()
        return stopping

    def _rest(self) -> None:
        """A tick beside a profiler, which records the sidecar, too: the heartbeat, and models that are new or changed."""
        if self._observer.was_notified():
            self._tick(only_notified=True)
        elif self._is_resting:
            self._publisher.beat()
            return
        self._is_resting = True
        self._publish()

    def _tick(self, only_notified: bool = False) -> None:
        """Bring the models up to date. They are published when their names are found, or soon in any case."""
        with self.failures.guard("a tick"):
            self._busy_since = time.thread_time()
            self._wait_while_building()
            self._process = self._device_choice.applied_to(self._process)
            self._observer.update(only_notified)
            self._publish_at = time.monotonic() + NAMES_SECONDS
            return
        self._publisher.beat()  # the failure is no sign that the process hangs

    def _find_names(self) -> None:
        with self.failures.guard("finding names"):
            self._observer.find_names()
        self._publish()

    def _publish(self) -> None:
        self._publish_at = float("inf")
        observer = self._observer
        began = time.thread_time()
        with self.failures.guard("recording failed allocations"):
            look = Look(time.time_ns(), observer.devices, observer.models, observer.stages)
            self._failed_allocations.update(look)
        with self.failures.guard("publishing"):
            self._process = with_job_of(self._process)
            if self._is_newly_attached:
                self._is_newly_attached = False
                self._process = replace(self._process, attached_at_ns=time.time_ns())
            self._publisher.publish(
                Snapshot(
                    taken_at_ns=time.time_ns(),
                    process=self._process_now(),
                    devices=observer.devices,
                    models=observer.models,
                    health=SidecarHealth(
                        round(observer.last_update_seconds, 4),
                        len(observer.registry),
                        self.failures.count,
                        self._answering.ignored,
                    ),
                    warnings=(*observer.warnings, PROFILED) if self._is_resting else observer.warnings,
                    model_manager=observer.model_manager,
                    stages=observer.stages,
                    out_of_memory=self._failed_allocations.records,
                )
            )
        observer.budget.charge(time.thread_time() - began)

    def _publish_last_errors(self) -> None:
        """Publish once more if the process ends because an allocation failed: Python keeps the error that nobody caught."""
        if self._failed_allocations.errors.has_any():
            self._publish()

    def _process_now(self) -> ProcessInfo:
        return replace(self._process, torch_version=self._observer.torch_version, platform=self._observer.platform)

    def _keep_record(self, failure: OutOfMemory) -> str | None:
        path = self._publisher.keep_record(self._process_now(), failure)
        torch = imported_torch()
        if path is not None and torch is not None and os.environ.get("GPUMODELS_OOM_SNAPSHOT") == "1":
            with self.failures.guard("writing the allocator's history"):
                write_allocator_history(torch, str(Path(path).with_suffix(".pickle")))
        return path

    def _pause(self) -> None:
        """Leave the interpreter to the host's threads, between two slices of work."""
        began = time.monotonic()
        with self.fork_gate.released():
            stopping = self._wait(PAUSE_SECONDS)
            if not stopping and time.thread_time() - self._busy_since > BURST_SECONDS and self._others.are_busy():
                # In a busy host, waiting for the interpreter was a part of the pause.
                stopping = self._wait(max(0.0, LONG_PAUSE_SECONDS - (time.monotonic() - began)))
        if stopping:
            raise _Stopping

    def _pause_naming(self) -> None:
        """The same while names are found: models are scanned and published meanwhile, as often as ever.

        Some of what is found out takes microseconds: a slice of it is as long as any other, since each pause costs as much.
        """
        if time.perf_counter() < self._slice_until:
            return
        self._pause()
        self._slice_until = time.perf_counter() + SLICE_SECONDS
        self._rest_while_profiled()
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick()
            self._publish()
            ended = time.monotonic()
            self._tick_at = max(now + self._interval_seconds, 2 * ended - now)  # time for names, however long a tick takes
        elif now >= self._publish_at:
            self._observer.describe()
            self._publish()

    def _rest_while_profiled(self) -> None:
        """Put off naming until no profiler runs."""
        if not profiler_is_running():
            return
        self._observer.forget_momentary()
        while profiler_is_running():
            self._rest()
            with self.fork_gate.released():
                stopping = self._wait(self._interval_seconds)
            if stopping:
                raise _Stopping
        self._is_resting = False

    def _wait_while_building(self) -> None:
        give_up = time.monotonic() + LONGEST_BUILD_SECONDS
        while (now := time.monotonic()) < give_up and now - self._observer.registry.grew_at < QUIET_SECONDS:
            with self.fork_gate.released():
                stopping = self._wait(QUIET_SECONDS)
            if stopping:
                return
            self._publisher.beat()


_current: Sidecar | None = None
_lock = threading.RLock()
"""Reentrant, for a signal handler that stops the sidecar while it is being started."""
_registered = False
_closed_gate = threading.local()
"""Its `gate` is the fork gate that the forking thread holds for the length of its fork."""


def start(
    *,
    interval: float | None = None,
    directory: str | os.PathLike[str] | None = None,
    label: str | None = None,
    sample_accelerator: bool | None = None,
    track_use: bool | None = None,
) -> None:
    """Begin to publish this process's models for `gpumodels-tui`. Never raises; a second call changes nothing.

    Args:
        interval: seconds between scans, default 1; `GPUMODELS_INTERVAL` sets it too.
        directory: where the file goes; default `GPUMODELS_DIR`, else a directory of this user's in shared memory.
        label: what to call this process, default from its command line.
        sample_accelerator: whether a few values of a model that was loaded straight onto an accelerator may be copied, once, to
            tell which file it is; default no, `GPUMODELS_SAMPLE_ACCELERATOR=1` sets it too. Without it the sidecar never makes a
            driver call. No copy is made while a CUDA graph is captured.
        track_use: whether to note each call of a module, to tell when each model was last used; default no,
            `GPUMODELS_TRACK_USE=1` sets it too. It takes each call of a module a microsecond or two. Without it that is known
            only where nothing can have run, as in a process that rests.

    `GPUMODELS=0` in the environment turns the sidecar off. Errors are logged to the logger `gpumodels`.
    """
    start_with(
        None,
        interval=interval,
        directory=directory,
        label=label,
        sample_accelerator=sample_accelerator,
        track_use=track_use,
    )


def start_with(
    devices: DeviceSource | None,
    *,
    interval: float | None = None,
    directory: str | os.PathLike[str] | None = None,
    label: str | None = None,
    sample_accelerator: bool | None = None,
    track_use: bool | None = None,
    attached: bool = False,
) -> None:
    """`start()` with the caller's own source of device counters, for simulations, or in a process that has run for a while."""
    global _current, _registered
    _forget_parents_sidecar()
    with Failures().guard("starting"), _lock:
        if os.environ.get("GPUMODELS") == "0":
            LOGGER.info("off, because GPUMODELS=0 is set")
            return
        if _current is not None:
            LOGGER.info("already running in this process; this start() changes nothing")
            return
        if _threads_of_copies():
            LOGGER.warning("another copy of gpumodels is already running in this process; this one stays off")
            return
        chosen_directory = Path(directory).expanduser().absolute() if directory is not None else default_directory()
        if not _registered:
            _registered = True
            os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
        _process_end.expect()
        if sample_accelerator is None:
            sample_accelerator = os.environ.get("GPUMODELS_SAMPLE_ACCELERATOR") == "1"
        _children.cancel()
        if track_use is None:
            track_use = os.environ.get("GPUMODELS_TRACK_USE") == "1"
        sidecar = _current = Sidecar(
            chosen_directory, _interval(interval), label, devices, sample_accelerator, attached, tracks_calls=track_use
        )
        try:
            sidecar.start()
        except BaseException:  # no more threads can be started, or it was interrupted: undo everything
            _current = None
            sidecar.stop()
            raise


def stop() -> None:
    """Stop publishing and leave torch as it was. Never raises; does nothing if no sidecar runs.

    This also stops a lost copy of this package: after a notebook has purged and imported gpumodels again, nothing else can.
    """
    _stop_own()
    with Failures().guard("stopping a lost copy"):
        for thread in _threads_of_copies():
            if thread.package() is None:
                thread.end()


def _stop_own() -> None:
    global _current
    _forget_parents_sidecar()
    _children.cancel()
    with Failures().guard("stopping"), _lock:
        sidecar, _current = _current, None
        _process_end.forget()
        if sidecar is not None:
            sidecar.stop()


def serve_forks() -> None:
    """From now on, start in forked children too, once models are to be expected there. For launchers: of those who call
    `start()` themselves, it is known that they can do so in their children."""
    _children.are_served = True


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
        _children.wait()


def _forget_parents_sidecar() -> None:
    """Clean up after a fork of which Python wasn't notified, because C code called fork(2)."""
    if _current is not None and _current.pid != os.getpid():
        _after_fork()


def _note_error(error: Any) -> None:
    if _current is not None:
        _current.note_error(error)


_children: Final = ForkedChildren(start)
_process_end: Final = ProcessEnd(stop, _note_error)


def _threads_of_copies() -> list[Any]:
    """Sidecar threads in this process by name, as vendored or reloaded copies of this package have variables of their own."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name == THREAD_NAME and getattr(thread, "serves_pid", None) == os.getpid() and hasattr(thread, "end")
    ]


def _leave_signals_to_host() -> None:
    """Block signals in this thread: a host that blocks a signal in order to wait for it would else wait in vain."""
    own_faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - own_faults)


def _interval(chosen: float | None) -> float:
    if chosen is None:
        stated = os.environ.get("GPUMODELS_INTERVAL", "")
        try:
            chosen = float(stated) if stated else DEFAULT_INTERVAL_SECONDS
        except ValueError:
            LOGGER.warning("GPUMODELS_INTERVAL=%r is not a number of seconds; using %s", stated, DEFAULT_INTERVAL_SECONDS)
            chosen = DEFAULT_INTERVAL_SECONDS
    if not SHORTEST_INTERVAL_SECONDS <= chosen <= 3600:
        LOGGER.warning("an interval of %s s is out of range; using %s", chosen, DEFAULT_INTERVAL_SECONDS)
        return DEFAULT_INTERVAL_SECONDS
    return chosen
