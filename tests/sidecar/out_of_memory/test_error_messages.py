"""What messages of failed allocations tell."""

from __future__ import annotations

import pytest

from gpumodels.out_of_memory.error_messages import Told, read_message

MIB, GIB = 2**20, 2**30

SINCE_2_2 = (
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 1 has a total capacity of 23.50 GiB of which 12.00 MiB is free. "
    "Process 4711 has 1.00 GiB memory in use. Including non-PyTorch memory, this process has 22.00 GiB memory in use. Of the "
    "allocated memory 21.00 GiB is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated. If reserved but "
    "unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
OF_2_1 = SINCE_2_2.replace("capacity", "capacty")
OLDER = (
    "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 23.50 GiB total capacity; 20.00 GiB already allocated; "
    "1.25 GiB free; 21.00 GiB reserved in total by PyTorch) If reserved memory is >> allocated memory try"
)


def told(text: str, device: str | None, **sizes: int) -> Told:
    return Told(text.partition("\n")[0], device, **sizes)


@pytest.mark.parametrize("text", [SINCE_2_2, OF_2_1])
def test_torch_tells_all_of_the_device(text: str) -> None:
    assert read_message(text, is_memory_error=True) == told(
        text,
        "cuda:1",
        requested_bytes=20 * MIB,
        allocated_bytes=21 * GIB,
        reserved_bytes=21 * GIB + 512 * MIB,
        free_bytes=12 * MIB,
        total_bytes=23 * GIB + 512 * MIB,
    )


def test_older_wording() -> None:
    assert read_message(OLDER, is_memory_error=False) == told(
        OLDER,
        "cuda:0",
        requested_bytes=2 * GIB,
        allocated_bytes=20 * GIB,
        reserved_bytes=21 * GIB,
        free_bytes=GIB + 256 * MIB,
        total_bytes=23 * GIB + 512 * MIB,
    )


@pytest.mark.parametrize(
    ("text", "device", "requested"),
    [
        ("HIP out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 8 GiB", "cuda:0", 4 * GIB),
        ("XPU out of memory. Tried to allocate 64.00 KiB. GPU 2 has ...", "xpu:2", 64 * 1024),
        ("NPU out of memory. Tried to allocate 1.50 GiB (NPU 3; 29.50 GiB total capacity)", "npu:3", GIB + 512 * MIB),
        ("MPS backend out of memory (MPS allocated: 5.05 GB). Tried to allocate 4.00 GB on private pool.", "mps", 4 * GIB),
        ("CUDA error: out of memory\nCUDA kernel errors might be ...", "cuda", None),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "cuda", None),
        (
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
            "4000000000000 bytes. Error code 12 (Cannot allocate memory)",
            "cpu",
            4_000_000_000_000,
        ),
        ("Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type float64", "cpu", round(7.45 * GIB)),
    ],
)
def test_other_allocators(text: str, device: str, requested: int | None) -> None:
    found = read_message(text, is_memory_error=False)
    assert found is not None
    assert (found.device, found.requested_bytes) == (device, requested)
    assert "\n" not in found.message


@pytest.mark.parametrize(
    "text",
    [
        "mat1 and mat2 shapes cannot be multiplied",
        "expected scalar type Half",
        "",
        "the memory of GPU 0",
        "a memory out of shape",
    ],
)
def test_other_errors_tell_nothing(text: str) -> None:
    assert read_message(text, is_memory_error=False) is None


def test_an_error_that_is_one_by_its_class_needs_no_words() -> None:
    assert read_message("", is_memory_error=True) == Told("", None)


def test_a_long_message_costs_little() -> None:
    assert read_message("1" * 10_000_000 + " GiB free;", is_memory_error=False) is None
