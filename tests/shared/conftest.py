"""A fresh file and its two ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels_shared.identity import this_process
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.writer import SnapshotWriter


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SnapshotWriter]:
    """A writer with nothing published yet."""
    made = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    yield made
    made.abandon()


@pytest.fixture
def reader(writer: SnapshotWriter) -> Iterator[SnapshotReader]:
    """A reader of the writer's file."""
    opened = SnapshotReader(writer.path, os.geteuid())
    yield opened
    opened.close()
