"""What is in a process's memory beside models, and what its allocator keeps, in lines for people. Safe to draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes, format_count
from gpumodels_tui.sources.asking import AllocatorCache, FoundOther, LargeTensor, OtherOnDevice, TensorGroup, UnseenBlocks

MOST_GROUPS: Final = 8
MOST_LARGEST: Final = 3
MOST_BLOCKS: Final = 2
LONGEST_NAME: Final = 160
LEAST_SAID_BYTES: Final = 1024**2
"""Less is not worth a line where something larger is said."""
HOST: Final = "cpu"
NOTHING: Final = (
    "No tensors beside those of models, gradients, optimizer states and caches; "
    "what Python and libraries take without a tensor is not looked at."
)
KINDS: Final = {
    "gradient": "gradients of tensors in no model",
    "autograd": "made with gradients on",
    "parameter": "parameters of no module",
    "mapped": "mapped from a file",
}
"""In words, those that the sidecar tells from plain tensors."""


def lines_of_other(found: FoundOther) -> list[str]:
    """A paragraph for each device, with what can be done about it; host memory last."""
    lines: list[str] = []
    for device in found.devices:
        paragraph = list(_on_device(device))
        if paragraph:
            lines += [*([""] if lines else []), *paragraph]
    if not lines:
        lines.append(NOTHING)
    return [*lines, *_remarks(found)]


def cost_of_other(found: FoundOther) -> str:
    """What the search cost the process."""
    return (
        f"searched {format_count(found.tensors)} tensors in {found.seconds:.1f} s; "
        f"the interpreter was held for {found.longest_hold_seconds * 1000:.0f} ms at most"
    )


def _on_device(device: OtherOnDevice) -> Iterator[str]:
    name = safe_text(device.device, 40)
    if device.device == HOST:
        if device.tensors:
            yield f"Host memory: {format_bytes(device.tensors_bytes)} in {_counted(device.tensors, 'tensor')} that no model holds"
            yield from _tensors(device)
        return
    parts = [
        f"{format_bytes(size)} {label}"
        for label, size in (
            ("models", device.models_bytes),
            ("gradients", device.gradients_bytes),
            ("optimizer", device.optimizer_bytes),
            ("caches", device.cache_bytes),
            ("other", device.other_bytes),
            ("allocator cache", _cached(device)),
        )
        if size
    ]
    yield f"{name}: {', '.join(parts) or 'nothing'}"
    if device.tensors:
        yield f"  {format_bytes(device.tensors_bytes)} in {_counted(device.tensors, 'tensor')} that no model holds"
        yield from _tensors(device)
    unseen = device.unseen_bytes or 0
    if unseen >= LEAST_SAID_BYTES or (unseen and not device.tensors):
        yield f"  {format_bytes(unseen)} without a tensor in Python: kept for backward, by CUDA graphs or by C++ libraries"
        if device.unseen is not None:
            yield from _unseen(device.unseen)
    if device.allocator is not None:
        yield from _cache(device.allocator, device.device.partition(":")[0])


def _tensors(device: OtherOnDevice) -> Iterator[str]:
    for group in device.groups[:MOST_GROUPS]:
        yield f"    {_group(group)}"
    if len(device.groups) > MOST_GROUPS:
        rest = device.groups[MOST_GROUPS:]
        size, count = sum(group.size_bytes for group in rest), sum(group.count for group in rest)
        yield f"    {format_bytes(size):>7}  in {_counted(count, 'tensor')} of other kinds"
    for position, tensor in enumerate(device.largest[:MOST_LARGEST]):
        yield f"    {'largest:' if not position else '        '} {_one(tensor)}"
        if tensor.held_by:
            yield f"             held by {safe_text(tensor.held_by, LONGEST_NAME)}"
    kinds = {group.kind: group.size_bytes for group in device.groups}
    if kinds.get("autograd", 0) >= LEAST_SAID_BYTES:
        yield "    to free them: let go of the results (as `loss`), or compute them under torch.inference_mode()"
    if kinds.get("gradient", 0) >= LEAST_SAID_BYTES:
        yield "    to free the gradients: set .grad to None"


def _group(group: TensorGroup) -> str:
    kind = KINDS.get(group.kind)
    return (
        f"{format_bytes(group.size_bytes):>7}  {group.count:>5} × {safe_text(group.dtype, 20)}, "
        f"{_size_class(group.at_least_bytes)}{f', {kind}' if kind else ''}"
    )


def _size_class(least: int) -> str:
    if least >= 1024**3:
        return "1 GB or more each"
    if least >= 64 * 1024**2:
        return "64 MB to 1 GB each"
    return "1 to 64 MB each" if least else "less than 1 MB each"


def _one(tensor: LargeTensor) -> str:
    shape = f" [{', '.join(map(str, tensor.shape))}]" if tensor.shape else ""
    made = f", made by {safe_text(tensor.made_at, LONGEST_NAME)}" if tensor.made_at else ""
    return f"{safe_text(tensor.dtype, 20)}{shape}, {format_bytes(tensor.size_bytes)}{made}"


def _unseen(unseen: UnseenBlocks) -> Iterator[str]:
    if unseen.workspaces:
        blocks = _counted(unseen.workspaces, "block")
        size = "has" if unseen.workspaces == 1 else "have"
        yield f"    {format_bytes(unseen.workspaces_bytes):>7}  in {blocks} that {size} the size of a cuBLAS workspace"
    named = [block for block in unseen.largest if block.made_at][:MOST_BLOCKS]
    for block in named:
        yield f"    {format_bytes(block.size_bytes):>7}  made by {safe_text(block.made_at or '', LONGEST_NAME)}"


def _cache(cache: AllocatorCache, kind: str) -> Iterator[str]:
    lines: list[str] = []
    if cache.returnable_bytes:
        would = "would" if cache.is_exact else "might"
        lines.append(f"torch.{safe_text(kind, 20)}.empty_cache() {would} give back {format_bytes(cache.returnable_bytes)}")
    if cache.split_bytes >= LEAST_SAID_BYTES:
        lines.append(
            f"{format_bytes(cache.split_bytes)} are free parts between memory in use, which empty_cache() can't give back"
        )
    if cache.waiting_bytes >= LEAST_SAID_BYTES:
        lines.append(f"{format_bytes(cache.waiting_bytes)} are freed once a stream is done with them")
    if cache.pools:
        keep = (
            "private pool of CUDA graphs or MemPool keeps" if cache.pools == 1 else "private pools of CUDA graphs or MemPool keep"
        )
        reserved, used = format_bytes(cache.pools_reserved_bytes), format_bytes(cache.pools_allocated_bytes)
        lines.append(f"{cache.pools:,} {keep} {reserved}, {used} of it in use: freed with the graphs")
    yield from (f"  {line}" for line in lines)


def _cached(device: OtherOnDevice) -> int | None:
    if device.reserved_bytes is None or device.allocated_bytes is None:
        return None
    return max(0, device.reserved_bytes - device.allocated_bytes)


def _remarks(found: FoundOther) -> Iterator[str]:
    if found.hidden_objects or not found.is_complete:
        yield ""
    if found.hidden_objects:
        hidden = format_count(found.hidden_objects)
        yield f"gc.freeze() has hidden {hidden} objects from the search: tensors among them are not listed"
    if not found.is_complete:
        yield "the search ended at its limits: there may be more tensors"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
