"""Puts the id of the commit that a wheel is built from into it, for `gpumodels-tui --version`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "gpumodels_tui/commit.txt"


class CommitHook(BuildHookInterface[Any]):
    """Outside a git checkout, as from a source archive, the commit stays unknown."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file; an editable install asks the checkout itself."""
        if version == "editable" or self.target_name != "wheel":
            return
        command = ["git", "-C", self.root, "rev-parse", "--verify", "HEAD"]
        try:
            # A checkout around this folder, as of a package that includes a copy of it, is not ours.
            if not (Path(self.root) / ".git").exists():
                return
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        except (OSError, subprocess.SubprocessError):
            return
        self._folder = tempfile.TemporaryDirectory()  # which is there until the wheel is built
        file = Path(self._folder.name) / "commit.txt"
        file.write_text(done.stdout, encoding="ascii")
        build_data["force_include"][str(file)] = INSIDE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the file from where it was written."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
