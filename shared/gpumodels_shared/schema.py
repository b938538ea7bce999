"""A snapshot: what one process holds, as its sidecar saw it at one moment.

These dataclasses are the wire format's types as well (see `codec` and `decoding`). Compatibility: a minor version only adds
fields, each with a default; readers ignore what they don't know; anything else is a new major version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SMALL_MODEL_BYTES: Final = 64 * 1024
"""Roots below this are summed into one entry, `SMALL_MODELS_ID`."""

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
"""`checkpoint` is a full checkpoint or a diffusion backbone; `clip` any text or image encoder; `model` what nothing else fits."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """The host process: what doesn't change while it lives."""

    pid: int
    """As the process itself sees it, in its own PID namespace."""
    uid: int
    label: str
    """What people call it: `ComfyUI/main.py`, `vllm`, or what `start(label=…)` said."""
    command: tuple[str, ...]
    started_at_ns: int
    """When the process started, realtime nanoseconds."""
    python_version: str
    sidecar_version: str
    interval_seconds: float
    torch_version: str | None = None
    rank: int | None = None
    """torchrun's RANK."""
    visible_devices: str | None = None
    """CUDA_VISIBLE_DEVICES when the sidecar started: what `cuda:0` means in here."""
    device_order: str | None = None
    """CUDA_DEVICE_ORDER; unless it is PCI_BUS_ID, CUDA numbers the fastest GPU first and NVML may not."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device as one process's allocator sees it. What can't be known is None, never 0."""

    device: str
    """torch's name, `cuda:0` or `cpu`; an index means nothing outside the process's CUDA_VISIBLE_DEVICES."""
    models_bytes: int
    """Distinct storages of all models, each counted once."""
    uuid: str | None = None
    """NVML's name for it: what joins processes to GPUs."""
    name: str | None = None
    total_bytes: int | None = None
    simulated: bool = False
    """No such device exists: a demonstration or a test says that it does."""
    allocated_bytes: int | None = None
    """Live tensors, as the caching allocator counts them; its cache excluded."""
    reserved_bytes: int | None = None
    """What the caching allocator holds from the driver; reserved − allocated is its cache."""
    gradients_bytes: int | None = None
    optimizer_bytes: int | None = None
    cache_bytes: int | None = None
    other_bytes: int | None = None
    """allocated − models − gradients − optimizer − caches: activations, and tensors no model holds."""
    out_of_memory_count: int | None = None
    """How often the caching allocator had to give up since the process began."""


@dataclass(frozen=True, slots=True)
class LayerTree:
    """A model's modules that hold memory, themselves or below them: columns in preorder, root first.

    The tree is given by depths (root 0). Memory is each module's own; sums over subtrees are the reader's work, so that no
    byte is written twice. 40,000 modules take about 1 MB on the wire.
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
    """Distinct devices; `meta` stands for what is in no memory at all: offloaded to disk, or not loaded yet."""
    dtypes: tuple[str, ...]
    memory: tuple[tuple[int, int, int, int], ...]
    """(layer, device, dtype, bytes); on `meta` the bytes that it would take."""
    shared: tuple[tuple[int, int, int, int], ...] = ()
    """The same for storages already counted elsewhere: tied weights, or another model that holds them too. Not in any sum."""
    folded: int = 0
    """How many modules were folded into their parents because the snapshot would have been too large."""


@dataclass(frozen=True, slots=True)
class TensorSample:
    """The first values of one tensor; the rule stands in `fingerprint`."""

    key: str
    """Its dotted path in the model, as in a state dict."""
    dtype: str
    """In memory when the sample was taken, `bfloat16`."""
    shape: tuple[int, ...]
    data: bytes
    """Raw elements, little-endian."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A few values of a model, by which the file that they are from is recognised."""

    samples: tuple[TensorSample, ...]
    taken_at_ns: int
    """When these values were first seen, realtime nanoseconds: a file written later is not where they came from."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model: a root module, or a part of one with an identity of its own."""

    id: str
    """Stable while the model lives, within its process."""
    name: str
    """What its users call it; its class (and architecture) where that isn't known."""
    kind: str
    """One of KINDS."""
    class_name: str
    loaded_at_ns: int
    """When the sidecar first saw it, realtime nanoseconds."""
    bytes_by_device: Mapping[str, int]
    """Bytes of distinct storages per device; what is in no memory (`meta`) is left out."""
    layers: int
    """Modules of the tree that hold memory, themselves or below them, root included."""
    parameters: int
    """Elements of distinct parameters, wherever they are."""
    dtypes: Mapping[str, int]
    """Bytes in memory by dtype, `bfloat16`."""
    name_source: str = "class"
    """What the name was taken from: see `name_sources.NameSource`."""
    confidence: float = 0.0
    """0 to 1; below 0.6 the name is the class."""
    candidates: tuple[str, ...] = ()
    """Paths between which the evidence couldn't decide."""
    architecture: str | None = None
    files: tuple[str, ...] = ()
    """Model files that its weights came from, absolute paths."""
    device: str | None = None
    """Where it runs: the accelerator that holds it, or held it before it was offloaded; else `cpu`."""
    offloaded_bytes: int = 0
    """What of it is not on `device`, in host memory, on disk or not loaded; 0 where `device` is `cpu` and all is in memory."""
    shared_bytes: int = 0
    """Bytes of storages that it holds but that are counted with another model."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """From the files, raw keys."""
    parent: str | None = None
    """The base model's id, for an adapter."""
    adapters: tuple[str, ...] = ()
    slot: str | None = None
    """Its place in a pipeline: `unet`, `vae`."""
    tree: LayerTree | None = None
    shares_with: tuple[str, ...] = ()
    """Ids of models that hold some of its storages too, whichever of them counts these."""
    fingerprint: Fingerprint | None = None
    """Where the sidecar could take one; none for models whose file it saw being loaded."""
    matched_samples: int | None = None
    """How many of `compared_samples` agree with its files; fewer than all: it was patched, or changed since it was loaded."""
    compared_samples: int | None = None
    matched_tensors: int | None = None
    """The same of all tensors that could be compared, where the sidecar counted them: of a patched model in host memory."""
    compared_tensors: int | None = None
    file_stamps: tuple[tuple[int, int], ...] = ()
    """Size and time of change (realtime nanoseconds) of each of `files` when it was read; empty where that isn't known."""
    unread_tensors: int = 0
    """How many tensors, or objects of packed weights, have a size that nobody knows: it holds at least `bytes_by_device`."""

    @property
    def resident_bytes(self) -> int:
        """Bytes in memory on all devices."""
        return sum(self.bytes_by_device.values())

    @property
    def on_device_bytes(self) -> int:
        """Bytes on the device where it runs."""
        return self.bytes_by_device.get(self.device or "cpu", 0)


@dataclass(frozen=True, slots=True)
class SidecarHealth:
    """What the sidecar itself costs and what it could not read."""

    scan_seconds: float = 0.0
    """CPU time of the last scan."""
    modules: int = 0
    """Live modules it knows."""
    failures: int = 0
    """Modules or tensors that could not be read, since start."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it. Models are sorted by bytes in memory, largest first."""

    taken_at_ns: int
    process: ProcessInfo
    devices: tuple[DeviceMemory, ...] = ()
    models: tuple[Model, ...] = ()
    health: SidecarHealth = field(default_factory=SidecarHealth)
    warnings: tuple[str, ...] = ()
