"""Hints on models and processes: what costs memory without need, and what to do, in one sentence each. Safe to draw.

Each rule is a function in one of the two tables at the end. It speaks only where what it says is certain, and is silent where
something that it needs isn't known. docs/hints.md lists the rules for users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.name_sources import KNOWN_FILE_CONFIDENCE, NameSource
from gpumodels_shared.records import Record, field
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Model, Snapshot
from gpumodels_shared.units import format_age, format_bytes
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.copies import Copies
from gpumodels_tui.view.device_names import holds_memory

WIDTHS: Final[Mapping[str, int]] = {
    "float64": 8,
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1,
}
"""Bytes of an element, for the dtypes whose elements are numbers of their own."""
TIMES: Final[Mapping[int, str]] = {2: "twice", 4: "four times", 8: "eight times"}
UNSURE_FILES: Final = frozenset({NameSource.NAMES_AND_SHAPES, NameSource.NODE_INPUT})
"""The sources by which the model's architecture is a file's, but its values may be others."""
LEAST_SHARE: Final = 0.1
"""Of a model's elements: if fewer are wider than in the file, they are wider for a reason."""
ALMOST_ALL: Final = 0.9
LEAST_CACHE_BYTES: Final = 64 * 1024**2
IDLE_SECONDS: Final = 3600.0
COMFY: Final = "ComfyUI"


class ModelFacts(Record):
    """What the rules about a model look at."""

    model: Model
    process: ProcessState
    file_dtypes: Mapping[str, int] = field(default_factory=dict)
    """Bytes in its files by dtype; empty if they aren't all known, or others have taken their places."""
    copies: Sequence[Copies] = ()
    """The copies of it on each device."""


def hints_of_model(facts: ModelFacts) -> list[str]:
    """What the rules say of a model, in the table's order."""
    if not holds_memory(facts.process):
        return []
    return [said for rule in MODEL_RULES.values() if (said := rule(facts)) is not None]


def hints_of_process(process: ProcessState, now: float) -> list[str]:
    """What the rules say of a process, in the table's order.

    Args:
        process: with its newest snapshot.
        now: seconds since the epoch.
    """
    snapshot = process.snapshot
    if snapshot is None or process.liveness is not Liveness.LIVE:
        return []
    return [said for rule in PROCESS_RULES.values() if (said := rule(snapshot, now)) is not None]


def _wider_than_its_file(facts: ModelFacts) -> str | None:
    """Its values were read in one dtype and are kept in a wider one. Training does so on purpose."""
    model = facts.model
    main, narrow = _most(model.dtypes), _most(facts.file_dtypes)
    if not _is_from_its_files(model) or _trains(facts.process.snapshot) or main is None or narrow is None:
        return None
    if WIDTHS[narrow] >= WIDTHS[main] or (model.kind == "vae" and narrow == "float16"):
        return None  # in float16, many VAEs make black pictures
    held = model.dtypes[main] // WIDTHS[main]
    in_file = sum(size // WIDTHS[dtype] for dtype, size in facts.file_dtypes.items() if dtype in WIDTHS)
    as_wide = sum(size // WIDTHS[dtype] for dtype, size in facts.file_dtypes.items() if WIDTHS.get(dtype, 0) >= WIDTHS[main])
    widened = held - as_wide
    if widened < LEAST_SHARE * held or in_file < ALMOST_ALL * held:
        return None
    saved = format_bytes(widened * (WIDTHS[main] - WIDTHS[narrow]))
    how = f"dtype=torch.{narrow}" if WIDTHS[narrow] > 1 else "where the program can compute so"
    times = TIMES[WIDTHS[main] // WIDTHS[narrow]]
    return f"held as {main}, {times} the bytes of {narrow} in its file: loaded as {narrow} ({how}) it takes {saved} less"


def _float32_vae(facts: ModelFacts) -> str | None:
    """bfloat16 reaches as far as float32, so that a VAE that works in one works in the other. float16 doesn't."""
    model, snapshot = facts.model, facts.process.snapshot
    if model.kind != "vae" or snapshot is None or _trains(snapshot):
        return None
    size = model.dtypes.get("float32", 0)
    beside = any(
        other.kind == "checkpoint" and other.device == model.device and _most(other.dtypes) == "bfloat16"
        for other in snapshot.models
    )
    if not beside or not size or size < ALMOST_ALL * model.resident_bytes or _wider_than_its_file(facts) is not None:
        return None
    how = "start ComfyUI with --bf16-vae" if snapshot.model_manager == COMFY else "vae.to(torch.bfloat16)"
    return f"a float32 VAE beside a bfloat16 model: in bfloat16 it takes {format_bytes(size // 2)} less, nearly alike ({how})"


def _copies(facts: ModelFacts) -> str | None:
    """Training keeps copies on purpose: averages of the weights, references."""
    most = max(facts.copies, key=lambda one: one.count, default=None)
    if most is None or most.count < 2 or _trains(facts.process.snapshot):
        return None
    there = f"there {most.count} times, {format_bytes(most.bytes)} in all"
    if any(process != facts.process.key for process, _ in most.models):
        return f"{there}, not only in this process: one process that serves all would need one copy"
    return f"{there}: one copy would do for all; `gpumodels-tui why` says who holds each"


def _left_of_a_model(facts: ModelFacts) -> str | None:
    model = facts.model
    if model.leftover_of is None or not model.resident_bytes:
        return None
    return f"only reference cycles hold it: gc.collect() in its process frees {format_bytes(model.resident_bytes)}"


def _left_merged(facts: ModelFacts) -> str | None:
    """Some weights aren't the file's, and no adapter is there to explain it. If most aren't, it was trained."""
    model = facts.model
    if model.adapters or model.leftover_of is not None or _trains(facts.process.snapshot) or not model.files:
        return None
    if model.compared_tensors:
        matched, compared, what = model.matched_tensors or 0, model.compared_tensors, "tensors"
    else:
        matched, compared, what = model.matched_samples or 0, model.compared_samples or 0, "sampled tensors"
    if matched >= compared or 2 * matched < compared:
        return None
    return (
        f"{compared - matched} of {compared} {what} differ from its file, and no adapter is loaded: a LoRA or another change is "
        "left in it; loading it again brings the file's weights back"
    )


def _allocator_cache(snapshot: Snapshot, _: float) -> str | None:
    """Training fills it again at every step; of what sleeps, it isn't known exactly how much was in use."""
    found = [
        (memory.reserved_bytes - memory.allocated_bytes, memory)
        for memory in snapshot.devices
        if memory.reserved_bytes is not None and memory.allocated_bytes is not None and not memory.asleep_bytes
    ]
    cached, memory = max(found, key=lambda one: one[0], default=(0, None))
    if memory is None or cached < LEAST_CACHE_BYTES or cached <= memory.models_bytes or _trains(snapshot):
        return None
    kind = safe_text(memory.device.partition(":")[0], 20)
    return (
        f"torch keeps {format_bytes(cached)} on {safe_text(memory.device, 40)} that nothing uses now, more than its models take "
        f"there: torch.{kind}.empty_cache() would return up to that"
    )


def _in_pieces(snapshot: Snapshot, _: float) -> str | None:
    """An allocation failed though the allocator had room enough, but nowhere in one piece. Only the error itself tells that."""
    last = next((one for one in reversed(snapshot.out_of_memory) if (one.device or "").startswith("cuda")), None)
    if last is None or last.noticed_by != "exception" or not last.requested_bytes:
        return None
    if last.reserved_bytes is None or last.allocated_bytes is None:
        return None
    unused = last.reserved_bytes - last.allocated_bytes
    if unused < last.requested_bytes:
        return None
    return (
        f"the last allocation that failed asked for {format_bytes(last.requested_bytes)} while torch held {format_bytes(unused)} "
        "unused, in smaller pieces: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True avoids most of that"
    )


def _idle(snapshot: Snapshot, now: float) -> str | None:
    """ComfyUI works in nodes, and each of them is seen. Other programs may work outside their stages."""
    if snapshot.model_manager != COMFY or not snapshot.stages:
        return None
    ended = [stage.ended_at_ns for stage in snapshot.stages if stage.ended_at_ns is not None]
    idle = now - max(ended, default=0) / 1e9
    held = sum(one.on_device_bytes for one in snapshot.models if one.managed_by == COMFY and one.device not in (None, "cpu"))
    if len(ended) < len(snapshot.stages) or idle < IDLE_SECONDS or not held:
        return None
    return f"no node has run for {format_age(idle)}: ComfyUI's 'Unload Models' would free {format_bytes(held)}"


def _most(dtypes: Mapping[str, int]) -> str | None:
    """The dtype of almost all bytes of numbers; None if there are others beside it, such as packed weights."""
    total = sum(dtypes.values())
    floats = {dtype: size for dtype, size in dtypes.items() if dtype in WIDTHS}
    if not total or sum(floats.values()) < ALMOST_ALL * total:
        return None
    return max(floats, key=lambda dtype: (floats[dtype] // WIDTHS[dtype], dtype))


def _is_from_its_files(model: Model) -> bool:
    """Whether its values were read from its files, as far as anything is certain."""
    is_known = model.confidence >= KNOWN_FILE_CONFIDENCE and model.name_source not in UNSURE_FILES
    return is_known and bool(model.files) and model.leftover_of is None


def _trains(snapshot: Snapshot | None) -> bool:
    """Whether there are gradients or optimizers' states."""
    return snapshot is not None and any(memory.gradients_bytes or memory.optimizer_bytes for memory in snapshot.devices)


MODEL_RULES: Final[Mapping[str, Callable[[ModelFacts], str | None]]] = {
    "wider than its file": _wider_than_its_file,
    "float32 VAE": _float32_vae,
    "several copies": _copies,
    "only reference cycles": _left_of_a_model,
    "left merged": _left_merged,
}
"""By the names of docs/hints.md."""
PROCESS_RULES: Final[Mapping[str, Callable[[Snapshot, float], str | None]]] = {
    "allocator cache": _allocator_cache,
    "memory in pieces": _in_pieces,
    "idle": _idle,
}
"""By the names of docs/hints.md."""
