"""The version of this program, and what it was built from and runs with."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from typing import Final

from gpumodels_shared.layout import MAJOR, MINOR

NOT_INSTALLED: Final = "(not installed)"

PACKAGE: Final = Path(__file__).parents[1]

SHORT: Final = 12
"""Characters of a commit's id."""


def version() -> str:
    """As it was installed."""
    return _of("gpumodels")


def described() -> str:
    """`0.1.0 (commit 0a1b2c3d4e5f)`, and the versions of what it runs with in a line of their own."""
    built_from = commit()
    return (
        f"{version()}{f' (commit {built_from})' if built_from else ''}\n"
        f"Python {platform.python_version()}, Textual {_of('textual')}, file format {MAJOR}.{MINOR}"
    )


def commit(package: Path = PACKAGE, checkout: Path | None = None) -> str | None:
    """The commit that it was built or installed from, or that is checked out where it runs; None if that isn't known.

    Args:
        package: The folder of this package, into which a build puts the commit.
        checkout: The folder that may be a git checkout; None for the one around this package.
    """
    import importlib.metadata

    try:
        stated = importlib.metadata.distribution("gpumodels").read_text("direct_url.json")
        found = json.loads(stated or "{}").get("vcs_info", {}).get("commit_id")
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        found = None
    return _short(found) or _built_from(package) or _checked_out(checkout or package.parents[1])


def _built_from(package: Path) -> str | None:
    try:
        return _short((package / "commit.txt").read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None


def _checked_out(root: Path) -> str | None:
    """Git's own files are read, as git itself may not be there."""
    try:
        git = root / ".git"
        if git.is_file():  # a worktree
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return _short(head)
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        name = head.removeprefix("ref: ")
        if (common / name).exists():
            return _short((common / name).read_text().strip())
        packed = (common / "packed-refs").read_text()
        return _short(next(line.split()[0] for line in packed.splitlines() if line.endswith(f" {name}")))
    except (OSError, ValueError, StopIteration):
        return None


def _short(commit: object) -> str | None:
    return commit[:SHORT] if isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40,64}", commit) else None


def _of(distribution: str) -> str:
    import importlib.metadata  # slow to import

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED
