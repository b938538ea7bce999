"""A start as it is recorded in tmux, in GNU screen, and over a line of 300 bytes a second: one picture, and an answer soon."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.writer import SnapshotWriter
from snapshots import GIB, MIB, a_device, a_model, a_snapshot, published
from terminals import PATIENCE_SECONDS, Terminal, on_a_pty, read_until

VIEWER: Final = [str(Path(sys.executable).parent / "gpumodels-tui")]
MODELS: Final = [f"model-{number:02d}" for number in range(20)]
BYTES_PER_SECOND: Final = 300
START_BYTES: Final = 12_000
LEAVING_BYTES: Final = 1_500
"""What may still be on its way when `q` is pressed, and what leaving sends: seven seconds at most."""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """The files of a process with 20 models."""
    directory = tmp_path / "gpm"
    directory.mkdir(mode=0o700)
    models = [a_model(name, (20 - number) * 64 * MIB, device="cpu") for number, name in enumerate(MODELS)]
    writer: SnapshotWriter = published(directory, a_snapshot(*models, devices=[a_device("cpu", 2 * GIB)]), heartbeat_ms=60_000)
    yield directory
    writer.close()


def test_in_tmux_the_first_picture_is_whole_and_stays_as_it_is(directory: Path, tmp_path: Path) -> None:
    with Terminal(tmp_path, [*VIEWER, "--dir", str(directory)], columns=120, lines=40) as terminal:
        terminal.wait_for(*MODELS, "Quit")
        lines = terminal.screen().splitlines()
        assert not any("\x1b" in line or "[?" in line for line in lines)
        terminal.press("?")
        terminal.wait_for("Keys")
        terminal.press("Escape")
        after = terminal.wait_until(lambda screen: "Keys" not in screen, "the help stays")
        assert [line.split()[:3] for line in after.splitlines()[6:28]] == [line.split()[:3] for line in lines[6:28]]


@pytest.mark.skipif(shutil.which("screen") is None, reason="GNU screen is not installed")
def test_in_screen_the_first_picture_is_whole(directory: Path, tmp_path: Path) -> None:
    name, copy = f"gpumodels-{os.getpid()}", tmp_path / "copy"
    screen = ["screen", "-c", "/dev/null", "-U", "-S", name]
    with on_a_pty([*screen, *VIEWER, "--dir", str(directory)], MODELS[-1].encode(), columns=120, lines=40) as (_, terminal):
        shown: list[str] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (shown and "Quit" in shown[-1]) and time.monotonic() < deadline:
            subprocess.run(["screen", "-S", name, "-X", "hardcopy", str(copy)], check=True, capture_output=True)
            if select.select([terminal], [], [], 0.2)[0]:
                terminal.read(65536)
            shown = copy.read_text(errors="replace").splitlines() if copy.exists() else []
        subprocess.run(["screen", "-S", name, "-X", "quit"], check=True, capture_output=True)
        read_until(terminal, b"terminating")
    assert shown
    assert "Quit" in shown[-1]
    assert [one for one in MODELS[1:] if sum(one in line for line in shown) != 1] == []


def test_over_a_slow_line_there_is_one_short_picture_and_quitting_works_soon(directory: Path) -> None:
    # The terminal hands out what the viewer sends at the line's speed; what the kernel holds back is on its way.
    with on_a_pty([*VIEWER, "--dir", str(directory)], b"\x1b", columns=120, lines=40) as (process, terminal):
        sent, began = b"", time.monotonic()
        while b"Quit" not in sent:
            sent += os.read(terminal.fileno(), BYTES_PER_SECOND // 10)
            time.sleep(0.1)
        assert len(sent) <= START_BYTES
        assert time.monotonic() - began <= START_BYTES / BYTES_PER_SECOND * 1.5
        assert sent.count(MODELS[1].encode()) == 1
        os.write(terminal.fileno(), b"q")
        left = 0
        while select.select([terminal], [], [], 2.0)[0]:
            try:
                data = os.read(terminal.fileno(), BYTES_PER_SECOND // 10)
            except OSError:
                break
            if not data:
                break
            left += len(data)
            time.sleep(0.1)
        assert left <= LEAVING_BYTES
        assert process.wait(PATIENCE_SECONDS) == 0
