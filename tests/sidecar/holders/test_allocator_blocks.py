"""What an allocator keeps, by lists of segments as torch makes them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gpumodels.holders.allocator_blocks import MOST_BLOCKS, AllocatorState, allocator_states, workspace_sizes

MIB = 1024**2


def a_segment(
    *blocks: tuple[int, str], address: int = 0, pool: tuple[int, int] = (0, 0), frames: Sequence[Any] = (), **more: Any
) -> Any:
    """Blocks are sizes in MiB and states."""
    listed = [{"size": size * MIB, "state": state, "frames": list(frames)} for size, state in blocks]
    total = sum(size for size, _ in blocks) * MIB
    return {"device": 0, "address": address, "total_size": total, "segment_pool_id": pool, "blocks": listed, **more}


class Allocator:
    """Stands in for `torch.cuda`."""

    def __init__(self, *segments: Any, history: bool | None = False, blocks: int = 10, knows_traces: bool = True) -> None:
        self.asked: list[bool] = []
        states = [(one["size"], one["state"]) for segment in segments for one in segment["blocks"]]
        reserved = sum(size for size, _ in states)
        active = sum(size for size, state in states if state != "inactive")
        allocated = sum(size for size, state in states if state == "active_allocated")
        stats = {
            "reserved_bytes.all.current": reserved,
            "active_bytes.all.current": active,
            "allocated_bytes.all.current": allocated,
            "inactive_split_bytes.all.current": 3 * MIB,
            "active.all.current": blocks,
        }

        def memory_stats(index: int) -> dict[str, int]:
            if index:
                raise RuntimeError("invalid device ordinal")
            return stats

        def with_traces(mempool_id: Any = None, include_traces: bool = True) -> Any:
            self.asked.append(include_traces)
            return segments

        def without_traces() -> Any:
            self.asked.append(True)
            return segments

        self.torch: Any = SimpleNamespace(
            cuda=SimpleNamespace(
                memory_stats=memory_stats,
                is_initialized=lambda: True,
                memory_snapshot=with_traces if knows_traces else without_traces,
            ),
            _C=SimpleNamespace(),
        )
        if history is not None:
            self.torch._C._cuda_isHistoryEnabled = lambda: history

    def state(self) -> AllocatorState:
        return allocator_states(self.torch, "cuda")["cuda:0"]


def test_only_entire_segments_are_returned() -> None:
    allocator = Allocator(
        a_segment((20, "inactive")),
        a_segment((8, "active_allocated"), (12, "inactive"), address=100 * MIB),
        a_segment((4, "active_awaiting_free"), (2, "inactive"), address=200 * MIB),
    )
    state = allocator.state()
    assert state.is_exact
    assert (state.returnable_bytes, state.split_bytes, state.waiting_bytes) == (20 * MIB, 14 * MIB, 4 * MIB)
    assert allocator.asked == [False]


def test_private_pools_are_told_apart() -> None:
    state = Allocator(
        a_segment((6, "inactive")),
        a_segment((20, "inactive"), address=100 * MIB, pool=(0, 3)),
        a_segment((5, "active_allocated"), (15, "inactive"), address=200 * MIB, pool=(0, 4)),
    ).state()
    assert (len(state.pools), state.pools_reserved_bytes, state.pools_allocated_bytes) == (2, 40 * MIB, 5 * MIB)
    assert (state.returnable_bytes, state.split_bytes) == (6 * MIB, 0)


def test_expandable_segments_return_entire_pages() -> None:
    """Pages of 20 MiB: of a free block from 10 to 65 MiB, the two from 20 to 60."""
    state = Allocator(
        a_segment((10, "active_allocated"), (55, "inactive"), (15, "active_allocated"), is_expandable=True, segment_type="large"),
    ).state()
    assert (state.returnable_bytes, state.split_bytes) == (40 * MIB, 15 * MIB)


def test_an_address_leads_to_its_block_and_to_who_made_it() -> None:
    frames = [
        {"filename": "??", "name": "malloc", "line": 0},
        {"filename": "/venv/torch/nn/modules/linear.py", "name": "__init__", "line": 5},
        {"filename": "/home/ada/app.py", "name": "load", "line": 88},
        {"filename": "/home/ada/app.py", "name": "main", "line": 9},
    ]
    state = Allocator(a_segment((2, "active_allocated"), (3, "inactive"), address=7 * MIB, frames=frames)).state()
    block = state.block_at(8 * MIB)
    assert block is not None
    assert (block.size_bytes, block.made_at) == (2 * MIB, "load (app.py:88)")
    assert [state.block_at(address * MIB) for address in (6, 9, 11)] == [None, None, None]


@pytest.mark.parametrize(
    "settings",
    [
        {"blocks": MOST_BLOCKS + 1},
        {"history": True, "knows_traces": False},
        {"history": None, "knows_traces": False},
    ],
)
def test_where_the_list_would_cost_too_much_the_counters_speak(settings: dict[str, Any]) -> None:
    allocator = Allocator(a_segment((20, "inactive")), a_segment((8, "active_allocated"), (3, "inactive")), **settings)
    state = allocator.state()
    assert allocator.asked == []
    assert (state.is_exact, state.returnable_bytes, state.split_bytes, state.blocks) == (False, 20 * MIB, 3 * MIB, [])


def test_an_older_torch_without_a_history_lists_its_blocks() -> None:
    allocator = Allocator(a_segment((20, "inactive")), knows_traces=False)
    assert allocator.state().is_exact
    assert allocator.asked == [True]


def test_slow_names_of_frames_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_SYMBOLIZE_MODE", "addr2line")
    assert not Allocator(a_segment((20, "inactive")), history=True).state().is_exact
    assert Allocator(a_segment((20, "inactive")), history=False).state().is_exact


def test_an_allocator_that_asks_the_driver_is_not_asked() -> None:
    allocator = Allocator(a_segment((20, "inactive")))
    allocator.torch._C._cuda_getAllocatorBackend = lambda: "cudaMallocAsync"
    assert allocator_states(allocator.torch, "cuda") == {}
    assert allocator.asked == []


def test_nothing_is_initialised() -> None:
    allocator = Allocator(a_segment((20, "inactive")))
    allocator.torch.cuda.is_initialized = lambda: False
    assert allocator_states(allocator.torch, "cuda") == {}


@pytest.mark.parametrize(
    ("stated", "sizes"),
    [
        ("", {8_519_680, 32 * MIB}),
        (":4096:8", {32 * MIB}),
        (":16:8", {128 * 1024}),
        (":4096:2:16:8", {8_519_680}),
        ("nonsense", {8_519_680, 32 * MIB}),
        (":4096", {8_519_680, 32 * MIB}),
    ],
)
def test_the_size_of_workspaces_is_as_stated(stated: str, sizes: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", stated)
    assert workspace_sizes() == sizes
