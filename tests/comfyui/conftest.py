"""What the tests of a real ComfyUI share, and the tables that they print at the end.

A row is there once a test found it true: by which loader, against which truth, and how soon.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfy_server import TABLE, make_models, ratios, table, the_comfyui


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of models."""
    comfyui = the_comfyui()
    assert comfyui is not None
    directory = tmp_path_factory.mktemp("models")
    try:
        make_models(comfyui, directory)
        yield directory
    finally:
        shutil.rmtree(directory)  # more than a gigabyte


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    comfyui = the_comfyui()
    if comfyui is None:
        return
    for title, lines in (("rows of a real ComfyUI", table(comfyui) if TABLE else []), ("its workflows' times", list(ratios()))):
        if lines:
            terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
