"""Joins the sidecars' devices with the driver's: which GPU a process calls `cuda:0`. Uncertain ones are not joined.

A sidecar makes no driver calls, so it mostly knows only an index. That index depends on CUDA_VISIBLE_DEVICES of its process, and,
if the GPUs differ, on CUDA_DEVICE_ORDER: by default CUDA numbers the fastest GPU first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import Record, replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import DeviceMemory, ProcessInfo
from gpumodels_shared.units import format_age
from gpumodels_shared.visible_devices import is_cuda, is_rocm, normal_uuid, rocm_selectors, visible_entries, visible_uuid
from gpumodels_tui.sources.feed import FeedState, ProcessState
from gpumodels_tui.sources.gpu_reading import AMD, INTEL, NVIDIA, UNNAMED, GpuReading
from gpumodels_tui.sources.gpus import HardwareState

HOST: Final = "host"
"""The key of host memory."""


class Device(Record):
    """A device of this machine, or one that only a process reports."""

    key: str
    """`gpu:<uuid>`, or `gpu:#1` for a GPU that was lost before it said its UUID; `host`; `<process key>:cuda:0` if it isn't known
    which GPU that is."""
    title: str
    index: int | None = None
    uuid: str | None = None
    name: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    utilization_percent: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    lost: str | None = None
    """Why the driver can't reach it now."""
    shares_host_memory: bool = False
    """It uses the machine's memory: `total_bytes` is the machine's."""
    parent: str | None = None
    """Of a slice (MIG device): the UUID of its GPU."""
    parent_index: int | None = None
    is_divided: bool = False
    """Whether it is in MIG mode, so that processes are on its slices only."""
    is_distinct: bool = True
    """Whether it is certainly none of the others; False for a `cuda:0` that may be any of the driver's GPUs."""

    @property
    def label(self) -> str:
        """A short name: `0` for GPU 0, `0.1` for slice 1 of it, `cuda:1`, `host`."""
        if self.key == HOST:
            return HOST
        if self.parent is not None and self.title.startswith("GPU "):
            return f"{self.parent_index}.{self.index}"
        return str(self.index) if self.title.startswith("GPU ") else self.title.split()[0]


class Devices(Record):
    """All devices: GPUs in the driver's order, then those that only sidecars report, host memory last."""

    devices: tuple[Device, ...]
    keys: Mapping[tuple[str, str], str]
    """Device keys by (process key, torch's device name)."""


def join_devices(feed: FeedState, hardware: HardwareState) -> Devices:
    """Join the devices of the driver and of all sidecars, each device once."""
    found = {f"gpu:{gpu.key}": _from_driver(gpu) for gpu in hardware.gpus}
    counted = {key for key, device in found.items() if not _is_summed(device)}
    keys: dict[tuple[str, str], str] = {}
    for process in feed.processes:
        if process.snapshot is None:
            continue
        for memory in devices_named(process):
            if memory.device == "cpu":
                key = HOST
            else:
                key = _key_of(process, memory, hardware.gpus)
                if key not in counted:
                    found[key] = _with_sidecar(found.get(key), key, process, memory, bool(hardware.gpus))
            keys[process.key, memory.device] = key
    known_by_sidecars = sorted((device for device in found.values() if device.key not in _driver_keys(hardware)), key=_order)
    titled = _with_distinct_titles(known_by_sidecars, feed, keys)
    host = Device(HOST, "Host memory", total_bytes=hardware.host_total_bytes, used_bytes=hardware.host_used_bytes)
    from_driver = [found[f"gpu:{gpu.key}"] for gpu in hardware.gpus]
    return Devices((*from_driver, *titled, host), keys)


def devices_named(process: ProcessState) -> list[DeviceMemory]:
    """The process's devices, including those that only its models mention, but not `meta`."""
    if process.snapshot is None:
        return []
    named = {memory.device: memory for memory in process.snapshot.devices}
    for model in process.snapshot.models:
        for device in (*model.bytes_by_device, model.device):
            if device is not None and device not in named:
                held = sum(other.bytes_by_device.get(device, 0) for other in process.snapshot.models)
                named[device] = DeviceMemory(device, held)
    return [memory for device, memory in named.items() if device != "meta"]


def process_title(process: ProcessState) -> str:
    """The process's label and pid, and its rank if it is one: `ComfyUI/main.py 4711`, `train.py (rank 0) 4712`. Safe to draw."""
    info = process.snapshot.process if process.snapshot is not None else None
    label = safe_text(info.label, 200) if info is not None else "process"
    rank = "" if info is None or info.rank is None else f" (rank {info.rank})"
    return f"{label}{rank} {process.shown_pid}"


def state_in_words(process: ProcessState) -> str:
    """`stalled`, `dead`; for a process that is merely late, how old its snapshot is; empty for one that is as it should be.

    It is `>5s old` if no sign of life was seen since the viewer came.
    """
    if process.liveness is not Liveness.LIVE:
        return str(process.liveness.value)
    if process.late_seconds is None:
        return ""
    return f"{'>' if process.late_since_first_seen else ''}{format_age(process.late_seconds)} old"


def _driver_keys(hardware: HardwareState) -> set[str]:
    return {f"gpu:{gpu.key}" for gpu in hardware.gpus}


def _from_driver(gpu: GpuReading) -> Device:
    number = str(gpu.index) if gpu.parent is None else f"{gpu.parent_index}.{gpu.index}"
    return Device(
        key=f"gpu:{gpu.key}",
        title=f"GPU {number}" if gpu.name == UNNAMED else f"GPU {number}  {safe_text(gpu.name, 100)}",
        index=gpu.index,
        uuid=gpu.uuid or None,
        name=None if gpu.name == UNNAMED else gpu.name,
        total_bytes=gpu.total_bytes,
        used_bytes=gpu.used_bytes,
        utilization_percent=gpu.utilization_percent,
        temperature_celsius=gpu.temperature_celsius,
        power_watts=gpu.power_watts,
        lost=gpu.lost,
        shares_host_memory=gpu.shares_host_memory,
        parent=gpu.parent,
        parent_index=gpu.parent_index,
        is_divided=gpu.is_divided,
    )


def _with_sidecar(known: Device | None, key: str, process: ProcessState, memory: DeviceMemory, has_driver: bool) -> Device:
    """The device with one process's data added; its bytes are added up unless the driver counts the device's memory."""
    held = _held(memory) if holds_memory(process) else 0
    if known is not None:
        return replace(
            known,
            used_bytes=(known.used_bytes or 0) + held,
            total_bytes=known.total_bytes if known.total_bytes is not None else memory.total_bytes,
        )
    index = memory.device.partition(":")[2]
    title = safe_text(f"{memory.device}  {memory.name}" if memory.name else memory.device, 100)
    if memory.simulated and "simulated" not in title.lower():
        title += " (simulated)"
    return Device(
        key=key,
        title=title,
        index=int(index) if index.isdecimal() and len(index) < 6 else None,
        uuid=normal_uuid(memory.uuid) if memory.uuid else None,
        name=memory.name,
        total_bytes=memory.total_bytes,
        used_bytes=held,
        is_distinct=memory.uuid is not None or memory.simulated or not has_driver,
    )


def _held(memory: DeviceMemory) -> int:
    """What a process holds of a device, as far as it says; models may be in memory beside torch's allocator."""
    if memory.reserved_bytes is None:
        return memory.allocated_bytes or memory.models_bytes
    counted = (memory.models_bytes, memory.gradients_bytes, memory.optimizer_bytes, memory.cache_bytes, memory.other_bytes)
    cache = memory.reserved_bytes - (memory.allocated_bytes or 0) if memory.allocated_bytes is not None else 0
    return max(memory.reserved_bytes or memory.models_bytes, sum(size or 0 for size in counted) + cache)


def device_state(device: Device) -> str:
    """What is unusual about the device, in words; empty for most."""
    if device.lost is not None:
        return "lost"
    if device.shares_host_memory:
        return "shared with the host"
    return "divided into slices" if device.is_divided else ""


def device_in_words(label: str) -> str:
    """The name of the device with this label within a sentence: `GPU 0`, `GPU 0.1`, `cuda:1`, `host memory`."""
    return f"GPU {label}" if label.replace(".", "", 1).isdecimal() else "host memory" if label == HOST else label


def holds_memory(process: ProcessState) -> bool:
    """Whether the process still runs; rows of a dead process show what it held."""
    return process.liveness in (Liveness.LIVE, Liveness.STALLED)


def _is_summed(device: Device) -> bool:
    """Whether the driver counts no memory of it that processes share, so that what they hold is added up."""
    return device.shares_host_memory and device.used_bytes is None and device.lost is None


def _order(device: Device) -> tuple[int, str]:
    return (device.index if device.index is not None else 1_000_000, device.key)


def _with_distinct_titles(devices: Sequence[Device], feed: FeedState, keys: Mapping[tuple[str, str], str]) -> list[Device]:
    """Add `of <process>` to titles that could be mistaken for a GPU of the driver or for another process's device."""
    titles = [device.title for device in devices]
    processes = {process.key: process for process in feed.processes}
    owners = {key: processes[process] for (process, _), key in keys.items()}
    return [
        replace(device, title=f"{device.title} of {process_title(owners[device.key])}")
        if device.uuid is None and (not device.is_distinct or titles.count(device.title) > 1)
        else device
        for device in devices
    ]


def _key_of(process: ProcessState, memory: DeviceMemory, gpus: Sequence[GpuReading]) -> str:
    unjoined = f"{process.key}:{memory.device}"
    if memory.uuid:
        named = _only(gpu for gpu in gpus if _bare_uuid(gpu.uuid) == _bare_uuid(memory.uuid or ""))
        if named is None:
            return f"gpu:{normal_uuid(memory.uuid)}"
        if not named.is_divided:
            return f"gpu:{named.key}"
        # CUDA may call a slice by the UUID of its GPU.
        on_slices = [gpu for gpu in gpus if gpu.parent == named.uuid and process.driver_pid in gpu.processes]
        return f"gpu:{on_slices[0].key}" if len(on_slices) == 1 else unjoined
    if memory.simulated or process.snapshot is None or not holds_memory(process):
        return unjoined
    gpu = _certain_gpu(process, memory.device, gpus)
    return unjoined if gpu is None else f"gpu:{gpu.key}"


def _bare_uuid(uuid: str) -> str:
    return uuid.removeprefix("GPU-").removeprefix("MIG-").lower()


def _certain_gpu(process: ProcessState, device: str, gpus: Sequence[GpuReading]) -> GpuReading | None:
    """The GPU that this process calls `device`; None unless it is certain."""
    kind, _, number = device.partition(":")
    if not number.isdecimal() or len(number) > 5 or process.snapshot is None:
        return None
    info = process.snapshot.process
    vendor = _vendor_of(info, kind, gpus)
    gpus = [gpu for gpu in gpus if gpu.vendor == vendor]
    if not gpus:
        return None
    used = [memory.device for memory in devices_named(process) if memory.device.startswith(f"{kind}:")]
    running = [gpu for gpu in gpus if process.driver_pid in gpu.processes and not gpu.is_divided]
    if vendor == NVIDIA and visible_uuid(info, int(number)):
        chosen = _chosen_by_uuid(visible_entries(info) or (), gpus)
        named = chosen[int(number)] if int(number) < len(chosen) else None
        if named is not None or not any(gpu.is_divided for gpu in gpus):
            return named
    by_number = {NVIDIA: _by_number, AMD: _by_rocm_number, INTEL: _by_intel_number}[vendor or NVIDIA]
    numbered = by_number(info, int(number), gpus) if process.is_local or len(gpus) == 1 else None
    if numbered is not None and numbered in running:
        return numbered
    # Of a GPU that is lost the driver lists no processes, which says nothing.
    if numbered is not None and (not running or numbered.lost is not None) and _had_its_number(numbered, info, gpus):
        return numbered
    # The driver reports the process on one GPU, and the process uses only one, so the number doesn't matter.
    return running[0] if len(running) == len(used) == 1 and all(gpu.uuid for gpu in gpus) else None


def _vendor_of(info: ProcessInfo, kind: str, gpus: Sequence[GpuReading]) -> str | None:
    """Whose GPUs torch means by this kind of device; ROCm's are called `cuda`, too. None if it isn't certain."""
    if kind == "xpu":
        return INTEL
    if kind != "cuda":
        return None
    if is_rocm(info):
        return AMD
    vendors = {gpu.vendor for gpu in gpus} & {NVIDIA, AMD}
    return NVIDIA if is_cuda(info) else vendors.pop() if len(vendors) == 1 else None


def _by_rocm_number(info: ProcessInfo, number: int, gpus: Sequence[GpuReading]) -> GpuReading | None:
    """The GPU that ROCm calls by this number, in its kernel driver's order, among those that the process chose."""
    chosen = sorted((gpu for gpu in gpus if gpu.runtime_index is not None), key=lambda gpu: gpu.runtime_index or 0)
    selectors = rocm_selectors(info)
    if selectors is None or [gpu.runtime_index for gpu in chosen] != list(range(len(chosen))):
        return None
    for entries in selectors:
        named = [_among(chosen, entry) for entry in entries]
        if None in named:
            return None
        chosen = [gpu for gpu in named if gpu is not None]
    return chosen[number] if number < len(chosen) else None


def _among(gpus: Sequence[GpuReading], entry: str) -> GpuReading | None:
    if entry.isdecimal():
        return gpus[int(entry)] if len(entry) < 6 and int(entry) < len(gpus) else None
    return _only(gpu for gpu in gpus if gpu.uuid.lower() == entry.lower())


def _by_intel_number(info: ProcessInfo, number: int, gpus: Sequence[GpuReading]) -> GpuReading | None:
    """The only GPU that there is; the order of several depends on Level Zero, which also may make two of one card's tiles."""
    return gpus[0] if len(gpus) == 1 and number == 0 else None


def _chosen_by_uuid(entries: Sequence[str], gpus: Sequence[GpuReading]) -> list[GpuReading]:
    """The GPUs that these entries mean, up to the first that means none or may mean several; none of a list with one twice."""
    found: list[GpuReading] = []
    for entry in entries:
        named = _by_uuid(entry, gpus)
        if named is None:
            break
        if named in found:
            return []
        found.append(named)
    return found


def _by_uuid(entry: str, gpus: Sequence[GpuReading]) -> GpuReading | None:
    """The GPU or slice whose UUID begins like this, but no GPU that is divided: its processes are on one of its slices."""
    undivided = [gpu for gpu in gpus if not gpu.is_divided]
    if (named := _only(gpu for gpu in undivided if gpu.uuid.lower().startswith(entry.lower()))) is not None:
        return named
    # Drivers before 470 name a slice after its GPU, `MIG-GPU-<uuid>/<instance>/<instance>`, which NVML does too.
    owner = entry.removeprefix("MIG-").partition("/")[0].lower() if entry.startswith("MIG-GPU-") else ""
    return _only(gpu for gpu in undivided if gpu.uuid and gpu.uuid.lower() == owner)


def _by_number(info: ProcessInfo, number: int, gpus: Sequence[GpuReading]) -> GpuReading | None:
    """The GPU of this number, if CUDA numbers GPUs like NVML: in bus order, or because all GPUs are the same.

    Where one GPU is divided into slices, CUDA leaves out others or all of its slices but one, so that numbers tell nothing.
    """
    if any(gpu.is_divided or gpu.parent is not None for gpu in gpus):
        return None
    sizes = {gpu.total_bytes for gpu in gpus} - {None}  # of one that is lost it isn't known
    if info.device_order != "PCI_BUS_ID" and (len({gpu.name for gpu in gpus}) > 1 or len(sizes) > 1):
        return None
    entries = visible_entries(info)
    if entries is not None:
        chosen = [int(entry) if entry.isdecimal() else -1 for entry in entries[: number + 1]]
        if number >= len(chosen) or not {gpu.index for gpu in gpus}.issuperset(chosen):
            return None  # what comes after one that isn't there, CUDA leaves out
        number = chosen[number]
    return _only(gpu for gpu in gpus if gpu.index == number)  # two, where one that is lost had the number before


def _had_its_number(gpu: GpuReading, info: ProcessInfo, gpus: Sequence[GpuReading]) -> bool:
    """Whether CUDA gave this GPU NVML's number when the process began: it leaves out those that are lost by then."""
    before = [other for other in gpus if other.lost is not None and other.index <= gpu.index]
    alive = sum(other.lost is None for other in gpus)
    return gpu.index >= alive or all(info.started_at_ns < other.lost_at_ns for other in before)


def _only(gpus: Iterable[GpuReading]) -> GpuReading | None:
    found = list(gpus)
    return found[0] if len(found) == 1 else None
