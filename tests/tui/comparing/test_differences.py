from __future__ import annotations

from typing import Any

from gpumodels_tui.comparing.differences import OFF, Change, Move, difference, without_folders
from gpumodels_tui.comparing.documents import DeviceMemory, Document, Gpu, Model, Process

GPU = (Gpu("GPU-1", 3, "H200", 10),)
MEMORY = DeviceMemory("cuda:0", "GPU-1")


def changes(before: list[Model], after: list[Model], *, restarted: bool = False, **memory: Any) -> list[Change]:
    old = Document(1, (Process(1, "main.py", started_at="a", devices=(MEMORY,), models=tuple(before)),), gpus=GPU)
    devices = (DeviceMemory("cuda:0", "GPU-1", **memory),)
    started = "b" if restarted else "a"
    new = Document(1, (Process(1, "main.py", started_at=started, devices=devices, models=tuple(after)),), gpus=GPU)
    return [change for process in difference(old, new).processes for change in process.changes]


def test_what_did_not_change_is_not_told() -> None:
    wan = Model("1", "wan", bytes_by_device={"cuda:0": 5})
    assert changes([wan], [wan]) == []


def test_what_came_and_went_is_told_with_its_places() -> None:
    wan, vae = Model("1", "wan", bytes_by_device={"cuda:0": 5, "cpu": 2}), Model("2", "vae", bytes_by_device={"cpu": 3})
    went, came = changes([wan], [vae])
    assert (went.what, went.places, came.what, came.places) == ("went", {"GPU 3": 5, "host": 2}, "came", {"host": 3})


def test_bytes_that_leave_one_place_while_as_many_come_to_another_moved_and_the_rest_grew() -> None:
    before = Model("1", "wan", bytes_by_device={"cpu": 5}, offloaded_bytes=5)
    after = Model("1", "wan", bytes_by_device={"cuda:0": 7}, offloaded_bytes=0)
    moved, grew = changes([before], [after])
    assert moved.move == Move(5, "host", "GPU 3")
    assert (grew.what, grew.places, grew.before_bytes, grew.after_bytes) == ("grew", {"GPU 3": 2}, 5, 7)


def test_bytes_that_go_to_disk_moved_there_and_shrank_if_the_older_document_does_not_know() -> None:
    before = Model("1", "wan", bytes_by_device={"cuda:0": 5}, offloaded_bytes=0)
    after = Model("1", "wan", bytes_by_device={}, offloaded_bytes=5)
    assert [change.move for change in changes([before], [after])] == [Move(5, "GPU 3", OFF)]
    (shrank,) = changes([Model("1", "wan", bytes_by_device={"cuda:0": 5})], [after])
    assert (shrank.what, shrank.places) == ("shrank", {"GPU 3": -5})


def test_the_same_model_of_a_restarted_process_is_reloaded() -> None:
    wan = Model("1", "wan", bytes_by_device={"cuda:0": 5}, files=("/m/wan",))
    assert [change.what for change in changes([wan], [wan], restarted=True)] == ["restarted", "reloaded"]


def test_a_new_name_is_told_with_the_old_one() -> None:
    (renamed,) = changes([Model("1", "Net")], [Model("1", "wan")])
    assert (renamed.what, renamed.previous) == ("renamed", "Net")


def test_a_figure_that_one_document_does_not_know_did_not_change() -> None:
    assert changes([], [], other_bytes=4, reserved_bytes=4, allocated_bytes=1) == []


def test_nothing_is_said_of_the_models_of_a_process_that_could_not_be_read_before() -> None:
    unread, read = Process(1), Process(1, "main.py", started_at="a", models=(Model("1", "wan"),))
    assert difference(Document(1, (unread,)), Document(1, (read,))).processes == ()


def test_a_model_whose_sizes_are_not_known_neither_grew_nor_moved() -> None:
    assert changes([Model("1", "wan")], [Model("1", "wan", bytes_by_device={"cuda:0": 5})]) == []


def test_parts_of_the_memory_and_devices_are_told_with_both_figures() -> None:
    known = {"other_bytes": 1, "reserved_bytes": 4, "allocated_bytes": 4}
    after = {"other_bytes": 2, "reserved_bytes": 9, "allocated_bytes": 4}
    one, other = (
        Document(1, (Process(1, devices=(DeviceMemory("cuda:0", "GPU-1", **values),)),), gpus=(Gpu("GPU-1", 3, "H200", used),))
        for values, used in ((known, 10), (after, 15))
    )
    found = difference(one, other)
    assert [(change.name, change.before_bytes, change.after_bytes) for change in found.processes[0].changes] == [
        ("other", 1, 2),
        ("allocator cache", 0, 5),
    ]
    assert [(change.where, change.before_bytes, change.after_bytes) for change in found.devices] == [("GPU 3", 10, 15)]


def test_paths_in_names_are_cut_and_names_with_a_slash_are_kept() -> None:
    assert without_folders("python /home/ada/secret/main.py ~/x/y.bin Qwen/Qwen3-8B") == "python main.py y.bin Qwen/Qwen3-8B"
