"""Prints, at the end of `make test-comfyui`, every row that was found true: by which loader, against which truth, how soon."""

from __future__ import annotations

import pytest

from comfy_server import TABLE, table, the_comfyui


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    comfyui = the_comfyui()
    if comfyui is not None and TABLE:
        terminalreporter.section("rows of a real ComfyUI")
        for line in table(comfyui):
            terminalreporter.write_line(line)
