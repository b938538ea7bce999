"""Each way in which a failed allocation is noticed, in real processes that are killed then: what viewers say of the record."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from apps import app_showing, pressed
from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.oom_records import record_files
from gpumodels_shared.records import replace
from gpumodels_tui import cli
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import SnapshotFeed
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.view.recorder import Recorder
from processes import running_python, wait_until
from screen_text import shown

pytestmark = pytest.mark.slow

TESTS: Final = Path(__file__).parents[1]
GIB: Final = 1 << 30
HOST: Final = """
import sys, threading, time
import gpumodels, torch
from pathlib import Path
from gpumodels.models.allocators import DeviceCounters
from gpumodels.out_of_memory import host_limit
from gpumodels.sidecar import published_names, start_with

how, folder = sys.argv[1], Path(sys.argv[2])
failures = 0

class Devices:
    def counters(self, in_use=()):
        return {"cuda:0": DeviceCounters(20 << 30, 22 << 30, total_bytes=24 << 30, out_of_memory_count=failures)}

cgroup = folder / "cgroups" / "pod"
cgroup.mkdir(parents=True)
(folder / "own").write_text("0::/pod\\n")
(cgroup / "memory.events").write_text("oom 0\\noom_kill 0\\n")
(cgroup / "memory.max").write_text(f"{8 << 30}\\n")
(cgroup / "memory.current").write_text(f"{7 << 30}\\n")
host_limit.HostLimit.__init__.__defaults__ = (folder / "own", folder / "cgroups")

torch.cuda.is_initialized = lambda: True
torch.cuda.memory._dump_snapshot = lambda path: Path(path).write_bytes(b"history")

start_with(Devices(), interval=0.1)
model = torch.nn.Linear(512, 512)
gpumodels.label(model, "ranker")
while "ranker" not in published_names():
    time.sleep(0.02)

def fail(**_inputs):
    global failures
    failures += how == "counter"
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 24.00 GiB of which 1.00 GiB is free."
    )

def wait():
    print("failed", flush=True)
    sys.stdin.read()

if how == "excepthook":
    sys.excepthook = lambda *_: threading.Thread(target=wait).start()  # the process goes on for a while
    fail()
elif how == "thread":
    threading.excepthook = lambda _: None
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
elif how == "console":
    import code
    console = code.InteractiveConsole({"fail": fail})
    console.write = lambda _: None
    console.push("fail()")
elif how == "node":
    (folder / "execution.py").write_text(Path(sys.argv[3], "comfy_executor.py").read_text())
    sys.path.insert(0, str(folder))
    import execution
    execution.PromptExecutor().execute({"4": {"class_type": "KSampler", "function": fail, "inputs": {}}}, "1")
elif how == "cgroup":
    (cgroup / "memory.events").write_text("oom 1\\noom_kill 0\\n")
else:
    with gpumodels.stage("denoise"):
        try:
            fail()
        except torch.OutOfMemoryError:
            pass
wait()
"""

WAYS: Final[dict[str, dict[str, Any]]] = {
    "excepthook": {"device": "cuda:0", "noticed_by": "exception", "requested_bytes": 2 * GIB, "free_bytes": GIB},
    "thread": {"device": "cuda:0", "noticed_by": "exception", "requested_bytes": 2 * GIB},
    "console": {"device": "cuda:0", "noticed_by": "exception", "requested_bytes": 2 * GIB},
    "node": {"device": "cuda:0", "noticed_by": "exception", "requested_bytes": 2 * GIB, "stage": "KSampler"},
    "counter": {"device": "cuda:0", "noticed_by": "counter", "requested_bytes": None, "stage": "denoise"},
    "cgroup": {"device": "cpu", "noticed_by": "cgroup", "total_bytes": 8 * GIB, "allocated_bytes": 7 * GIB},
}


@pytest.fixture(params=WAYS)
def killed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int, Path]]:
    """How memory ran out, the pid of the process, which was killed then, and the directory of its files."""
    how: str = request.param
    if how == "thread" and sys.version_info < (3, 12):
        pytest.skip("the code that all threads share can be observed from Python 3.12 on")
    directory = tmp_path / "files"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GPUMODELS_DIR", str(directory))
    monkeypatch.setenv("GPUMODELS_OOM_SNAPSHOT", "1")
    with running_python(HOST, how, str(tmp_path), str(TESTS)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "failed\n"
        feed = SnapshotFeed([directory])

        def is_published() -> bool:
            snapshots = [process.snapshot for process in feed.poll().processes]
            return any(snapshot is not None and snapshot.out_of_memory for snapshot in snapshots)

        wait_until(is_published, 30)
        feed.close()
        child.send_signal(signal.SIGKILL)
        child.wait()
        yield how, child.pid, directory


def test_what_viewers_say_of_a_failure_after_its_process_was_killed(
    killed: tuple[str, int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    how, pid, directory = killed
    expected = WAYS[how]
    device = "host memory" if how == "cgroup" else "cuda:0"

    assert cli.main(["--json"]) == 0
    (process,) = json.loads(capsys.readouterr().out)["processes"]
    (failure,) = process["out_of_memory"]
    assert process["state"] == "dead"
    assert {key: failure[key] for key in expected} == expected
    assert Path(failure["record"]).parent == directory
    assert Path(failure["record"]).with_suffix(".pickle").read_bytes() == b"history"

    feed = SnapshotFeed([directory])
    view = build_view(feed.poll(), HardwareState(), CatalogueState())
    feed.close()
    history = Recorder().record(view, time.time_ns())
    (event,) = [event for event in history.events if event.kind is EventKind.OUT_OF_MEMORY]
    assert event.process.endswith(f" {pid}")

    async def screens() -> tuple[str, str]:
        app = app_showing(replace(view, history=history))
        async with app.run_test(size=(120, 40)) as pilot:
            await pressed(pilot, "t")
            timeline = shown(app)
            await pressed(pilot, "escape", "p")
            return timeline, shown(app)

    timeline, of_process = asyncio.run(screens())
    assert "out of memory" in timeline
    assert device in " ".join(of_process.split())

    assert clean_dead_files(directory, kept_seconds=0, max_dead_files=0) == 1
    assert cli.main(["oom"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Out of memory on {device}, ")
    assert f"pid {pid}" in text
    assert [str(path) for path in record_files(directory, {os.geteuid()})[0]] == [failure["record"]]
    for line in [f"requested  {'2.0 GB' if expected.get('requested_bytes') else 'unknown'}", *_stage(expected)]:
        assert line in text
    if how == "cgroup":
        assert "ranker" in text, "it is in host memory"


def _stage(expected: dict[str, Any]) -> list[str]:
    return [f"stage      {expected['stage']}"] if "stage" in expected else []
