"""What is in memory beside models, in lines."""

from __future__ import annotations

from gpumodels_tui.sources.asking import (
    AllocatorCache,
    FoundOther,
    LargeBlock,
    LargeTensor,
    OtherOnDevice,
    TensorGroup,
    UnseenBlocks,
)
from gpumodels_tui.view.other_memory import cost_of_other, lines_of_other
from snapshots import GIB, MIB


def lines(device: OtherOnDevice) -> list[str]:
    return lines_of_other(FoundOther(devices=(device,)))


def test_a_device_is_told_from_models_to_cache() -> None:
    found = lines(
        OtherOnDevice(
            "cuda:0",
            tensors=214,
            tensors_bytes=1700 * MIB,
            unseen_bytes=300 * MIB,
            groups=(
                TensorGroup("float16", 64 * MIB, "tensor", 12, 1536 * MIB),
                TensorGroup("float32", 0, "autograd", 202, 164 * MIB),
            ),
            largest=(
                LargeTensor("float16", 128 * MIB, (4096, 16384), held_by="global cache in app", made_at="load (app.py:88)"),
            ),
            allocated_bytes=8 * GIB,
            reserved_bytes=9 * GIB,
            models_bytes=6 * GIB,
            other_bytes=2 * GIB,
            allocator=AllocatorCache(
                returnable_bytes=700 * MIB, split_bytes=300 * MIB, waiting_bytes=MIB, pools=2, pools_reserved_bytes=3 * GIB
            ),
            unseen=UnseenBlocks(3, 300 * MIB, 1, 32 * MIB, (LargeBlock(200 * MIB, "capture (app.py:3)"), LargeBlock(MIB))),
        )
    )
    assert found == [
        "cuda:0: 6.0 GB models, 2.0 GB other, 1.0 GB allocator cache",
        "  1.7 GB in 214 tensors that no model holds",
        "     1.5 GB     12 × float16, 64 MB to 1 GB each",
        "     164 MB    202 × float32, less than 1 MB each, made with gradients on",
        "    largest: float16 [4096, 16384], 128 MB, made by load (app.py:88)",
        "             held by global cache in app",
        "    to free them: let go of the results (as `loss`), or compute them under torch.inference_mode()",
        "  300 MB without a tensor in Python: kept for backward, by CUDA graphs or by C++ libraries",
        "      32 MB  in 1 block that has the size of a cuBLAS workspace",
        "     200 MB  made by capture (app.py:3)",
        "  torch.cuda.empty_cache() would give back 700 MB",
        "  300 MB are free parts between memory in use, which empty_cache() can't give back",
        "  1.0 MB are freed once a stream is done with them",
        "  2 private pools of CUDA graphs or MemPool keep 3.0 GB, 0 B of it in use: freed with the graphs",
    ]


def test_what_is_only_known_from_counters_is_said_so() -> None:
    (_, line) = lines(OtherOnDevice("npu:1", reserved_bytes=GIB, allocated_bytes=0, allocator=AllocatorCache(False, GIB)))
    assert line == "  torch.npu.empty_cache() might give back 1.0 GB"


def test_host_memory_has_no_allocator() -> None:
    group = TensorGroup("float32", 1024**2, "gradient", 1, 16 * MIB)
    found = lines(OtherOnDevice("cpu", tensors=1, tensors_bytes=16 * MIB, groups=(group,)))
    assert found == [
        "Host memory: 16 MB in 1 tensor that no model holds",
        "      16 MB      1 × float32, 1 to 64 MB each, gradients of tensors in no model",
        "    to free the gradients: set .grad to None",
    ]


def test_many_groups_end_in_a_sum() -> None:
    groups = tuple(TensorGroup(f"type{number}", 0, "tensor", 2, (20 - number) * MIB) for number in range(10))
    found = lines(OtherOnDevice("cpu", tensors=20, tensors_bytes=155 * MIB, groups=groups))
    assert found[-1] == "      23 MB  in 4 tensors of other kinds"
    assert len(found) == 10


def test_nothing_is_said_as_such() -> None:
    assert lines_of_other(FoundOther()) == [
        "No tensors beside those of models, gradients, optimizer states and caches; "
        "what Python and libraries take without a tensor is not looked at.",
    ]
    assert lines_of_other(FoundOther(hidden_objects=2_000_000, is_complete=False))[1:] == [
        "",
        "gc.freeze() has hidden 2.0 M objects from the search: tensors among them are not listed",
        "the search ended at its limits: there may be more tensors",
    ]


def test_what_it_cost_is_said() -> None:
    found = FoundOther(tensors=1234, seconds=0.34, longest_hold_seconds=0.0251)
    assert cost_of_other(found) == "searched 1.2 k tensors in 0.3 s; the interpreter was held for 25 ms at most"


def test_nothing_hostile_is_drawn() -> None:
    evil = "\x1b]0;x\x07\u202e" * 50
    text = "\n".join(
        lines(
            OtherOnDevice(
                evil,
                tensors=1,
                groups=(TensorGroup(evil, -5, evil, 1, 1),),
                largest=(LargeTensor(evil, 1, (-1,), evil, evil, evil),),
                unseen_bytes=MIB,
                unseen=UnseenBlocks(largest=(LargeBlock(1, evil),)),
                allocator=AllocatorCache(returnable_bytes=1),
            )
        )
    )
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert len(text) < 5000
