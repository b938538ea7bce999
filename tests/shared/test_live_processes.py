"""`from gpumodels_shared import processes`: what other programs are told, and what it costs and promises them."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

import pytest

import gpumodels_shared
from gpumodels_shared import Process, ProcessDevice, ProcessModel, processes
from gpumodels_shared import live_processes as module
from gpumodels_shared.layout import HEADER_BYTES, HEARTBEAT_BYTES
from gpumodels_shared.writer import SnapshotWriter
from mapped_files import SLOTS, damage
from processes import run_python, running_python
from snapshots import GIB, H100, a_device, a_model, a_process, a_snapshot, an_identity, published
from work import counted

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)

WRITER: Final = """
import os, sys, time
from pathlib import Path
from gpumodels_shared.identity import this_process
from snapshots import a_model, a_process, a_snapshot, published
writer = published(Path(sys.argv[1]), a_snapshot(a_model("wan"), process=a_process(pid=os.getpid())), this_process(), 20)
print("ready", flush=True)
while not sys.stdin.readline():
    pass
writer.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SnapshotWriter]:
    """Of this process: two models, one on a GPU that is known by UUID."""
    wan = a_model("wan", 2 * GIB, device="cuda:0", off_bytes=GIB, files=["/models/wan.safetensors"])
    lora = a_model("lora", 3, "lora", device="cuda:1", parent="wan", confidence=0.3)
    info = a_process("ComfyUI/main.py", os.getpid(), visible_devices=f"{H100},1")
    devices = [a_device("cuda:0", 2 * GIB, allocated_bytes=3 * GIB), a_device("cuda:1", 3)]
    made = published(tmp_path, a_snapshot(wan, lora, process=info, devices=devices), an_identity(), heartbeat_ms=60_000)
    yield made
    made.abandon()


def test_a_process_is_told_with_its_models_and_devices(tmp_path: Path, writer: SnapshotWriter) -> None:
    (process,) = processes([tmp_path])
    assert (process.pid, process.uid, process.label, process.state) == (os.getpid(), os.geteuid(), "ComfyUI/main.py", "live")
    assert process.snapshot_at_ns is not None
    assert abs(process.snapshot_at_ns - time.time_ns()) < 60e9
    wan, lora = process.models
    assert (wan.name, wan.kind, wan.is_named, wan.parent) == ("wan", "checkpoint", True, None)
    assert (wan.bytes_by_device, wan.bytes_by_gpu) == ({"cuda:0": 2 * GIB, "cpu": GIB}, {H100: 2 * GIB})
    assert (wan.resident_bytes, wan.offloaded_bytes, wan.files) == (3 * GIB, GIB, ("/models/wan.safetensors",))
    assert (lora.name, lora.is_named, lora.parent, lora.bytes_by_gpu) == ("lora", False, "wan", {})
    assert process.devices == (
        ProcessDevice("cuda:0", H100, 2 * GIB, 3 * GIB, None),
        ProcessDevice("cuda:1", None, 3, None, None),
    )


def test_text_is_safe_to_print(tmp_path: Path) -> None:
    made = published(tmp_path, a_snapshot(a_model("a\x1b[2Jb"), process=a_process("l\nm", os.getpid())), an_identity())
    (process,) = processes([str(tmp_path)])
    assert (process.label, process.models[0].name) == ("l\\x0am", "a\\x1b[2Jb")
    made.abandon()


def test_a_damaged_file_costs_itself_alone_and_is_said(tmp_path: Path, writer: SnapshotWriter) -> None:
    (tmp_path / "1-1-0.gpm").write_bytes(b"nonsense")
    (tmp_path / "2-1-0.gpm").symlink_to(writer.path)
    said: list[tuple[str, str]] = []
    found = processes([tmp_path], on_problem=lambda path, reason: said.append((path.name, reason)))
    assert [process.pid for process in found] == [os.getpid()]
    assert said == [("1-1-0.gpm", "truncated: 8 bytes, incomplete header"), ("2-1-0.gpm", "is a symlink")]
    assert processes([tmp_path]) == found


def test_a_file_is_a_process_without_models_until_something_is_published(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    made = SnapshotWriter(tmp_path, an_identity(), 60_000)
    (process,) = processes([tmp_path])
    assert (process.pid, process.label, process.models, process.snapshot_at_ns) == (os.getpid(), "process", (), None)
    made.abandon()


def test_a_torn_snapshot_leaves_the_one_before_and_is_said(tmp_path: Path, writer: SnapshotWriter) -> None:
    (before,) = processes([tmp_path])
    writer.publish(b"no snapshot")
    said: list[str] = []
    (after,) = processes([tmp_path], on_problem=lambda path, reason: said.append(reason))
    assert after.models == before.models
    assert said
    for slot in SLOTS:
        damage(writer.path, slot + 64)
    assert processes([tmp_path])[0].models == before.models


def test_a_directory_that_may_not_be_trusted_or_is_not_there_is_said(tmp_path: Path, writer: SnapshotWriter) -> None:
    tmp_path.chmod(0o777)
    said: list[str] = []
    missing = tmp_path / "none"
    assert processes([tmp_path, missing], on_problem=lambda path, reason: said.append(reason)) == ()
    assert said[0].startswith(f"{tmp_path} can be written by others")
    assert said[1] == "no such directory"


def test_the_default_directory_that_is_not_there_yet_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "other_users_directories", list)
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "none"))
    said: list[str] = []
    assert processes(on_problem=lambda path, reason: said.append(reason)) == ()
    assert said == []


def test_other_users_are_read_unless_a_directory_was_chosen(
    tmp_path: Path, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "other_users_directories", lambda: [tmp_path])
    monkeypatch.setattr(module, "default_directory", lambda: tmp_path / "none")
    monkeypatch.delenv("GPUMODELS_DIR", raising=False)
    assert len(processes()) == 1
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "none"))
    assert processes() == ()


def test_no_more_files_than_sidecars_leave_are_opened(
    tmp_path: Path, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 1)
    (tmp_path / "~.gpm").touch()
    said: list[str] = []
    assert len(processes([tmp_path], on_problem=lambda path, reason: said.append(reason))) == 1
    assert said == ["holds 2 files; only 1 are read"]


def test_what_has_not_changed_is_not_decoded_again(tmp_path: Path, writer: SnapshotWriter) -> None:
    (first,) = processes([tmp_path])
    decoded: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decode_without_trees", decoded.append)
        assert processes([tmp_path]) == (first,)
        writer.beat()
        assert processes([tmp_path]) == (first,)
    assert decoded == []


def test_what_is_known_of_files_that_are_gone_is_forgotten(tmp_path: Path, writer: SnapshotWriter) -> None:
    processes([tmp_path])
    writer.path.unlink()
    assert processes([tmp_path]) == ()
    assert module._known == {}


def test_it_keeps_no_descriptor_open(tmp_path: Path, writer: SnapshotWriter) -> None:
    (tmp_path / "1-1-0.gpm").write_bytes(b"nonsense")
    before = set(os.listdir("/dev/fd"))
    processes([tmp_path])
    assert set(os.listdir("/dev/fd")) == before


def test_a_process_that_is_silent_is_stalled_by_the_readers_clock(
    tmp_path: Path, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], time_ns=time.time_ns))
    assert [process.state for process in processes([tmp_path])] == ["live"]
    now[0] += 601
    assert [process.state for process in processes([tmp_path])] == ["stalled"]
    writer.beat()
    assert [process.state for process in processes([tmp_path])] == ["live"]


def test_the_first_call_goes_by_the_writers_clock(
    tmp_path: Path, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = SimpleNamespace(monotonic=time.monotonic, time_ns=lambda: time.time_ns() + 601 * 10**9)
    monkeypatch.setattr(module, "time", later)
    assert [process.state for process in processes([tmp_path])] == ["stalled"]
    writer.beat()
    assert [process.state for process in processes([tmp_path])] == ["live"]


def test_a_process_of_a_namespace_that_is_not_seen_has_no_pid(tmp_path: Path) -> None:
    made = published(tmp_path, a_snapshot(a_model()), an_identity(4711))
    assert [process.pid for process in processes([tmp_path])] == [None]
    made.abandon()


@pytest.mark.slow
def test_a_real_process_is_live_then_exited_and_one_that_is_killed_is_dead(tmp_path: Path) -> None:
    with running_python(WRITER, str(tmp_path), environment={"PYTHONPATH": os.pathsep.join(sys.path)}) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert [(process.pid, process.state) for process in processes([tmp_path])] == [(child.pid, "live")]
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        assert processes([tmp_path]) == ()
        (ended,) = processes([tmp_path], include_ended=True)
        assert (ended.pid, ended.state, ended.models[0].name) == (child.pid, "exited", "wan")  # it still runs
    assert [(process.pid, process.state) for process in processes([tmp_path], include_ended=True)] == [(None, "exited")]
    with running_python(WRITER, str(tmp_path), environment={"PYTHONPATH": os.pathsep.join(sys.path)}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
    states = [(process.pid, process.state) for process in processes([tmp_path], include_ended=True)]
    assert sorted(states, key=str) == [(None, "dead"), (None, "exited")]


def test_the_package_is_imported_without_any_of_it_and_it_without_any_other_library() -> None:
    done = run_python(
        "import sys; before = set(sys.modules); import gpumodels_shared;"
        "print(sorted({n for n in set(sys.modules) - before if n.startswith('gpumodels') or n == 'msgpack'}));"
        "from gpumodels_shared import processes;"
        "print(sorted({n.partition('.')[0] for n in set(sys.modules) - before} - set(sys.stdlib_module_names)))",
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    first, second = done.stdout.splitlines()
    assert first == "['gpumodels_shared']"
    others = {name for name in ast.literal_eval(second) if "cython" not in name}  # msgpack's own
    assert others == {"gpumodels_shared", "msgpack"}


def test_only_what_is_promised_can_be_had_from_the_package() -> None:
    assert sorted(gpumodels_shared.__all__) == ["Process", "ProcessDevice", "ProcessModel", "processes"]
    with pytest.raises(AttributeError, match="nothing"):
        _ = gpumodels_shared.nothing


def test_reading_again_reads_the_header_and_the_heartbeat_only(tmp_path: Path, writer: SnapshotWriter) -> None:
    processes([tmp_path])
    with counted() as work:
        processes([tmp_path])
    assert 0 < work.bytes_read <= HEADER_BYTES + 2 * HEARTBEAT_BYTES


def documented(title: str) -> list[str]:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)`", text, re.MULTILINE)


def test_every_field_is_documented() -> None:
    def names(of: Any) -> set[str]:
        return {one.name for one in dataclasses.fields(of)} | {
            name for name, value in inspect.getmembers(of) if isinstance(value, property)
        }

    assert set(documented("A process")) == names(Process)
    assert set(documented("A model of a process")) == names(ProcessModel)
    assert set(documented("A device in a process")) == names(ProcessDevice)


def printed(example: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(example, "docs/python.md", "exec"), {})
    return output.getvalue()


def test_the_first_example_prints_every_model(tmp_path: Path, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path))
    assert printed(EXAMPLES[0]).splitlines() == [
        f"{os.getpid()} ComfyUI/main.py live wan {{'cuda:0': {2 * GIB}, 'cpu': {GIB}}} {GIB}",
        f"{os.getpid()} ComfyUI/main.py live lora {{'cuda:1': 3}} 0",
    ]


def test_five_lines_put_the_names_into_the_rows_of_a_monitor(
    tmp_path: Path, writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nvitop itself is in tests/libraries; this is of its shape."""
    lines = [line for line in EXAMPLES[1].splitlines() if line and "import" not in line]
    assert len(lines) <= 5
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path))
    nvitop: Any = ModuleType("nvitop")
    of_nvitop = SimpleNamespace(gpu_memory_human=lambda: "2.0GiB", name=lambda: "python")
    device = SimpleNamespace(index=0, processes=lambda: {os.getpid(): of_nvitop, 1: of_nvitop})
    nvitop.Device = SimpleNamespace(all=lambda: [device])
    monkeypatch.setitem(sys.modules, "nvitop", nvitop)
    assert printed(EXAMPLES[1]).splitlines() == [f"0 {os.getpid()} 2.0GiB wan, lora", "0 1 2.0GiB python"]
