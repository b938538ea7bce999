"""Writes this version's golden file: a snapshot file as a sidecar of this version leaves it, every field of the schema in use.

    python tests/golden/make_golden.py

Run it once for each version of the format that is released, and commit what it wrote; never write one anew that is released.
The same bytes come out wherever and whenever it runs. Zeros at the end are cut off: `grown` puts them back.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from gpumodels_shared.codec import encode
from gpumodels_shared.layout import (
    HEADER_BYTES,
    HEARTBEAT_OFFSET,
    MAJOR,
    MINOR,
    SLOT_HEADER_BYTES,
    Header,
    Heartbeat,
    SlotHeader,
    WriterState,
    pack_header,
    pack_heartbeat,
    pack_slot_header,
    payload_crc,
)
from gpumodels_shared.schema import (
    DeviceMemory,
    Fingerprint,
    Job,
    LayerTree,
    Model,
    OutOfMemory,
    ProcessInfo,
    SidecarHealth,
    Snapshot,
    Stage,
    TensorSample,
)

TAKEN_AT_NS: Final = 1_780_000_000_000_000_000
GIB: Final = 1024**3
SLOT_BYTES: Final = 64 * 1024
PID: Final = 4711
START_TICKS: Final = 123_456

TREE: Final = LayerTree(
    names=("", "blocks", "0", "attn", "head"),
    depths=(0, 1, 2, 3, 1),
    class_names=("WanModel", "ModuleList", "WanAttentionBlock", "Linear"),
    classes=(0, 1, 2, 3, 3),
    parameters=(0, 0, 8, 1024, 512),
    devices=("cuda:0", "cpu", "meta"),
    dtypes=("bfloat16", "float32"),
    memory=((2, 0, 1, 32), (3, 0, 0, 2048), (4, 1, 0, 1024)),
    shared=((4, 0, 0, 64),),
    folded=3,
)

FINGERPRINT: Final = Fingerprint(
    samples=(TensorSample("blocks.0.attn.weight", "bfloat16", (32, 32), bytes(range(32))),),
    taken_at_ns=TAKEN_AT_NS - 119 * 10**9,
)

SNAPSHOT: Final = Snapshot(
    taken_at_ns=TAKEN_AT_NS,
    process=ProcessInfo(
        pid=PID,
        uid=1000,
        label="ComfyUI/main.py",
        command=("python", "main.py", "--listen"),
        started_at_ns=TAKEN_AT_NS - 3600 * 10**9,
        python_version="3.12.4",
        sidecar_version="0.1.0",
        interval_seconds=1.0,
        torch_version="2.13.0",
        rank=3,
        visible_devices="1,0",
        device_order="PCI_BUS_ID",
        platform="cuda",
        device_choice={"ZE_AFFINITY_MASK": "0"},
        job=Job(
            id="slurm 4242",
            launcher="slurm",
            local_rank=1,
            world_size=4,
            slurm_job="4242",
            slurm_step="0",
            user="ann",
            namespace="training",
            pod="trainer-0",
            container_id="0123456789ab",
        ),
        answers=True,
        attached_at_ns=TAKEN_AT_NS - 1700 * 10**9,
    ),
    devices=(
        DeviceMemory(
            device="cuda:0",
            models_bytes=2 * GIB,
            uuid="GPU-11111111-2222-3333-4444-555555555555",
            name="NVIDIA H100 80GB HBM3",
            total_bytes=80 * GIB,
            simulated=True,
            asleep_bytes=GIB // 8,
            allocated_bytes=5 * GIB,
            reserved_bytes=6 * GIB,
            gradients_bytes=GIB,
            optimizer_bytes=GIB,
            cache_bytes=GIB // 2,
            other_bytes=GIB // 2,
            out_of_memory_count=3,
            held_by_functions={"ControlHook": GIB // 4},
        ),
        DeviceMemory(device="cpu", models_bytes=1024),
    ),
    models=(
        Model(
            id="m1",
            name="Wan2_2-T2V-A14B-HIGH",
            kind="checkpoint",
            class_name="WanModel",
            loaded_at_ns=TAKEN_AT_NS - 120 * 10**9,
            bytes_by_device={"cuda:0": 2 * GIB, "cpu": 1024},
            layers=145,
            parameters=1_073_741_824,
            dtypes={"bfloat16": 2 * GIB, "float32": 1024},
            name_source="file",
            confidence=0.99,
            candidates=("/models/a.safetensors", "/models/b.safetensors"),
            architecture="wan2.2",
            files=("/models/Wan2_2-T2V-A14B-HIGH_bf16.safetensors",),
            device="cuda:0",
            offloaded_bytes=1024,
            shared_bytes=64,
            shares_with=("m2",),
            fingerprint=FINGERPRINT,
            matched_samples=15,
            compared_samples=16,
            matched_tensors=217,
            compared_tensors=265,
            file_stamps=((2_147_491_840, TAKEN_AT_NS - 86_400 * 10**9),),
            unread_tensors=2,
            pinned_bytes=512,
            dynamic_memory=True,
            managed_by="ComfyUI",
            managed_bytes=2 * GIB,
            precision="fp8 scaled",
            last_used_ns=TAKEN_AT_NS - 3600 * 10**9,
            last_used_by="calls",
            asleep_bytes=GIB // 8,
            asleep_in="host",
            imported_bytes=GIB // 16,
            metadata={"modelspec.title": "Wan 2.2 ünïcode 模型"},
            adapters=("m2",),
            slot="transformer",
            tree=TREE,
        ),
        Model(
            id="m2",
            name="MyLoRA",
            kind="lora",
            class_name="LoRANetwork",
            loaded_at_ns=TAKEN_AT_NS - 60 * 10**9,
            bytes_by_device={},
            layers=32,
            parameters=0,
            dtypes={},
            parent="m1",
        ),
        Model(
            id="m3",
            name="left of Wan2_2-T2V-A14B-LOW",
            kind="model",
            class_name="WanAttentionBlock",
            loaded_at_ns=TAKEN_AT_NS - 30 * 10**9,
            bytes_by_device={"cpu": 2048},
            layers=1,
            parameters=512,
            dtypes={"float32": 2048},
            name_source="leftover",
            confidence=1.0,
            leftover_of="Wan2_2-T2V-A14B-LOW",
        ),
    ),
    health=SidecarHealth(scan_seconds=0.0125, modules=603, failures=1, ignored_asks=2),
    warnings=("safetensors is not installed: names come from classes",),
    model_manager="ComfyUI",
    stages=(
        Stage(
            id="37",
            name="UNETLoader",
            started_at_ns=TAKEN_AT_NS - 130 * 10**9,
            ended_at_ns=TAKEN_AT_NS - 119 * 10**9,
            device="cuda:0",
            bytes_before=1024,
            bytes_after=2 * GIB,
            peak_bytes=3 * GIB,
            files=("/models/Wan2_2-T2V-A14B-HIGH_bf16.safetensors",),
        ),
        Stage(id="3:1", name="KSampler", started_at_ns=TAKEN_AT_NS - 10**9),
    ),
    out_of_memory=(
        OutOfMemory(
            at_ns=TAKEN_AT_NS - 5 * 10**9,
            device="cuda:0",
            message="CUDA out of memory. Tried to allocate 2.00 GiB.",
            requested_bytes=2 * GIB,
            allocated_bytes=22 * GIB,
            reserved_bytes=23 * GIB,
            free_bytes=GIB // 2,
            total_bytes=24 * GIB,
            looked_at_ns=TAKEN_AT_NS - 6 * 10**9,
            parts={"weights": 20 * GIB, "other": 2 * GIB},
            models=(("Wan2_2-T2V-A14B-HIGH", 18 * GIB), ("umt5-xxl", 2 * GIB)),
            stage="KSampler",
            recent=((TAKEN_AT_NS - 15 * 10**9, "moved", "umt5-xxl", 2 * GIB),),
            record="/dev/shm/gpumodels-1000/oom-1.json",
        ),
    ),
)


def golden_bytes() -> bytes:
    """The whole file but for the zeros at its end."""
    header = Header(
        slot_bytes=SLOT_BYTES,
        heartbeat_ms=1000,
        pid=PID,
        uid=1000,
        start_ticks=START_TICKS,
        pid_namespace=4_026_531_836,
        boot_id=bytes(range(16)),
        instance_id=bytes(range(16, 32)),
        created_ns=TAKEN_AT_NS - 1800 * 10**9,
    )
    payload = encode(SNAPSHOT)
    seq = 2
    file = bytearray(header.file_bytes)
    file[:HEADER_BYTES] = pack_header(header)
    heartbeat = pack_heartbeat(Heartbeat(1801, TAKEN_AT_NS, WriterState.EXITED, last_errno=28, dropped=1, last_seq=seq))
    file[HEARTBEAT_OFFSET : HEARTBEAT_OFFSET + len(heartbeat)] = heartbeat
    start = header.slot_offset(seq)
    file[start : start + SLOT_HEADER_BYTES] = pack_slot_header(SlotHeader(seq, len(payload), TAKEN_AT_NS, payload_crc(payload)))
    file[start + SLOT_HEADER_BYTES : start + SLOT_HEADER_BYTES + len(payload)] = payload
    return bytes(file).rstrip(b"\0")


def grown(golden: bytes) -> bytes:
    """The file as it was, its zeros put back."""
    return golden.ljust(HEADER_BYTES + 2 * SLOT_BYTES, b"\0")


if __name__ == "__main__":
    path = Path(__file__).with_name(f"schema-{MAJOR}.{MINOR}.gpm")
    path.write_bytes(golden_bytes())
    sys.stderr.write(f"{path}\n")
