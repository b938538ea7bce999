from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.sources.drm_clients import SEARCH_SECONDS, DrmClients
from snapshots import GIB
from sysfs import FakeKernel, fdinfo

CARD = "0000:03:00.0"
VRAM = {CARD: ("vram", "local")}


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"memory_vram": "3145728 KiB", "memory_gtt": "4 KiB"}, 3 * GIB),  # amdgpu before Linux 6.12
        ({"total_vram": "9 GiB", "resident_vram": "3 GiB", "memory_vram": "1 GiB"}, 3 * GIB),  # amdgpu since
        ({"total_vram0": "2048 MiB", "resident_vram0": "1024 MiB", "resident_vram1": "1024 MiB"}, 2 * GIB),  # xe, two tiles
        ({"total_local0": "512 MiB", "resident_local0": "256 MiB", "resident_system0": "1 GiB"}, GIB // 4),  # i915
        ({"total_vram": f"{GIB}"}, GIB),  # bytes
        ({"resident_gtt": "1 GiB"}, None),
        ({"resident_vram": "-1 KiB"}, None),
        ({"resident_vram": "5 pages"}, None),
        ({"resident_vram": "18014398509481983 KiB"}, None),
        ({}, None),
    ],
)
def test_what_is_in_the_cards_memory_counts(said: dict[str, str], expected: int | None, kernel: FakeKernel) -> None:
    kernel.client(4711, 9, fdinfo(CARD, 12, **said))
    assert DrmClients(kernel.files).read(VRAM) == {CARD: {4711: expected}}


def test_copies_of_a_descriptor_count_once_and_clients_of_one_process_are_added(kernel: FakeKernel) -> None:
    kernel.client(4711, 9, fdinfo(CARD, 12, resident_vram="1 GiB"))
    kernel.client(4711, 10, fdinfo(CARD, 12, resident_vram="1 GiB"))
    kernel.client(4711, 11, fdinfo(CARD, 13, resident_vram="2 GiB"), device="/dev/dri/card0")
    kernel.client(4711, 12, fdinfo("0000:99:00.0", 1, resident_vram="2 GiB"))
    kernel.client(5, 1, "", device="/dev/null")
    assert DrmClients(kernel.files).read(VRAM) == {CARD: {4711: 3 * GIB}}


def test_processes_that_come_are_found_within_the_search_and_those_that_go_at_once(kernel: FakeKernel) -> None:
    now = [0.0]
    clients = DrmClients(kernel.files, lambda: now[0])
    kernel.client(1, 9, fdinfo(CARD, 1, resident_vram="1 GiB"))
    assert set(clients.read(VRAM)[CARD]) == {1}
    kernel.client(2, 9, fdinfo(CARD, 2, resident_vram="1 GiB"))
    assert set(clients.read(VRAM)[CARD]) == {1}
    now[0] += SEARCH_SECONDS
    assert set(clients.read(VRAM)[CARD]) == {1, 2}
    (kernel.root / "proc/1/fd/9").unlink()
    assert set(clients.read(VRAM)[CARD]) == {2}


def test_nobody_is_searched_without_a_card(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.files, "pids", lambda: pytest.fail("there is no card to search for"))
    assert DrmClients(kernel.files).read({}) == {}
