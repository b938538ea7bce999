"""Folders that look like installations of ComfyUI, and Pythons that answer as they are told."""

from __future__ import annotations

import json
from pathlib import Path


def a_comfyui(folder: Path, extra_model_paths: str | None = None) -> Path:
    """A folder with what ComfyUI's program is known by."""
    (folder / "comfy").mkdir(parents=True)
    (folder / "custom_nodes").mkdir()
    (folder / "models").mkdir()
    for name in ("main.py", "nodes.py"):
        (folder / name).touch()
    (folder / "comfyui_version.py").write_text('# Generated\n__version__ = "0.33.0"\n')
    if extra_model_paths is not None:
        (folder / "extra_model_paths.yaml").write_text(extra_model_paths)
    return folder


def a_python(environment: Path, *, has_torch: bool = True, gpumodels: str | None = None, trouble: str | None = None) -> Path:
    """A program in the place of an environment's Python. It answers the question, has pip, and notes how it was called."""
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    said = {"python": "3.12.3", "has_torch": has_torch, "gpumodels": gpumodels, "trouble": trouble}
    answer, calls = environment / "answer.json", environment / "calls"
    answer.write_text(json.dumps(said))
    python.write_text(
        f"#!/bin/sh\necho \"$*\" | head -1 >> '{calls}'\ncase \"$*\" in '-c import pip') exit 0;; -c*) cat '{answer}';; esac\n"
    )
    python.chmod(0o755)
    return python


def calls_of(python: Path) -> list[str]:
    """The first line of the arguments of each call, but those of questions."""
    calls = python.parents[1] / "calls"
    return [line for line in calls.read_text().splitlines() if not line.startswith("-c")] if calls.exists() else []
