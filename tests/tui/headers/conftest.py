"""A worker process that the tests of both its ends talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpumodels_tui.headers.header_reader import HeaderWorker


@pytest.fixture
def worker() -> Iterator[HeaderWorker]:
    """Not yet started: the first file that it is asked for does that."""
    worker = HeaderWorker()
    yield worker
    worker.close()
