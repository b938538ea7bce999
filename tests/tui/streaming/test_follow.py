"""The command `gpumodels-tui --follow`, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.records import replace as changed
from gpumodels_shared.schema import Job, Snapshot
from gpumodels_tui.sources.feed import FeedState
from processes import run_python
from recordings import a_recording
from snapshots import GIB, a_model, a_process, a_process_state, a_snapshot, published

pytestmark = pytest.mark.slow
PATIENCE_SECONDS = 60


@contextlib.contextmanager
def following(directory: Path, *options: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "gpumodels_tui", "--dir", str(directory), "--follow", *options]
    arguments = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | streams
    with subprocess.Popen(command, **arguments) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(stream: IO[str] | None) -> dict[str, Any]:
    assert stream is not None
    assert select.select([stream], [], [], PATIENCE_SECONDS)[0]
    entry: dict[str, Any] = json.loads(stream.readline())
    return entry


def a_moment(*names: str) -> Snapshot:
    return a_snapshot(*(a_model(name, GIB) for name in names), process=a_process(pid=os.getpid()))


def settled(process: subprocess.Popen[str]) -> None:
    """Until it knows what is there: what comes from now on is news to it."""
    assert next_line(process.stdout)["event"] == "began"
    assert next_line(process.stdout)["type"] == "state"


def test_each_event_is_a_line_at_once(tmp_path: Path) -> None:
    writer = published(tmp_path, a_moment("wan"))
    with following(tmp_path, "--state", "3600") as process:
        settled(process)
        begun_at = time.monotonic()
        writer.publish(encode(a_moment("wan", "vae")))
        line = next_line(process.stdout)
        assert (line["event"], line["model"], line["pid"]) == ("loaded", "vae", os.getpid())
        assert time.monotonic() - begun_at < 5
        writer.close()
        line = next_line(process.stdout)
        assert (line["event"], {one["name"] for one in line["models"]}) == ("exited", {"wan", "vae"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_document_comes_as_often_as_asked(tmp_path: Path) -> None:
    writer = published(tmp_path, a_moment("wan"))
    with following(tmp_path, "--state", "0.25") as process:
        settled(process)
        first, second = next_line(process.stdout), next_line(process.stdout)
        assert first["document"]["processes"][0]["models"][0]["name"] == "wan"
        assert second["seq"] == first["seq"] + 1
    writer.close()


ONE_OF_EACH = [
    ("--kind", "lora", "vae"),
    ("--name", "wanted", "other"),
    ("--min-bytes", "1GB", "9GB"),
    ("--process", str(os.getpid()), "4000000"),
    ("--user", str(os.getuid()), "4000000"),
    ("--job", "4242", "1717"),
    ("--gpu", "host", "7"),
]


@pytest.mark.parametrize(("option", "choosing", "hiding"), ONE_OF_EACH, ids=[option for option, _, _ in ONE_OF_EACH])
def test_a_filter_leaves_the_events_of_what_it_chooses_and_no_others(
    tmp_path: Path, option: str, choosing: str, hiding: str
) -> None:
    info = a_process(pid=os.getpid(), rank=0, job=Job("4242", "slurm"))
    wanted = a_model("wanted", GIB, "lora")
    writer = published(tmp_path, a_snapshot(process=info))
    chosen, hidden = (
        following(tmp_path, option, choosing, "--state", "3600"),
        following(tmp_path, option, hiding, "--state", "0.2"),
    )
    with chosen as shows, hidden as hides:
        settled(shows)
        settled(hides)
        writer.publish(encode(a_snapshot(wanted, process=info)))
        while (line := next_line(shows.stdout))["event"] == "started":
            pass
        assert (line["event"], line["model"]) == ("loaded", "wanted")
        assert {next_line(hides.stdout)["type"] for _ in range(8)} == {"state"}
    writer.close()


def test_what_is_known_of_the_past_comes_first_if_asked_for(tmp_path: Path) -> None:
    writer = published(tmp_path, a_moment("wan"))
    with following(tmp_path, "--since", "2026-01-01T00:00:00Z") as process:
        lines = [next_line(process.stdout) for _ in range(3)]
        assert [line["event"] for line in lines] == ["began", "started", "loaded"]
        assert lines[1]["at"] == "2026-05-28T19:26:40.000Z"
    writer.close()


def test_what_a_service_recorded_of_the_same_processes_comes_first_and_then_the_present(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between, `b` was loaded, and nobody recorded."""
    sidecars, history = tmp_path / "sidecars", tmp_path / "history"
    sidecars.mkdir()
    history.mkdir(mode=0o700)
    writer = published(sidecars, a_moment("a"))
    (path,) = sidecars.glob("*.gpm")
    state = changed(a_process_state(a_moment("a"), key=str(path)), pid=os.getpid())
    feed = FeedState((sidecars,), (state,))
    empty = FeedState((sidecars,), (changed(state, snapshot=a_moment()),))
    a_recording(history / "1-1.ndjson.gz", [(0, empty), (10, feed)])
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    writer.publish(encode(a_moment("a", "b")))
    with following(sidecars, "--since", "2026-05-28T20:26:45Z") as process:
        lines = [next_line(process.stdout) for _ in range(3)]
    assert [(line["event"], line.get("model")) for line in lines] == [("began", None), ("loaded", "a"), ("loaded", "b")]
    assert lines[1]["at"] == "2026-05-28T20:26:50.000Z"
    assert lines[2]["at"] > "2026-06"
    with following(tmp_path / "other", "--since", "2026-05-28T20:26:45Z") as process:
        assert next_line(process.stdout)["event"] == "began"
        assert process.stdout is not None
        assert not select.select([process.stdout], [], [], 2)[0]  # those were other processes
    writer.close()


def test_a_reader_that_leaves_ends_it_even_if_nothing_happens(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with following(tmp_path) as process:
        assert next_line(process.stdout)["event"] == "began"
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_reader_that_does_not_read_loses_lines_but_holds_up_nothing(tmp_path: Path) -> None:
    """Documents of 100 models fill pipe and queue; afterwards the newest lines come, and the lag accounts for all others."""
    writer = published(tmp_path, a_moment(*(f"model {number} {'x' * 2000}" for number in range(200))))
    with following(tmp_path, "--state", "0.25", "--interval", "0.4") as process:
        assert next_line(process.stdout)["event"] == "began"
        deadline = time.monotonic() + PATIENCE_SECONDS
        time.sleep(8)
        before = 1
        lag: dict[str, Any] | None = None
        while lag is None:
            assert time.monotonic() < deadline
            line = next_line(process.stdout)
            assert line["seq"] - before == line.get("dropped", 1)
            before = line["seq"]
            lag = line if line["event"] == "lag" else None
        assert lag["dropped"] > 0
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)  # nobody reads: it ends all the same
        assert process.wait(PATIENCE_SECONDS) == 0
    writer.close()


def test_a_full_disk_is_an_error_with_a_reason(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with open("/dev/full", "w") as full, following(tmp_path, stdout=full) as process:
        assert process.wait(PATIENCE_SECONDS) == 1
        assert process.stderr is not None
        assert process.stderr.read() == "gpumodels-tui: error: can't write to stdout: no space left on device\n"


def test_textual_is_never_imported(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    done = run_python(
        """
        import sys, threading, os, signal
        from gpumodels_tui import cli
        threading.Timer(3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        code = cli.main(["--dir", sys.argv[1], "--follow", "--state", "1"])
        sys.exit(code or any(name.partition(".")[0] == "textual" for name in sys.modules))
        """,
        str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"event": "state"' in done.stdout
