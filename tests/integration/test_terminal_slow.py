"""The viewer on a terminal that takes less than there is to show."""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter
from snapshots import GIB, MIB, NOON_NS, a_device, a_model, a_snapshot
from terminals import on_a_pty, read_until

pytestmark = pytest.mark.skipif(shutil.which("setsid") is None, reason="setsid is not installed")

VIEWER = [str(Path(sys.executable).parent / "gpumodels-tui")]
PIECE_BYTES = 400
PAUSE_SECONDS = 0.1
"""So much at a time, so often: a line of 4 KB/s at most."""
ENOUGH_BYTES = 24 * 1024
"""Some frames' worth, each of which was overtaken by newer ones before it had gone through."""
ON_THE_WAY_BYTES = 24 * 1024
"""What the kernel holds of a pseudo-terminal's output, the frame that was being written, and the answer itself."""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SnapshotWriter]:
    directory = tmp_path / "gpm"
    directory.mkdir(mode=0o700)
    writer = SnapshotWriter(directory, this_process(), heartbeat_ms=60_000)
    writer.publish(everything_changes(0))
    yield writer
    writer.close()


def everything_changes(step: int) -> bytes:
    """Sixty models in another order each time, with other bytes: some kilobytes a frame."""
    models = [a_model(f"model-{number:02d}", (1 + (number * 7 + step * 13) % 997) * 11 * MIB) for number in range(60)]
    return encode(a_snapshot(*models, devices=[a_device("cpu", GIB)], taken_at_ns=NOON_NS + step))


def test_a_slow_terminal_goes_without_frames_and_still_answers_keys(tmp_path: Path, writer: SnapshotWriter) -> None:
    command = [*VIEWER, "--dir", str(tmp_path / "gpm")]
    with on_a_pty(command, b"model-", columns=120, lines=50) as (process, terminal):
        step = taken = 0
        while taken < ENOUGH_BYTES:
            step += 1
            writer.publish(everything_changes(step))
            taken += len(os.read(terminal.fileno(), PIECE_BYTES))
            select.select((), (), (), PAUSE_SECONDS)
        terminal.write(b"?")
        assert len(read_until(terminal, b"Keys")) <= ON_THE_WAY_BYTES
        assert process.poll() is None
