"""What is in memory beside models: its answer as plain data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from gpumodels.holders import other_memory
from gpumodels.holders.allocator_blocks import AllocatorState, Block
from gpumodels.holders.loose_tensors import LooseTensor
from gpumodels.holders.other_memory import MOST_GROUPS, MOST_LARGEST, Accounted, OtherMemory, _groups, _largest, _unseen_blocks
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.tensors.tensor_storages import TensorReader
from gpumodels_shared.asks import MAX_ANSWER_BYTES

MIB = 1024**2
KEPT: list[torch.Tensor] = []


@pytest.fixture
def inquiry() -> Iterator[Callable[[], dict[str, Any]]]:
    tracker = OriginTracker(torch)
    failures = Failures()
    reader = TensorReader(torch, tracker, failures)

    def found() -> dict[str, Any]:
        document = OtherMemory(Accounted(reader, lambda _: False, ()), lambda: None, failures).run()
        assert failures.count == 0
        json.dumps(document)
        return document

    yield found
    tracker.close()
    KEPT.clear()


@pytest.mark.slow
def test_the_largest_are_said_with_who_holds_them(inquiry: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_memory, "MAX_SECONDS", 60.0)  # in this process are the objects of all tests
    KEPT.append(torch.zeros(1024, 40_000, dtype=torch.uint8))
    (cpu,) = inquiry()["devices"]
    largest = next(one for one in cpu["largest"] if one["shape"] == [1024, 40_000])
    assert largest["held_by"].startswith("global KEPT in ")
    assert largest["held_by"].endswith("[0]")
    assert (largest["dtype"], largest["size_bytes"]) == ("uint8", 40_000 * 1024)
    assert cpu["tensors_bytes"] >= 40_000 * 1024
    assert cpu["unseen_bytes"] is None


def test_groups_are_by_dtype_size_and_kind_the_most_bytes_first() -> None:
    tensors = [
        *(LooseTensor(("cuda:0", number), "float16", (1,), 100 * MIB, "tensor") for number in range(3)),
        LooseTensor(("cuda:0", 7), "float16", (1,), 10, "tensor"),
        LooseTensor(("cuda:0", 8), "float16", (1,), 64 * MIB, "gradient"),
    ]
    found = [(one["dtype"], one["at_least_bytes"], one["kind"], one["count"], one["size_bytes"]) for one in _groups(tensors)]
    assert found == [
        ("float16", 64 * MIB, "tensor", 3, 300 * MIB),
        ("float16", 64 * MIB, "gradient", 1, 64 * MIB),
        ("float16", 0, "tensor", 1, 10),
    ]


def test_of_a_list_of_equal_tensors_one_is_told() -> None:
    equal = [LooseTensor(("cuda:0", number), "float16", (4, 5), 40, "tensor") for number in range(9)]
    other = LooseTensor(("cuda:0", 10), "float16", (5, 4), 40, "tensor")
    assert _largest([*equal, other]) == [equal[0], other]
    many = [LooseTensor(("cuda:0", number), "float16", (number,), 40, "tensor") for number in range(9)]
    assert _largest(many) == many[:MOST_LARGEST]


def test_an_answer_has_bounds() -> None:
    many = [LooseTensor(("cuda:0", number), f"dtype{number}", (1,), 1, "tensor") for number in range(1000)]
    assert len(_groups(many)) == MOST_GROUPS
    longest = {"shape": [2**40] * 8, "held_by": "x" * 400, "made_at": "x" * 200}
    assert 16 * (len(json.dumps(_groups(many))) + MOST_LARGEST * len(json.dumps(longest)) + 4000) < MAX_ANSWER_BYTES


def test_blocks_without_a_tensor_are_told_if_they_explain_the_rest() -> None:
    blocks = [Block(0, 8_519_680, None), Block(16 * MIB, 4 * MIB, "capture (app.py:3)"), Block(32 * MIB, 5 * MIB, None)]
    state = AllocatorState(blocks=blocks)
    told = _unseen_blocks(state, {33 * MIB}, 8_519_680 + 4 * MIB)
    assert told is not None
    assert (told["blocks"], told["workspaces"], told["workspaces_bytes"]) == (2, 1, 8_519_680)
    assert told["largest"][1] == {"size_bytes": 4 * MIB, "made_at": "capture (app.py:3)"}
    assert _unseen_blocks(state, {33 * MIB}, 1 * MIB) is None
    assert _unseen_blocks(state, {33 * MIB}, None) is None
    assert _unseen_blocks(AllocatorState(blocks=blocks, is_exact=False), {33 * MIB}, 8_519_680 + 4 * MIB) is None
