"""Which processes, models and GPUs are shown: the filters that all outputs share. What matches is decided only here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Job
from gpumodels_shared.units import format_bytes
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.device_names import HOST, process_title
from gpumodels_tui.view.process_rows import ProcessRow, UnattachedRow

HOSTS_NAMES: Final = ("host", "cpu")
LONGEST_WORD: Final = 60


class Filters(Record):
    """What the user wants to see. Each list that isn't empty must match, by any of its words."""

    gpus: tuple[str, ...] = ()
    """Numbers (`0`, `0.1`), parts of names or of UUIDs, `host`."""
    processes: tuple[str, ...] = ()
    """Pids, or parts of labels and commands."""
    users: tuple[str, ...] = ()
    """Names as `ProcessState.user` has them."""
    jobs: tuple[str, ...] = ()
    """Ids, or parts of a job's or pod's name."""
    kinds: tuple[str, ...] = ()
    min_bytes: int = 0
    """Of a model's size."""
    names: tuple[str, ...] = ()
    """Parts of a model's name."""
    copies: bool = False
    """Only models that a device holds more than once."""

    @property
    def has_any(self) -> bool:
        """Whether anything is left out at all."""
        return self.of_processes or self.of_models or bool(self.gpus)

    @property
    def of_processes(self) -> bool:
        """Whether processes are chosen by what they are."""
        return bool(self.processes or self.users or self.jobs)

    @property
    def of_models(self) -> bool:
        """Whether models are chosen: then processes without any such model are left out."""
        return bool(self.kinds or self.min_bytes or self.names or self.copies)

    def in_words(self) -> str:
        """`user ada, kind lora or vae, at least 1.0 GB`; empty if there are none. Safe to draw."""
        lists = (
            ("GPU", self.gpus),
            ("process", self.processes),
            ("user", self.users),
            ("job", self.jobs),
            ("kind", self.kinds),
            ("name", self.names),
        )
        said = [f"{noun} {' or '.join(safe_text(word, LONGEST_WORD) for word in words)}" for noun, words in lists if words]
        said += [f"at least {format_bytes(self.min_bytes)}"] if self.min_bytes else []
        return ", ".join([*said, *(["in memory more than once"] if self.copies else [])])

    def devices(self, devices: Iterable[tuple[str, str, str]]) -> frozenset[str] | None:
        """The keys of the devices that are shown, of (key, label, title); None if GPUs aren't chosen."""
        if not self.gpus:
            return None
        known = tuple(devices)
        return frozenset(key for text in self.gpus for key in _devices_called(text, known))

    def has_process(self, process: ProcessTraits) -> bool:
        """Whether this process is one of them, whatever models and devices it has."""
        return (
            (not self.users or process.user in self.users)
            and (not self.processes or any(_is_process(text, process) for text in self.processes))
            and (not self.jobs or any(_is_job(text, process.job) for text in self.jobs))
        )

    def has_model(self, name: str, kind: str, size_bytes: int, *, is_twice: bool) -> bool:
        """Whether this model is one of them, whatever its process."""
        return (
            (not self.kinds or kind in self.kinds)
            and size_bytes >= self.min_bytes
            and (is_twice or not self.copies)
            and (not self.names or any(text.casefold() in name.casefold() for text in self.names))
        )


NO_FILTERS: Final = Filters()


class ProcessTraits(Record):
    """What processes are chosen by."""

    user: str
    pids: tuple[int, ...]
    """The one to be used here, and its own in a container."""
    texts: tuple[str, ...]
    """Its label and its command."""
    job: Job | None = None


def traits_of(process: ProcessState) -> ProcessTraits:
    """Of a process with a sidecar."""
    info = None if process.snapshot is None else process.snapshot.process
    return ProcessTraits(
        process.user,
        (process.shown_pid, process.pid),
        (process_title(process), *(() if info is None else (" ".join(info.command),))),
        None if info is None else info.job,
    )


def traits_without_sidecar(row: UnattachedRow | ProcessRow) -> ProcessTraits:
    """Of a process on a GPU that has no sidecar."""
    return ProcessTraits(row.user, () if row.pid is None else (row.pid,), (row.command,))


def is_of_process(device_key: str, process_key: str) -> bool:
    """Whether only this process reports the device, so that nothing is left of it without the process."""
    return device_key.startswith(f"{process_key}:")


def _is_process(text: str, process: ProcessTraits) -> bool:
    if text.isdecimal():
        return int(text) in process.pids
    return any(text.casefold() in one.casefold() for one in process.texts)


def _is_job(text: str, job: Job | None) -> bool:
    if job is None:
        return False
    wanted = text.casefold()
    step = f"{job.slurm_job}.{job.slurm_step}" if job.slurm_job and job.slurm_step else None
    pod = f"{job.namespace}/{job.pod}" if job.namespace and job.pod else None
    exact = (job.id, job.slurm_job, step, job.namespace, pod)
    if any(one is not None and one.casefold() == wanted for one in exact):
        return True
    if wanted.isdecimal():  # job 42 is not a part of job 4242
        return False
    if job.container_id and job.container_id.casefold().startswith(wanted):
        return True
    return any(one is not None and wanted in one.casefold() for one in (job.id, job.pod))


def _devices_called(text: str, devices: Sequence[tuple[str, str, str]]) -> list[str]:
    """The keys of the devices of (key, label, title) that a word may mean; a GPU's slices are meant with it."""
    wanted = text.casefold()
    if wanted in HOSTS_NAMES:
        return [HOST]
    named = [key for key, label, _ in devices if label.casefold() == wanted or label.startswith(f"{wanted}.")]
    if named:
        return named
    if wanted.isdecimal():
        # Without a driver that says which GPU it is, GPU 0 is what processes call `cuda:0`.
        return [key for key, label, _ in devices if label.partition(":")[2] == wanted]
    return [
        key
        for key, label, title in devices
        if key != HOST and (wanted in title.casefold() or key.casefold().startswith((f"gpu:{wanted}", f"gpu:gpu-{wanted}")))
    ]
