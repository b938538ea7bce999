"""Tests of the processes' rows: what each is, and where its memory on each device went."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.sources.gpus import GpuProcess, HardwareState
from gpumodels_tui.view.device_names import HOST, Device, join_devices
from gpumodels_tui.view.memory_parts import MemoryPart, PartKind
from gpumodels_tui.view.process_rows import (
    LONGEST_COMMAND,
    OUTSIDE_CONTAINER,
    UNNAMED,
    UnattachedRow,
    attached_row,
    shown_command,
    unattached_rows,
    without_sidecars,
)
from snapshots import A100, GIB, H100, NOON_NS, a_device, a_feed, a_gpu, a_process, a_process_state, a_snapshot, some_hardware

GPU = Device(f"gpu:{H100}", "GPU 0  NVIDIA H100", 0, H100, total_bytes=80 * GIB)
OTHER_GPU = Device(f"gpu:{A100}", "GPU 1  NVIDIA A100", 1, A100, total_bytes=40 * GIB)
HOST_MEMORY = Device(HOST, "Host memory", total_bytes=256 * GIB)


def test_a_process_is_told_of_with_its_devices_and_what_its_models_hold_there() -> None:
    devices = [a_device("cuda:0", 3 * GIB, allocated_bytes=4 * GIB, reserved_bytes=5 * GIB), a_device("cpu", GIB)]
    state = a_process_state(a_snapshot(process=a_process(command=("python", "main.py", "--port", "80 80")), devices=devices))
    held = [(GPU.key, "small", GIB), (GPU.key, "large", 2 * GIB), (HOST, "small", GIB)]
    row = attached_row(state, {"cuda:0": GPU, "cpu": HOST_MEMORY}, held, {"cuda:0": 6 * GIB})
    assert (row.title, row.pid, row.user) == ("ComfyUI/main.py 4711", 4711, "ada")
    assert row.command == "python main.py --port '80 80'"
    gpu, host = row.devices
    assert (gpu.name, gpu.title, gpu.total_bytes) == ("cuda:0", "cuda:0 = GPU 0  NVIDIA H100", 80 * GIB)
    assert gpu.parts == (
        MemoryPart(PartKind.FIRST_MODEL, 2 * GIB, "large"),
        MemoryPart(PartKind.SECOND_MODEL, GIB, "small"),
        MemoryPart(PartKind.OTHER, GIB),
        MemoryPart(PartKind.ALLOCATOR_CACHE, GIB),
        MemoryPart(PartKind.OUTSIDE, GIB),
    )
    assert host.parts == (MemoryPart(PartKind.FIRST_MODEL, GIB, "small"),)


def test_a_device_that_is_called_what_its_process_calls_it_is_named_once() -> None:
    state = a_process_state(a_snapshot(devices=[a_device("cuda:0", GIB)]))
    row = attached_row(state, {"cuda:0": Device("4711:cuda:0", "cuda:0  Simulated H100")}, [], {})
    assert [device.title for device in row.devices] == ["cuda:0"]


def test_a_device_that_another_process_calls_by_a_longer_name_is_told_of_by_both() -> None:
    state = a_process_state(a_snapshot(devices=[a_device("cuda:1", GIB)]))
    row = attached_row(state, {"cuda:1": Device(f"gpu:{H100}", "cuda:10  NVIDIA H100", 10, H100)}, [], {})
    assert [device.title for device in row.devices] == ["cuda:1 = cuda:10  NVIDIA H100"]


def test_the_dead_hold_nothing_and_those_who_published_nothing_are_rows_all_the_same() -> None:
    dead = a_process_state(a_snapshot(devices=[a_device("cuda:0", GIB)]), Liveness.DEAD)
    (device,) = attached_row(dead, {"cuda:0": GPU}, [(GPU.key, "m", GIB)], {"cuda:0": GIB}).devices
    assert device.parts == ()
    starting = attached_row(a_process_state(None), {}, [], {})
    assert (starting.title, starting.command, starting.started_at_ns, starting.devices) == ("process 4711", "", None, ())


def test_processes_without_a_sidecar_are_those_whose_pid_none_has_most_bytes_first() -> None:
    gpu = a_gpu(processes={4711: GIB, 1: GIB, 2: 3 * GIB, 3: None, 4: GIB})
    running = {2: GpuProcess(2, ("python", "serve it.py"), "eve\x1b", NOON_NS)}
    attached = [a_process_state(a_snapshot(process=a_process(pid=4711)))]
    found = unattached_rows(attached, replace(some_hardware(gpu, a_gpu(1, A100)), running=running))
    assert [row.pid for row in found[GPU.key]] == [2, 1, 4, 3]
    assert found[GPU.key][0] == UnattachedRow("pid:2", 2, "python 'serve it.py'", "eve\\x1b", 3 * GIB, NOON_NS)
    assert found[GPU.key][1] == UnattachedRow("pid:1", 1, "", "", GIB, None)
    assert found[OTHER_GPU.key] == []


@pytest.mark.parametrize("changes", [{"is_local": False}, {"liveness": Liveness.DEAD}, {"liveness": Liveness.EXITED}])
def test_a_pid_of_another_namespace_or_of_a_dead_process_is_nobodys_here(changes: dict[str, object]) -> None:
    state = replace(a_process_state(a_snapshot(process=a_process(pid=4711))), **changes)
    found = unattached_rows([state], some_hardware(a_gpu(processes={4711: GIB})))
    assert [row.pid for row in found[GPU.key]] == [4711]


def test_a_process_without_a_sidecar_on_two_gpus_is_one_row() -> None:
    rows = {
        key: [UnattachedRow("pid:7", 7, "python serve.py", "eve", used, NOON_NS)]
        for key, used in ((GPU.key, GIB), (OTHER_GPU.key, None))
    }
    (row,) = without_sidecars(rows, {GPU.key: GPU, OTHER_GPU.key: OTHER_GPU})
    assert (row.key, row.title, row.state) == ("pid:7", "python serve.py 7", None)
    assert [(device.name, device.title, device.parts) for device in row.devices] == [
        (None, GPU.title, (MemoryPart(PartKind.OUTSIDE, GIB),)),
        (None, OTHER_GPU.title, ()),
    ]


def test_a_command_is_one_line_that_a_shell_would_take_cut_and_safe_to_draw() -> None:
    assert shown_command(["python", "-c", "a b", "it's"]) == "python -c 'a b' 'it'\"'\"'s'"
    assert shown_command([]) == ""
    assert "\x1b" not in shown_command(["\x1b[2J\n"])
    endless = shown_command(["x"] * 100_000)
    assert len(endless) <= LONGEST_COMMAND


def nameless(*used: int | None) -> HardwareState:
    """In a container: the driver's own numbers name nobody."""
    gpu = replace(a_gpu(), nameless={51_000 + number: size for number, size in enumerate(used)})
    return replace(some_hardware(gpu), pids_are_ours=False)


def shown(states: Sequence[ProcessState], hardware: HardwareState) -> list[tuple[str, int | None, int | None]]:
    found = unattached_rows(states, hardware, join_devices(a_feed(*states), hardware))
    return [(row.command, row.pid, row.used_bytes) for row in found[GPU.key]]


def test_in_a_container_the_drivers_processes_are_outside_of_it() -> None:
    assert shown([], nameless(9 * GIB, None)) == [(OUTSIDE_CONTAINER, None, 9 * GIB), (OUTSIDE_CONTAINER, None, None)]
    (row, _) = without_sidecars(unattached_rows([], nameless(9 * GIB, GIB)), {GPU.key: GPU})
    assert (row.title, row.pid, row.user) == (OUTSIDE_CONTAINER, None, "")


@pytest.mark.parametrize(
    ("used", "left"),
    [
        ((9 * GIB, 5 * GIB), [9 * GIB]),  # the smallest that it fits into is its own
        ((5 * GIB,), []),
        ((9 * GIB,), []),  # more than its allocator reserved: the driver counts its context and libraries, too
        ((3 * GIB, None), [3 * GIB]),
        ((3 * GIB,), [3 * GIB]),  # smaller than what it reserved: another's
    ],
)
def test_of_the_drivers_processes_those_with_a_sidecar_have_rows_of_their_own(
    used: tuple[int | None, ...], left: list[int | None]
) -> None:
    state = a_process_state(a_snapshot(devices=[a_device("cuda:0", GIB, reserved_bytes=4 * GIB)]))
    assert [size for _, _, size in shown([state], nameless(*used))] == left


def test_a_number_that_no_process_can_have_names_nobody_outside_of_a_container_too() -> None:
    hardware = some_hardware(replace(a_gpu(processes={1: GIB}), nameless={0: 2 * GIB}))
    assert shown([], hardware) == [(UNNAMED, None, 2 * GIB), ("", 1, GIB)]


def test_a_process_in_a_container_is_called_by_the_pid_that_ps_takes_here() -> None:
    inside = a_process_state(a_snapshot(process=a_process("vllm", 7)), is_local=False)
    for outer, title in ((4711, "vllm 4711"), (None, "vllm 7")):
        row = attached_row(replace(inside, outer_pid=outer), {}, [], {})
        assert (row.title, row.pid) == (title, outer or 7)


def test_a_process_in_a_container_is_attached_by_its_pid_outside() -> None:
    state = replace(a_process_state(a_snapshot(process=a_process(pid=7)), is_local=False), outer_pid=4711)
    assert shown([state], some_hardware(a_gpu(processes={4711: GIB, 7: GIB}))) == [("", 7, GIB)]
