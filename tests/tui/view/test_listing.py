"""The list of models: order, adapters under bases, all devices, and words that leave what has them."""

from __future__ import annotations

import pytest

from gpumodels_shared.records import replace
from gpumodels_tui.view.listing import SORTS, Entry, Order, entries
from snapshots import GIB, MIB, WAN
from views import a_full_view, a_gpu, a_host, a_llama_server, a_row, an_unattached


def names(listed: list[Entry]) -> list[str]:
    return ["  " * entry.depth + entry.name for entry in listed]


def test_an_adapter_stands_under_its_base_wherever_the_order_would_put_it() -> None:
    gpu = a_gpu(
        a_row("base", 4 * GIB),
        a_row("other", 2 * GIB),
        a_row("style", MIB, "lora", parent_key="base"),
        a_row("detail", 2 * MIB, "lora", parent_key="base"),
    )
    assert names(entries([gpu])) == ["base", "  style", "  detail", "other"]
    assert names(entries([gpu], Order("name"))) == ["base", "  detail", "  style", "other"]


def test_adapters_without_their_base_and_circles_of_bases_are_listed_all_the_same() -> None:
    lost = a_row("lost", GIB, parent_key="elsewhere")
    first, second = a_row("first", 3 * GIB, parent_key="second"), a_row("second", 2 * GIB, parent_key="first")
    itself = a_row("itself", MIB, parent_key="itself")
    listed = entries([a_gpu(first, second, lost, itself)])
    assert sorted(entry.name for entry in listed) == ["first", "itself", "lost", "second"]


def test_all_devices_are_one_list_with_a_models_part_on_each() -> None:
    first, second = a_gpu(a_row("big", 30 * GIB)), a_gpu(a_row("big", 28 * GIB), a_row("mid", 29 * GIB), index=1)
    listed = entries([first, second])
    assert [(entry.name, entry.device.label) for entry in listed] == [("big", "0"), ("mid", "1"), ("big", "1")]
    assert len({entry.key for entry in listed}) == 3


def test_processes_without_a_sidecar_come_last_and_sort_with_the_others_where_asked() -> None:
    gpu = a_gpu(a_row("m", GIB), unattached=[an_unattached(used_bytes=3 * GIB), an_unattached(1, None, "")])
    assert names(entries([gpu])) == ["m", "python serve.py", "process 1"]
    assert names(entries([gpu], Order("on", reverse=True))) == ["process 1", "m", "python serve.py"]


def test_a_model_that_is_known_from_outside_is_the_line_and_found_by_all_that_is_known_of_it() -> None:
    gpu = a_gpu(a_row("m", GIB), unattached=[a_llama_server(used_bytes=9 * GIB), an_unattached(1)])
    (entry,) = entries([gpu], words="qwen3")
    assert (entry.name, entry.note, entry.process) == ("Qwen3-8B-Q4_K_M.gguf", "mapped", "llama-server 2222")
    assert (entry.on_bytes, entry.off_bytes, entry.layers) == (9 * GIB, 0, 0)
    for words in ("ada/style", "eve 2222", "llama-server -m", "mapped"):
        assert [one.key for one in entries([gpu], words=words)] == [entry.key]


@pytest.mark.parametrize("column", SORTS)
def test_every_column_sorts_both_ways(column: str) -> None:
    devices = [replace(device, unattached=()) for device in a_full_view().devices]
    listed = [entry for entry in entries(devices, Order(column)) if not entry.depth]
    turned = [entry for entry in entries(devices, Order(column, reverse=True)) if not entry.depth]
    keys = [SORTS[column](entry) for entry in listed]
    assert keys == sorted(keys, reverse=Order(column).is_descending)
    assert [SORTS[column](entry) for entry in turned] == sorted(keys, reverse=not Order(column).is_descending)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("wan", ["Wan2_2-T2V-A14B-HIGH", "wan_2.1_vae"]),
        ("WAN vae", ["wan_2.1_vae"]),
        ("clip", ["umt5-xxl-enc"]),
        ("diffusion_models/wan", [WAN]),
        ("4711 depth", ["VACE-Depth"]),
        ("nothing such", []),
        ("mylora", [WAN, "  MyLoRA"]),
    ],
)
def test_words_leave_what_has_them_all_in_name_kind_process_or_files(words: str, left: list[str]) -> None:
    listed = entries([a_full_view().devices[0]], words=words)
    assert [name for name in names(listed) if name != "  MyLoRA" or "MyLoRA" in str(left)] == left


def test_a_base_that_is_listed_only_for_its_adapter_is_no_match() -> None:
    listed = entries([a_full_view().devices[0]], words="mylora")
    assert [(entry.name, entry.matches) for entry in listed] == [(WAN, False), ("MyLoRA", True)]


def test_the_share_is_of_the_device_and_unknown_where_its_size_is() -> None:
    (known,) = entries([a_gpu(a_row("m", 8 * GIB))])
    (unknown,) = entries([a_gpu(a_row("m", 8 * GIB), total_bytes=None)])
    assert (known.share, unknown.share) == (0.1, None)


def test_host_memory_lists_like_any_device() -> None:
    assert names(entries([a_host(a_row("in-ram", device="cpu"))])) == ["in-ram"]
