"""Where memory went: the parts of a device and of a process, and the processes that have no sidecar."""

from __future__ import annotations

import os
from dataclasses import replace

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.gpus import GpuProcess, Hardware
from gpumodels_tui.view.builder import ViewBuilder, build_view
from gpumodels_tui.view.memory_parts import MemoryPart, PartKind, memory_parts
from gpumodels_tui.view.rows import View
from snapshots import A100, GIB, H100, MIB, NOON_NS, a_device, a_feed, a_gpu, a_model, a_process, a_process_state, a_snapshot
from snapshots import some_hardware as hardware


def kinds(parts: tuple[MemoryPart, ...]) -> dict[PartKind, int]:
    return {part.kind: part.size_bytes for part in parts}


def view_of_training() -> View:
    memory = replace(
        a_device("cuda:0", 7 * GIB, H100, allocated_bytes=20 * GIB, reserved_bytes=24 * GIB),
        gradients_bytes=2 * GIB,
        optimizer_bytes=4 * GIB,
        cache_bytes=3 * GIB,
    )
    models = [a_model(f"m{size}", size * GIB, device="cuda:0") for size in (1, 2, 4)]
    snapshot = a_snapshot(*models, devices=[memory])
    gpu = a_gpu(used_bytes=30 * GIB, processes={4711: 25 * GIB, 99: 4 * GIB, 100: None})
    known = replace(hardware(gpu), running={99: GpuProcess(99, ("python", "it's.py"), "eve", NOON_NS)})
    return build_view(a_feed(snapshot), known, CatalogueState())


def test_the_parts_sum_up_to_what_is_used() -> None:
    gpu = view_of_training().devices[0]
    assert kinds(gpu.parts) == {
        PartKind.FIRST_MODEL: 4 * GIB,
        PartKind.SECOND_MODEL: 2 * GIB,
        PartKind.THIRD_MODEL: GIB,
        PartKind.GRADIENTS: 2 * GIB,
        PartKind.OPTIMIZER: 4 * GIB,
        PartKind.CACHES: 3 * GIB,
        PartKind.OTHER: 4 * GIB,
        PartKind.ALLOCATOR_CACHE: 4 * GIB,
        PartKind.OUTSIDE: 6 * GIB,
    }
    assert sum(part.size_bytes for part in gpu.parts) == gpu.used_bytes
    assert gpu.parts[0].key.endswith("/m4")


def test_pages_beside_torch_s_allocator_are_the_models_and_not_outside_torch() -> None:
    memory = replace(a_device("cuda:0", 30 * GIB, allocated_bytes=2 * GIB, reserved_bytes=3 * GIB), other_bytes=2 * GIB)
    assert kinds(memory_parts([("wan", 30 * GIB)], [memory], 34 * GIB)) == {
        PartKind.FIRST_MODEL: 30 * GIB,
        PartKind.OTHER: 2 * GIB,
        PartKind.ALLOCATOR_CACHE: GIB,
        PartKind.OUTSIDE: GIB,
    }


def test_more_models_than_have_marks_of_their_own_are_one_part() -> None:
    parts = memory_parts([(f"m{size}", size) for size in range(1, 8)], [], None)
    assert kinds(parts)[PartKind.MODELS] == 1 + 2 + 3 + 4
    assert [part.key for part in parts] == ["m7", "m6", "m5", ""]


def test_more_in_models_than_the_driver_counts_leaves_nothing_outside() -> None:
    assert kinds(memory_parts([("m", 9 * GIB)], [], 8 * GIB)) == {PartKind.FIRST_MODEL: 9 * GIB}


def test_what_a_dead_process_held_is_in_no_part() -> None:
    dead = a_process_state(a_snapshot(a_model("m", GIB, device="cuda:0"), uuids={"cuda:0": H100}), Liveness.DEAD)
    gpu = build_view(a_feed(dead), hardware(a_gpu(used_bytes=2 * GIB)), CatalogueState()).devices[0]
    assert [row.name for row in gpu.models] == ["m"]
    assert kinds(gpu.parts) == {PartKind.OUTSIDE: 2 * GIB}


def test_a_processes_own_parts_are_counted_by_the_drivers_number_for_it() -> None:
    (row, other, unknown) = view_of_training().process_rows
    (device,) = row.devices
    assert device.title == "cuda:0 = GPU 0  NVIDIA H100 80GB HBM3"
    assert kinds(device.parts)[PartKind.OUTSIDE] == GIB
    assert (row.command, row.pid, row.user) == ("python main.py", 4711, "ada")
    assert (other.pid, other.user, other.state, other.started_at_ns) == (99, "eve", None, NOON_NS)
    assert (unknown.pid, unknown.command) == (100, "")


def test_processes_without_a_sidecar_are_listed_largest_first_with_their_command() -> None:
    gpu = view_of_training().devices[0]
    assert [(row.pid, row.used_bytes, row.command) for row in gpu.unattached] == [
        (99, 4 * GIB, "python 'it'\"'\"'s.py'"),
        (100, None, ""),
    ]


def test_a_process_on_two_gpus_without_a_sidecar_is_one_process() -> None:
    two = hardware(a_gpu(processes={7: GIB}), a_gpu(1, A100, processes={7: 2 * GIB}))
    (row,) = build_view(a_feed(), two, CatalogueState()).process_rows
    assert [device.key for device in row.devices] == [f"gpu:{H100}", f"gpu:{A100}"]


def test_rows_of_a_process_that_says_the_same_are_not_made_again() -> None:
    builder, nothing = ViewBuilder(), CatalogueState()
    first = a_process_state(a_snapshot(a_model("a", GIB), process=a_process(pid=1)))
    second = a_process_state(a_snapshot(a_model("b", GIB), process=a_process(pid=2)))
    before = builder.build(a_feed(first, second), hardware(), nothing)
    changed = a_process_state(a_snapshot(a_model("b", 2 * GIB), process=a_process(pid=2)))
    feed = a_feed(first, changed)
    after = builder.build(feed, hardware(), nothing)
    old, new = ({row.name: row for row in view.devices[-1].models} for view in (before, after))
    assert new["a"] is old["a"]
    assert (old["b"].on_bytes, new["b"].on_bytes) == (GIB, 2 * GIB)
    assert after == build_view(feed, hardware(), nothing)


def test_an_adapter_knows_its_base() -> None:
    base = a_model("base", GIB, id="m1", adapters=["m2"])
    adapter = a_model("style", MIB, "lora", id="m2", parent="m1")
    rows = {
        row.name: row for row in build_view(a_feed(a_snapshot(base, adapter)), hardware(), CatalogueState()).devices[-1].models
    }
    assert rows["style"].parent_key == rows["base"].key
    assert rows["base"].parent_key is None


def test_who_runs_on_a_gpu_is_asked_of_the_kernel_and_the_gone_are_left_out() -> None:
    known = Hardware().processes_on([a_gpu(processes={os.getpid(): GIB, 2**22 + 1: GIB})])
    assert list(known) == [os.getpid()]
    assert known[os.getpid()].command
