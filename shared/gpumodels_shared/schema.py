"""The types of a snapshot: what a process holds, as its sidecar saw it at one moment.

These dataclasses also define the wire format (see `codec` and `decoding`). Compatibility: a minor version only adds fields, each
with a default; readers ignore fields that they don't know; anything else needs a new major version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumodels_shared.records import Record, field

SMALL_MODEL_BYTES: Final = 64 * 1024
"""Root modules smaller than this are summed up in a single entry, `SMALL_MODELS_ID`."""

SMALL_MODELS_ID: Final = "small"

KINDS: Final = (
    "checkpoint",
    "lora",
    "vae",
    "clip",
    "llm",
    "controlnet",
    "upscaler",
    "depth",
    "embedding",
    "audio",
    "model",
)
"""`checkpoint` is a full checkpoint or a diffusion backbone; `clip` any text or image encoder; `model` anything else."""


USED_BY_CALLS: Final = "calls"
USED_BY_ALLOCATIONS: Final = "allocations"
USED_BY_PROCESS: Final = "process"


class Job(Record):
    """What a process was started as a part of, as its environment says. What isn't said is None."""

    id: str | None = None
    """The same for all processes of one job, and for no others on this machine: what ranks are grouped by."""
    launcher: str | None = None
    """What the id is from: `slurm`, `torchrun`, `kubernetes`, `container`."""
    local_rank: int | None = None
    world_size: int | None = None
    slurm_job: str | None = None
    slurm_step: str | None = None
    user: str | None = None
    """Whose job it is, if the processes run as another user: SLURM_JOB_USER."""
    namespace: str | None = None
    """Kubernetes's."""
    pod: str | None = None
    container_id: str | None = None
    """From its cgroup."""


class ProcessInfo(Record):
    """Facts about the process that don't change while it lives."""

    pid: int
    """As the process itself sees it, in its own PID namespace."""
    uid: int
    label: str
    """A name for people: `ComfyUI/main.py`, `vllm`, or the one given to `start(label=…)`."""
    command: tuple[str, ...]
    started_at_ns: int
    """When the process started, realtime nanoseconds."""
    python_version: str
    sidecar_version: str
    interval_seconds: float
    torch_version: str | None = None
    rank: int | None = None
    """The RANK that torchrun set."""
    visible_devices: str | None = None
    """CUDA_VISIBLE_DEVICES when the sidecar started: it determines which device `cuda:0` is."""
    device_order: str | None = None
    """CUDA_DEVICE_ORDER; unless it is PCI_BUS_ID, CUDA numbers the fastest GPU first, which NVML may not."""
    job: Job | None = None
    answers: bool = False
    """Whether its sidecar answers viewers' questions; see `asks`."""
    attached_at_ns: int | None = None
    """When the sidecar came into a process that had run for a while: what was loaded before was not seen."""
    platform: str | None = None
    """What torch's `cuda` is in this process: `cuda`, or `hip` for ROCm."""
    device_choice: Mapping[str, str] = field(default_factory=dict)
    """The environment variables that choose other vendors' devices, as they were when the sidecar started."""


class DeviceMemory(Record):
    """The memory of one device as one process's allocator sees it. What isn't known is None, never 0."""

    device: str
    """torch's name, `cuda:0` or `cpu`; an index means nothing outside the process's CUDA_VISIBLE_DEVICES."""
    models_bytes: int
    """Distinct storages of all models, each counted once."""
    uuid: str | None = None
    """NVML's UUID, by which processes are matched to GPUs."""
    name: str | None = None
    total_bytes: int | None = None
    simulated: bool = False
    """Whether the device doesn't exist, but is simulated by a demonstration or a test."""
    allocated_bytes: int | None = None
    """Live tensors, as the caching allocator counts them; its cache excluded, and so are pages of `Model.dynamic_memory`."""
    reserved_bytes: int | None = None
    """What the caching allocator has reserved from the driver; reserved − allocated is its cache."""
    gradients_bytes: int | None = None
    optimizer_bytes: int | None = None
    cache_bytes: int | None = None
    other_bytes: int | None = None
    """allocated − models − gradients − optimizer − caches: activations, and tensors that no model holds.

    What ComfyUI's dynamic VRAM allocates beside torch's allocator is added to allocated here, as models hold most of it."""
    asleep_bytes: int = 0
    """What the host's allocator has taken away from the device while torch still counts it there; not in the figures above."""
    out_of_memory_count: int | None = None
    """How many out-of-memory errors the caching allocator raised since the process started."""
    held_by_functions: Mapping[str, int] = field(default_factory=dict)
    """Of the other bytes, those in closures, partials and objects around the `forward` of modules, by name of what holds them."""


class LayerTree(Record):
    """A model's modules that hold memory, themselves or below them, as columns in preorder, root first.

    The tree is defined by depths (root 0). Memory is each module's own; readers compute sums over subtrees, so that no byte is
    written twice. 40,000 modules take about 1 MB on the wire.
    """

    names: tuple[str, ...]
    """The attribute under which the parent holds the module; the root's is empty."""
    depths: tuple[int, ...]
    class_names: tuple[str, ...]
    """Distinct class names; `classes` indexes them."""
    classes: tuple[int, ...]
    parameters: tuple[int, ...]
    """Each module's own parameter count, in elements."""
    devices: tuple[str, ...]
    """Distinct devices; `meta` stands for tensors that are not in memory: offloaded to disk, or not loaded yet."""
    dtypes: tuple[str, ...]
    memory: tuple[tuple[int, int, int, int], ...]
    """(layer, device, dtype, bytes), the first three as indexes; on `meta` the bytes that the tensors would take."""
    shared: tuple[tuple[int, int, int, int], ...] = ()
    """The same for storages that are counted elsewhere: tied weights, or storages of another model. Not in any sum."""
    folded: int = 0
    """How many modules were folded into their parents because the snapshot would have been too large."""


class TensorSample(Record):
    """The first values of a tensor; `fingerprint` defines which."""

    key: str
    """Its dotted path in the model, as in a state dict."""
    dtype: str
    """The dtype in memory when the sample was taken, `bfloat16`."""
    shape: tuple[int, ...]
    data: bytes
    """Raw elements, little-endian."""


class Fingerprint(Record):
    """A few values of a model, by which its file is recognised."""

    samples: tuple[TensorSample, ...]
    taken_at_ns: int
    """When these values were first seen, realtime nanoseconds: they can't be from a file that was written later."""


class Model(Record):
    """A model: a root module, or a part of one that is a model in its own right."""

    id: str
    """Unique within its process, and constant while the model lives."""
    name: str
    """The name that users know it by; its class (and architecture) if that isn't known."""
    kind: str
    """The kind of model, one of KINDS."""
    class_name: str
    loaded_at_ns: int
    """When the sidecar first saw it, realtime nanoseconds."""
    bytes_by_device: Mapping[str, int]
    """Bytes of distinct storages per device; tensors that are not in memory (`meta`) are left out."""
    layers: int
    """Modules of the tree that hold memory, themselves or below them, root included."""
    parameters: int
    """Elements of distinct parameters, wherever they are."""
    dtypes: Mapping[str, int]
    """Bytes in memory by dtype, `bfloat16`; with `dynamic_memory` all its bytes, as what is in memory changes all the time."""
    name_source: str = "class"
    """Where the name was taken from: see `name_sources.NameSource`."""
    confidence: float = 0.0
    """0 to 1; below 0.6 the name is the class."""
    candidates: tuple[str, ...] = ()
    """Paths of files among which the evidence can't decide."""
    architecture: str | None = None
    files: tuple[str, ...] = ()
    """Model files that its weights came from, absolute paths."""
    device: str | None = None
    """Where it runs: the accelerator that holds it, or held it before it was offloaded; else `cpu`."""
    offloaded_bytes: int = 0
    """Bytes that are not on `device` but in host memory, on disk or not loaded; 0 if `device` is `cpu` and all is in memory."""
    shared_bytes: int = 0
    """Bytes of storages that it holds but that are counted with another model."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The metadata of its files, with their original keys."""
    parent: str | None = None
    """The base model's id, for an adapter."""
    adapters: tuple[str, ...] = ()
    slot: str | None = None
    """The name of its component in a pipeline: `unet`, `vae`."""
    tree: LayerTree | None = None
    shares_with: tuple[str, ...] = ()
    """Ids of models that hold some of the same storages, whichever model they are counted with."""
    fingerprint: Fingerprint | None = None
    """None if the sidecar couldn't take one, or didn't need to because it observed which file was loaded."""
    matched_samples: int | None = None
    """How many of `compared_samples` agree with its files; if not all do, it was patched, or changed after it was loaded."""
    compared_samples: int | None = None
    matched_tensors: int | None = None
    """How many of `compared_tensors` agree with its files; counted only for patched models in host memory."""
    compared_tensors: int | None = None
    file_stamps: tuple[tuple[int, int], ...] = ()
    """Size and time of change (realtime nanoseconds) of each of `files` when it was read; empty if that isn't known."""
    unread_tensors: int = 0
    """How many tensors, or objects of packed weights, have an unknown size: it holds at least `bytes_by_device`."""
    leftover_of: str | None = None
    """The name of the model that this is left of: held by reference cycles only, it waits for Python's garbage collector."""
    pinned_bytes: int = 0
    """Of the offloaded bytes, those in pinned (page-locked) host memory."""
    dynamic_memory: bool = False
    """Whether the host moves single pages of it on and off its device, as ComfyUI's dynamic VRAM does: that is no load."""
    managed_by: str | None = None
    """The host's model manager that knows it, `ComfyUI`; what `Snapshot.model_manager` doesn't know, it can't unload."""
    managed_bytes: int | None = None
    """The bytes that this manager believes to be loaded on the model's device."""
    asleep_bytes: int = 0
    """Of the offloaded bytes, those of tensors that torch still calls on `device`, while their allocator has taken the memory
    away: vLLM's sleep mode, torch_memory_saver."""
    asleep_in: str | None = None
    """Where these are meanwhile: `host`, `disk`, `discarded`; None if that isn't known, or differs."""
    precision: str | None = None
    """How its weights are stored, as people call it: `nf4`, `int4 GPTQ`, `Q4_K_M`; None if the dtypes say it."""
    imported_bytes: int = 0
    """What of it is another process's memory on `device`, received through CUDA's IPC: it is in no other figure of this model."""
    last_used_ns: int | None = None
    """When it last ran, or may have run at the latest, realtime nanoseconds: it has not run since. None if that isn't known."""
    last_used_by: str | None = None
    """How that is known: USED_BY_CALLS if calls of its modules are noted (first seen then, if there were none); by
    USED_BY_ALLOCATIONS its process allocated nothing since on any accelerator, by USED_BY_PROCESS it computed nothing since: the
    model may have run last long before."""

    @property
    def resident_bytes(self) -> int:
        """Bytes in memory on all devices."""
        return sum(self.bytes_by_device.values())

    @property
    def size_bytes(self) -> int:
        """How large people call it: its bytes in memory; with `dynamic_memory` all its bytes, wherever they are at the moment."""
        if self.dynamic_memory:
            return max(self.resident_bytes, self.on_device_bytes + self.offloaded_bytes)
        return self.resident_bytes

    @property
    def on_device_bytes(self) -> int:
        """Bytes on the device where it runs."""
        return self.bytes_by_device.get(self.device or "cpu", 0)


class SidecarHealth(Record):
    """The sidecar's own cost, and its failures."""

    scan_seconds: float = 0.0
    """CPU time of the last scan."""
    modules: int = 0
    """The number of live modules that it knows."""
    failures: int = 0
    """The number of errors since its start, such as modules or tensors that could not be read."""
    ignored_asks: int = 0
    """How many questions of viewers were none."""


class Stage(Record):
    """A part of the host's work with a name, such as a node of ComfyUI, and what it did to the memory of one device."""

    id: str
    """The host's own: a node's id in its workflow. `stage_ids` of stages that a program names itself."""
    name: str
    """For people: a node's type, `CheckpointLoaderSimple`, or the name that the program gave it."""
    started_at_ns: int
    ended_at_ns: int | None = None
    """None while it runs."""
    device: str | None = None
    """The device of the following figures: the process's main accelerator, else `cpu`. What isn't known is None."""
    bytes_before: int | None = None
    bytes_after: int | None = None
    peak_bytes: int | None = None
    """The most at any moment in between."""
    files: tuple[str, ...] = ()
    """Model files that its inputs name, absolute paths."""


class OutOfMemory(Record):
    """An allocation that failed, and what was in memory then. What isn't known is None."""

    at_ns: int
    """When it was noticed, realtime nanoseconds."""
    device: str | None = None
    """torch's name, `cuda:0`; `cpu` for host memory."""
    noticed_by: str = "exception"
    """`exception`, `counter` (the allocator's own) or `cgroup` (the kernel's, for host memory)."""
    message: str | None = None
    """The first line of the error."""
    requested_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    free_bytes: int | None = None
    """What the driver said was free, as far as the error tells."""
    total_bytes: int | None = None
    looked_at_ns: int | None = None
    """When the parts and the models were looked at, realtime nanoseconds: before it was noticed, as programs then drop models."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """Bytes by part of the memory: `weights`, `gradients`, `optimizer`, `caches`, `other`, `allocator cache`."""
    models: tuple[tuple[str, int], ...] = ()
    """Models on the device and their bytes there, the largest first."""
    stage: str | None = None
    """What ran then: a node's type."""
    recent: tuple[tuple[int, str, str, int], ...] = ()
    """The last minute: when (realtime nanoseconds), what (`loaded`, `moved`, `unloaded`), a model's name and its bytes."""
    record: str | None = None
    """The file that keeps this, absolute path."""


class Snapshot(Record):
    """Everything that a process publishes at one moment. Models are sorted by bytes in memory, largest first."""

    taken_at_ns: int
    process: ProcessInfo
    devices: tuple[DeviceMemory, ...] = ()
    models: tuple[Model, ...] = ()
    health: SidecarHealth = field(default_factory=SidecarHealth)
    warnings: tuple[str, ...] = ()
    model_manager: str | None = None
    """The host's own model manager, `ComfyUI`: models that aren't `managed_by` it are held by something else."""
    stages: tuple[Stage, ...] = ()
    """The last stages, oldest first, those that run included."""
    out_of_memory: tuple[OutOfMemory, ...] = ()
    """The last failures, oldest first."""
