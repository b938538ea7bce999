from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_shared.schema import DeviceMemory
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.sources.gpu_reading import AMD, INTEL, GpuReading
from gpumodels_tui.view.device_names import Devices, device_in_words, device_state, join_devices
from snapshots import (
    A100,
    GIB,
    H100,
    MINUTE_NS,
    NOON_NS,
    a_device,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    some_hardware,
)

TWINS = (a_gpu(0, H100), a_gpu(1, A100))
MIXED = (a_gpu(0, H100), a_gpu(1, A100, "NVIDIA A100-SXM4-40GB"))


def using(
    *devices: str | DeviceMemory,
    visible: str | None = None,
    order: str | None = None,
    pid: int = 4711,
    is_local: bool = True,
    liveness: Liveness = Liveness.LIVE,
) -> ProcessState:
    memories = [a_device(one, GIB) if isinstance(one, str) else one for one in devices]
    process = a_process(pid=pid, visible_devices=visible, device_order=order)
    return a_process_state(a_snapshot(process=process, devices=memories), liveness, is_local=is_local)


def seen_by(gpu: GpuReading, *pids: int) -> GpuReading:
    processes: Mapping[int, int | None] = dict.fromkeys(pids, GIB)
    return a_gpu(gpu.index, gpu.uuid, gpu.name, processes=processes)


def where(joined: Devices, device: str = "cuda:0", process: str = "4711") -> str:
    return joined.keys[process, device]


@pytest.mark.parametrize(
    ("process", "gpus", "expected"),
    [
        # By UUID, with torch's spelling and NVML's.
        (using(a_device("cuda:0", GIB, A100)), MIXED, A100),
        (using(a_device("cuda:0", GIB, A100.removeprefix("GPU-"))), MIXED, A100),
        # By number, where numbers are NVML's.
        (using("cuda:1"), TWINS, A100),
        (using("cuda:0", visible="1"), TWINS, A100),
        (using("cuda:0", visible="0000001"), TWINS, A100),
        (using("cuda:1", visible="1, 0"), TWINS, H100),
        (using("cuda:1", order="PCI_BUS_ID"), MIXED, A100),
        (using("cuda:0", visible="1", order="PCI_BUS_ID"), MIXED, A100),
        (using("cuda:0"), MIXED[:1], H100),
        # By the UUID that CUDA_VISIBLE_DEVICES gives, whole or its beginning.
        (using("cuda:0", visible=A100), MIXED, A100),
        (using("cuda:1", visible="GPU-1111,GPU-aaaa"), MIXED, A100),
        (using("cuda:0", visible=f"MIG-{A100}/1/0"), MIXED, A100),
        # The driver names the process on one GPU, and it uses one.
        (using("cuda:0"), (MIXED[0], seen_by(MIXED[1], 4711)), A100),
        # A process in a container: on the only GPU that there is.
        (using("cuda:0", is_local=False), TWINS[:1], H100),
    ],
)
def test_a_certain_device_is_joined(process: ProcessState, gpus: tuple[GpuReading, ...], expected: str) -> None:
    joined = join_devices(a_feed(process), some_hardware(*gpus))
    (device,) = [device for process_key, device in joined.keys if device != "cpu"]
    assert where(joined, device) == f"gpu:{expected}"
    assert len(joined.devices) == len(gpus) + 1


@pytest.mark.parametrize(
    ("process", "gpus"),
    [
        # CUDA numbers the fastest first: which of them that is, isn't known here.
        (using("cuda:0"), MIXED),
        (using("cuda:0", visible="0", order="FASTEST_FIRST"), MIXED),
        # Outside the list, or no list that CUDA would take.
        (using("cuda:1", visible="1"), TWINS),
        (using("cuda:0", visible=""), TWINS),
        (using("cuda:0", visible="-1"), TWINS),
        (using("cuda:0", visible="GPU-"), TWINS),
        (using("cuda:0", visible="MIG-0123"), TWINS),
        (using("cuda:7"), TWINS),
        # A list that has one twice is none, too many digits are no number, and what was changed too late says nothing.
        (using("cuda:0", visible="1,1"), TWINS),
        (using("cuda:0", visible="1000000"), TWINS),
        (using("cuda:0", visible="?"), TWINS),
        # Of one name, but not alike: either may be the faster one.
        (using("cuda:0"), (TWINS[0], replace(TWINS[1], total_bytes=40 * GIB))),
        # In a container numbers begin anew, and pids are others.
        (using("cuda:0", is_local=False), TWINS),
        (using("cuda:0", is_local=False), (MIXED[0], seen_by(MIXED[1], 4711))),
        # The driver says that the process runs elsewhere, or on as many GPUs as can't be told apart.
        (using("cuda:0", "cuda:1"), (seen_by(TWINS[0], 1), seen_by(TWINS[1], 4711))),
        (using("cuda:0", "cuda:1"), (seen_by(MIXED[0], 4711), seen_by(MIXED[1], 4711))),
        (using("xpu:0"), TWINS),
    ],
)
def test_an_uncertain_device_stays_its_processs_own(process: ProcessState, gpus: tuple[GpuReading, ...]) -> None:
    joined = join_devices(a_feed(process), some_hardware(*gpus))
    device = min(device for _, device in joined.keys)
    assert where(joined, device) == f"4711:{device}"
    (own,) = [one for one in joined.devices if one.key == where(joined, device)]
    assert own.title == f"{device} of ComfyUI/main.py 4711"
    assert not own.is_distinct
    assert joined.devices[-1].key == "host"


def test_without_a_driver_processes_that_name_one_uuid_share_a_row() -> None:
    first = using(a_device("cuda:0", 3 * GIB, H100, name="NVIDIA H100", total_bytes=80 * GIB, allocated_bytes=4 * GIB), pid=1)
    second = using(a_device("cuda:1", GIB, H100, name="NVIDIA H100", reserved_bytes=2 * GIB), pid=2)
    joined = join_devices(a_feed(first, second), some_hardware())
    gpu, host = joined.devices
    assert (gpu.title, gpu.used_bytes, gpu.total_bytes) == ("cuda:0  NVIDIA H100", 6 * GIB, 80 * GIB)
    assert host.title == "Host memory"


def test_without_a_driver_and_uuids_each_processs_device_is_a_row_of_its_own() -> None:
    joined = join_devices(a_feed(using("cuda:0", pid=1), using("cuda:0", pid=2)), some_hardware())
    assert [device.title for device in joined.devices] == [
        "cuda:0 of ComfyUI/main.py 1",
        "cuda:0 of ComfyUI/main.py 2",
        "Host memory",
    ]
    (alone, _) = join_devices(a_feed(using("cuda:0")), some_hardware()).devices
    assert (alone.title, alone.is_distinct) == ("cuda:0", True)


def test_a_simulated_device_says_so_and_is_never_taken_for_a_real_one() -> None:
    simulated = using(a_device("cuda:0", GIB, name="H100", simulated=True, total_bytes=80 * GIB))
    joined = join_devices(a_feed(simulated), some_hardware(*TWINS))
    assert where(joined) == "4711:cuda:0"
    assert joined.devices[2].title == "cuda:0  H100 (simulated)"
    named = using(a_device("cuda:0", GIB, "GPU-sim", name="Simulated H100", simulated=True))
    assert join_devices(a_feed(named), some_hardware()).devices[0].title == "cuda:0  Simulated H100"


def test_the_dead_hold_no_memory() -> None:
    dead = using(a_device("cuda:0", GIB, H100), liveness=Liveness.DEAD)
    assert join_devices(a_feed(dead), some_hardware()).devices[0].used_bytes == 0


def test_what_the_driver_counts_is_not_added_to() -> None:
    joined = join_devices(a_feed(using(a_device("cuda:0", GIB, H100))), some_hardware(a_gpu(used_bytes=7 * GIB)))
    assert joined.devices[0].used_bytes == 7 * GIB


def test_devices_that_only_models_name_are_there() -> None:
    state = a_process_state(a_snapshot(a_model(device="cuda:0", size=2 * GIB), devices=[]))
    joined = join_devices(a_feed(state), some_hardware())
    assert joined.devices[0].used_bytes == 2 * GIB


def test_a_device_name_from_a_snapshot_is_made_safe() -> None:
    joined = join_devices(a_feed(using(a_device("cuda:0\x1b[2J", GIB, name="\u202eevil"))), some_hardware())
    assert joined.devices[0].title == "cuda:0\\x1b[2J  \\u202eevil"


def test_without_a_driver_s_figure_pages_beside_torch_s_allocator_are_used_memory_too() -> None:
    memory = DeviceMemory("cuda:0", 30 * GIB, allocated_bytes=2 * GIB, reserved_bytes=3 * GIB, other_bytes=2 * GIB)
    joined = join_devices(a_feed(using(memory)), some_hardware())
    assert joined.devices[0].used_bytes == 33 * GIB


ON_BOTH = using("cuda:0", "cuda:1")


def test_a_gpu_that_is_lost_stays_what_its_process_calls_it() -> None:
    gpus = (seen_by(TWINS[0], 4711), seen_by(TWINS[1], 4711))
    lost = replace(gpus[1], used_bytes=None, lost="GPU is lost", lost_at_ns=NOON_NS, processes={4711: None})
    for now in (gpus, (gpus[0], lost), (gpus[0], replace(lost, processes={})), gpus):
        joined = join_devices(a_feed(ON_BOTH), some_hardware(*now))
        assert [where(joined, name) for name in ("cuda:0", "cuda:1")] == [f"gpu:{H100}", f"gpu:{A100}"]


@pytest.mark.parametrize(
    ("lost_at_ns", "device", "expected"),
    [
        # It began an hour before noon: what was lost by then, CUDA left out.
        (NOON_NS, "cuda:0", "0"),
        (NOON_NS, "cuda:1", "1"),
        (NOON_NS, "cuda:2", "2"),
        (NOON_NS - 100 * MINUTE_NS, "cuda:0", "0"),
        (NOON_NS - 100 * MINUTE_NS, "cuda:1", None),
        (0, "cuda:1", None),
        # With one GPU left out there is no third.
        (NOON_NS - 100 * MINUTE_NS, "cuda:2", "2"),
    ],
)
def test_numbers_are_those_of_the_gpus_that_were_there_when_the_process_began(
    lost_at_ns: int, device: str, expected: str | None
) -> None:
    gpus = [a_gpu(number, f"GPU-{number}") for number in range(3)]
    gpus[1] = replace(gpus[1], used_bytes=None, lost="GPU is lost", lost_at_ns=lost_at_ns)
    found = where(join_devices(a_feed(using(device)), some_hardware(*gpus)), device)
    assert found == (f"4711:{device}" if expected is None else f"gpu:GPU-{expected}")


def test_a_number_that_a_lost_gpu_had_before_another_got_it_is_nobodys() -> None:
    gpus = (a_gpu(0, A100), replace(a_gpu(0, H100), used_bytes=None, lost="the driver doesn't list it any more"))
    assert where(join_devices(a_feed(using("cuda:0")), some_hardware(*gpus))) == "4711:cuda:0"


def test_a_gpu_that_was_lost_before_it_said_its_uuid_has_a_row() -> None:
    gpu = GpuReading(1, "", "GPU", lost="GPU is lost")
    joined = join_devices(a_feed(), some_hardware(a_gpu(), gpu))
    assert [(device.key, device.uuid, device.title, device_state(device)) for device in joined.devices[:2]] == [
        (f"gpu:{H100}", H100, "GPU 0  NVIDIA H100 80GB HBM3", ""),
        ("gpu:#1", None, "GPU 1", "lost"),
    ]
    assert joined.devices[1].name is None


GB10 = GpuReading(0, H100, "NVIDIA GB10", 128 * GIB, shares_host_memory=True)


def test_of_memory_shared_with_the_host_the_driver_counts_processes_or_their_sidecars_do() -> None:
    counted = replace(GB10, used_bytes=9 * GIB)
    first = using(a_device("cuda:0", GIB, reserved_bytes=3 * GIB))
    second = using(a_device("cuda:0", GIB, reserved_bytes=2 * GIB), pid=4712)
    for gpu, used in ((counted, 9 * GIB), (GB10, 5 * GIB)):
        device = join_devices(a_feed(first, second), some_hardware(gpu)).devices[0]
        assert (device.used_bytes, device.total_bytes, device_state(device)) == (used, 128 * GIB, "shared with the host")


DIVIDED = replace(a_gpu(0, H100), is_divided=True)
SLICES = tuple(
    GpuReading(number, f"MIG-{number}000-{number}", "NVIDIA H100 MIG 1g.10gb", 10 * GIB, GIB, parent=H100, parent_index=0)
    for number in range(2)
)


ON_SECOND = (DIVIDED, SLICES[0], replace(SLICES[1], processes={4711: GIB}))


@pytest.mark.parametrize(
    ("process", "gpus", "expected"),
    [
        (using("cuda:0", visible=SLICES[1].uuid), (DIVIDED, *SLICES), SLICES[1].uuid),
        (using(a_device("cuda:0", GIB, SLICES[1].uuid.removeprefix("MIG-"))), (DIVIDED, *SLICES), SLICES[1].uuid),
        # By pid, where the driver names it on one slice, whatever CUDA calls it.
        (using("cuda:0"), ON_SECOND, SLICES[1].uuid),
        (using(a_device("cuda:0", GIB, H100)), ON_SECOND, SLICES[1].uuid),
        (using("cuda:0", visible=f"MIG-{H100}/1/0"), ON_SECOND, SLICES[1].uuid),
    ],
)
def test_a_slice_is_a_device_below_its_gpu(process: ProcessState, gpus: tuple[GpuReading, ...], expected: str) -> None:
    joined = join_devices(a_feed(process), some_hardware(*gpus))
    assert where(joined) == f"gpu:{expected}"
    assert [(device.title, device.label) for device in joined.devices[:3]] == [
        ("GPU 0  NVIDIA H100 80GB HBM3", "0"),
        ("GPU 0.0  NVIDIA H100 MIG 1g.10gb", "0.0"),
        ("GPU 0.1  NVIDIA H100 MIG 1g.10gb", "0.1"),
    ]


@pytest.mark.parametrize(
    ("process", "gpus"),
    [
        # Numbers tell nothing beside a divided GPU, and its processes are never on the GPU itself.
        (using("cuda:0"), (DIVIDED, *SLICES)),
        (using("cuda:0"), (DIVIDED,)),
        (using("cuda:0", visible="0"), (DIVIDED, *SLICES)),
        (using("cuda:0", visible=H100), (DIVIDED, *SLICES)),
        (using("cuda:0", visible=f"MIG-{H100}/1/0"), (DIVIDED, *SLICES)),
        (using(a_device("cuda:0", GIB, H100)), (DIVIDED, *SLICES)),
        (using("cuda:1"), (DIVIDED, *SLICES, a_gpu(1, A100))),
    ],
)
def test_which_slice_is_meant_is_not_guessed(process: ProcessState, gpus: tuple[GpuReading, ...]) -> None:
    (device,) = [device for _, device in join_devices(a_feed(process), some_hardware(*gpus)).keys if device != "cpu"]
    assert where(join_devices(a_feed(process), some_hardware(*gpus)), device) == f"4711:{device}"


def test_the_word_for_a_slice_in_a_sentence_is_that_of_a_gpu() -> None:
    assert [device_in_words(label) for label in ("0", "0.1", "host", "cuda:1")] == ["GPU 0", "GPU 0.1", "host memory", "cuda:1"]


def test_a_process_in_a_container_is_joined_by_its_pid_outside() -> None:
    process = replace(using("cuda:0", pid=7, is_local=False), outer_pid=4711)
    assert where(join_devices(a_feed(process), some_hardware(TWINS[0], seen_by(TWINS[1], 4711))), process="7") == f"gpu:{A100}"
    stranger = using("cuda:0", pid=4711, is_local=False)
    assert where(join_devices(a_feed(stranger), some_hardware(TWINS[0], seen_by(TWINS[1], 4711)))) == "4711:cuda:0"


MI_0 = replace(a_gpu(1, "GPU-9d7f8b5c4a3e2f10", "AMD Instinct MI300X"), vendor=AMD, pci_address="0000:03:00.0", runtime_index=1)
MI_1 = replace(a_gpu(2, "GPU-1111111111111111", "AMD Instinct MI300X"), vendor=AMD, pci_address="0000:83:00.0", runtime_index=0)
WITHOUT_ROCM = replace(a_gpu(3, "pci:0000:c3:00.0", "Raphael"), vendor=AMD, runtime_index=None)
ARC = replace(a_gpu(4, "pci:0000:44:00.0", "Arc A770"), vendor=INTEL, runtime_index=0)
ALL = (a_gpu(0, H100), MI_0, MI_1, WITHOUT_ROCM, ARC)


def on(
    device: str, platform: str | None = None, *, visible: str | None = None, torch: str = "2.13.0", **choice: str
) -> ProcessState:
    info = a_process(visible_devices=visible, platform=platform, device_choice=choice)
    return a_process_state(a_snapshot(process=dataclasses.replace(info, torch_version=torch), devices=[a_device(device, GIB)]))


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        # Whose GPUs `cuda` are is the process's to say.
        (on("cuda:0", "cuda"), H100),
        (on("cuda:0", torch="2.13.0+cu130"), H100),
        (on("cuda:0", "hip"), MI_1.uuid),
        (on("cuda:1", torch="2.13.0+rocm7.1"), MI_0.uuid),
        (on("xpu:0"), ARC.uuid),
        # Each of the two runtimes leaves out its own, and numbers the rest anew.
        (on("cuda:0", "hip", HIP_VISIBLE_DEVICES="1"), MI_0.uuid),
        (on("cuda:0", "hip", ROCR_VISIBLE_DEVICES="1"), MI_0.uuid),
        (on("cuda:0", "hip", visible="1"), MI_0.uuid),
        (on("cuda:0", "hip", visible="1", HIP_VISIBLE_DEVICES="1"), MI_0.uuid),
        (on("cuda:1", "hip", HIP_VISIBLE_DEVICES="1,0"), MI_1.uuid),
        (on("cuda:0", "hip", ROCR_VISIBLE_DEVICES="1,0", HIP_VISIBLE_DEVICES="1"), MI_1.uuid),
        (on("cuda:0", "hip", ROCR_VISIBLE_DEVICES="GPU-9D7F8B5C4A3E2F10"), MI_0.uuid),
    ],
)
def test_a_device_is_joined_with_its_vendors_gpu(process: ProcessState, expected: str) -> None:
    (device,) = [device for _, device in join_devices(a_feed(process), some_hardware(*ALL)).keys if device != "cpu"]
    assert where(join_devices(a_feed(process), some_hardware(*ALL)), device) == f"gpu:{expected}"


@pytest.mark.parametrize(
    "process",
    [
        on("cuda:0"),
        on("cuda:2", "hip"),
        on("xpu:1"),
        on("npu:0"),
        on("mps"),
        on("cuda:0", "hip", visible="0", HIP_VISIBLE_DEVICES="1"),
        on("cuda:0", "hip", HIP_VISIBLE_DEVICES="2"),
        on("cuda:0", "hip", HIP_VISIBLE_DEVICES="-1"),
        on("cuda:0", "hip", HIP_VISIBLE_DEVICES="0,0"),
        on("cuda:0", "hip", HIP_VISIBLE_DEVICES=""),
        on("cuda:0", "hip", GPU_DEVICE_ORDINAL="1"),
        on("cuda:0", "hip", ROCR_VISIBLE_DEVICES="GPU-XX"),
        on("cuda:0", "hip", ROCR_VISIBLE_DEVICES="1", HIP_VISIBLE_DEVICES="1"),
    ],
)
def test_a_device_that_may_be_several_gpus_is_joined_with_none(process: ProcessState) -> None:
    joined = join_devices(a_feed(process), some_hardware(*ALL))
    (key,) = [key for (_, device), key in joined.keys.items() if device != "cpu"]
    assert not key.startswith("gpu:")


def test_without_rocms_list_a_number_of_two_amd_gpus_tells_nothing_but_the_process_does() -> None:
    gpus = [replace(gpu, runtime_index=None) for gpu in (MI_0, MI_1)]
    process = on("cuda:0", "hip")
    assert where(join_devices(a_feed(process), some_hardware(*gpus))) == "4711:cuda:0"
    held = replace(gpus[1], processes={4711: GIB})
    assert where(join_devices(a_feed(process), some_hardware(gpus[0], held))) == f"gpu:{MI_1.uuid}"


def test_an_integrated_gpu_of_another_vendor_changes_no_join_of_nvidias() -> None:
    process = using("cuda:0", is_local=False)
    own = replace(ARC, index=1)
    assert where(join_devices(a_feed(process), some_hardware(a_gpu(0, H100), own))) == f"gpu:{H100}"


EIGHT = tuple(a_gpu(number, f"GPU-{number:x}{number:x}000000-0000-0000-0000-{number:012x}") for number in range(8))
UNLIKE = (*EIGHT[:4], *(replace(gpu, name="NVIDIA A40") for gpu in EIGHT[4:]))
SLICED = (EIGHT[0], *(replace(slice_, parent=EIGHT[0].uuid) for slice_ in SLICES), *EIGHT[1:])
SLICED = (replace(EIGHT[0], is_divided=True), *SLICED[1:])


def uuids(*numbers: int, length: int | None = None) -> str:
    return ",".join(EIGHT[number].uuid[:length] for number in numbers)


@pytest.mark.parametrize(
    ("visible", "order", "gpus", "expected"),
    [
        # Numbers, of GPUs that are all alike or are said to be numbered by their bus.
        (None, None, EIGHT, {0: 0, 7: 7}),
        ("5", None, EIGHT, {0: 5, 1: None}),
        ("5,3", None, EIGHT, {0: 5, 1: 3, 2: None}),
        (" 5 , +03 ", None, EIGHT, {0: 5, 1: 3}),
        ("5,9,3", None, EIGHT, {0: 5, 1: None, 2: None}),
        ("5,-1,3", None, EIGHT, {0: 5, 1: None, 2: None}),
        ("5", None, UNLIKE, {0: None}),
        ("5", "FASTEST_FIRST", UNLIKE, {0: None}),
        ("5", "pci_bus_id", UNLIKE, {0: None}),
        ("5", "PCI_BUS_ID", UNLIKE, {0: 5}),
        (None, "PCI_BUS_ID", UNLIKE, {6: 6}),
        # No device at all.
        ("", None, EIGHT, {0: None}),
        ("-1", None, EIGHT, {0: None}),
        ("none", None, EIGHT, {0: None}),
        ("?", None, EIGHT, {0: None}),
        # One twice.
        ("5,5", None, EIGHT, {0: None, 1: None}),
        ("5,05", None, EIGHT, {0: None, 1: None}),
        (uuids(5, 5), None, EIGHT, {0: None, 1: None}),
        (f"{uuids(5)},{uuids(5, length=10)}", None, EIGHT, {0: None, 1: None}),
        # UUIDs and as much of them as tells which, whatever numbers CUDA gives.
        (uuids(5), None, UNLIKE, {0: 5, 1: None}),
        (uuids(5, 3), None, UNLIKE, {0: 5, 1: 3}),
        (uuids(5, 3, length=6), None, UNLIKE, {0: 5, 1: 3}),
        (uuids(5), "FASTEST_FIRST", UNLIKE, {0: 5}),
        ("GPU-", None, EIGHT, {0: None}),
        ("GPU-99,GPU-55", None, EIGHT, {0: None, 1: None}),
        (f"{uuids(5)},GPU-,{uuids(3)}", None, EIGHT, {0: 5, 1: None, 2: None}),
        (f"{uuids(5)},3", None, EIGHT, {0: 5, 1: None}),
        (f"5,{uuids(3)}", None, EIGHT, {0: 5, 1: None}),
        # Slices: by a UUID of their own, or by that of their GPU and their numbers on it.
        (SLICES[1].uuid, None, SLICED, {0: SLICES[1].uuid}),
        (SLICES[1].uuid[:7], None, SLICED, {0: SLICES[1].uuid}),
        ("MIG-", None, SLICED, {0: None}),
        (f"MIG-{EIGHT[0].uuid}/1/0", None, SLICED, {0: None}),
        (uuids(5), None, SLICED, {0: 5}),
        (uuids(0), None, SLICED, {0: None}),
        ("5", None, SLICED, {0: None}),
    ],
)
def test_the_gpu_is_the_one_that_cuda_takes_of_the_list(
    visible: str | None, order: str | None, gpus: tuple[GpuReading, ...], expected: Mapping[int, int | str | None]
) -> None:
    for number, which in expected.items():
        process = using(f"cuda:{number}", visible=visible, order=order)
        uuid = EIGHT[which].uuid if isinstance(which, int) else which
        found = where(join_devices(a_feed(process), some_hardware(*gpus)), f"cuda:{number}")
        assert found == (f"4711:cuda:{number}" if uuid is None else f"gpu:{uuid}")


@pytest.mark.parametrize(
    ("visible", "outer_pid", "running_on", "expected"),
    [
        # A container that sees one of eight: its `0` is any of them, unless the driver or a UUID says which.
        (None, None, None, None),
        ("0", None, None, None),
        ("0", 99, None, None),
        (None, 99, 6, 6),
        ("0", 99, 6, 6),
        (uuids(6), None, None, 6),
        (uuids(6, length=6), None, None, 6),
        ("0", None, 6, None),
    ],
)
def test_a_container_that_sees_one_of_eight_numbers_it_anew(
    visible: str | None, outer_pid: int | None, running_on: int | None, expected: int | None
) -> None:
    process = replace(using("cuda:0", visible=visible, pid=7, is_local=False), outer_pid=outer_pid)
    gpus = [replace(gpu, processes={99: GIB}) if gpu.index == running_on else gpu for gpu in EIGHT]
    found = where(join_devices(a_feed(process), some_hardware(*gpus)), process="7")
    assert found == ("7:cuda:0" if expected is None else f"gpu:{EIGHT[expected].uuid}")
