"""The command `gpumodels-tui record`, as a process of its own, and what `--replay` and `--history` print of it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.schema import Snapshot
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.reading import read_recording
from processes import wait_until
from snapshots import GIB, a_model, a_process, a_snapshot, published

pytestmark = pytest.mark.slow
VIEWER = [sys.executable, "-m", "gpumodels_tui"]


def a_moment(*names: str) -> Snapshot:
    return a_snapshot(*(a_model(name, GIB) for name in names), process=a_process(pid=os.getpid()))


def printed(*arguments: str, state: Path) -> list[dict[str, Any]]:
    environment = os.environ | {"XDG_STATE_HOME": str(state)}
    done = subprocess.run([*VIEWER, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def count_of(path: Path) -> int:
    try:
        return sum(len(member.times) for member in read_recording([path]).members)
    except RecordingError:
        return 0


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_was_recorded_is_there_however_it_ends(tmp_path: Path, ended_by: signal.Signals) -> None:
    sidecars, path, state = tmp_path / "sidecars", tmp_path / "r.ndjson.gz", tmp_path / "state"
    sidecars.mkdir(mode=0o700)
    writer = published(sidecars, a_moment("wan"))
    command = [*VIEWER, "--dir", str(sidecars), "record", str(path), "--every", "0.5"]
    environment = os.environ | {"XDG_STATE_HOME": str(state)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        wait_until(lambda: count_of(path) >= 1)
        writer.publish(encode(a_moment("wan", "vae")))
        wait_until(lambda: any(event.name == "vae" for event in read_recording([path]).events))
        process.send_signal(ended_by)
        code = process.wait(60)
        assert process.stderr is not None
        said = process.stderr.read()
    writer.close()
    assert code == (-ended_by if ended_by is signal.SIGKILL else 0)
    assert said == f"gpumodels-tui: recording to {path}; Ctrl-C ends it\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_recording([path]).problems == ([f"{path}: its end is missing; it is shown up to there"] if code else [])
    if not code:
        for way in (["--replay", str(path)], ["--history"]):
            events = [(line["event"], line.get("model")) for line in printed(*way, state=state)]
            assert events == [("started", None), ("loaded", "wan"), ("loaded", "vae")], way


def test_without_a_file_only_the_ring_is_kept_and_its_limit_ends_a_file(tmp_path: Path) -> None:
    sidecars = tmp_path / "sidecars"
    sidecars.mkdir(mode=0o700)
    published(sidecars, a_moment("wan")).abandon()
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        [*VIEWER, "--dir", str(sidecars), "record"], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        ring = tmp_path / "state" / "gpumodels" / "history"
        wait_until(lambda: bool(list(ring.glob("*.gz"))) and count_of(next(ring.glob("*.gz"))) > 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_file_that_is_there_or_a_symlink_is_refused(tmp_path: Path) -> None:
    path, link = tmp_path / "there", tmp_path / "link"
    path.write_text("mine")
    link.symlink_to(tmp_path / "elsewhere")
    for chosen in (path, link):
        done = subprocess.run([*VIEWER, "record", str(chosen)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"gpumodels-tui: error: {chosen}: is ")
        assert done.stderr.count("\n") == 1
    assert path.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_no_recording_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x\n\x1b[31m.gz"
    path.write_bytes(os.urandom(1000))
    for arguments in (["--replay", str(path)], ["--replay", str(tmp_path / "none")], ["--history-of", str(tmp_path / "none")]):
        done = subprocess.run([*VIEWER, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("gpumodels-tui: error: ")
        assert done.stderr.count("\n") == 1
        assert "\x1b" not in done.stderr
