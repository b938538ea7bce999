"""What the documents tell people to run, open and read is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TARGETS = frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    named = re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE)
    assert set(named) <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_exists(document: Path) -> None:
    linked = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in linked if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_named_path_of_this_tree_exists(document: Path) -> None:
    named = re.findall(r"`((?:sidecar|tui|shared|tests|docs|findings|\.ci)/[\w./-]+)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_runs_before_a_commit_is_make_check() -> None:
    assert re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text()) == ["make check"]


def test_the_pythons_of_the_workflow_are_those_that_the_package_names_and_newer_ones() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (matrix,) = re.findall(r"python: \[(.+)\]", workflow)
    tried = set(re.findall(r"\d\.\d+", matrix))
    named = set(re.findall(r"Programming Language :: Python :: (\d\.\d+)", (ROOT / "pyproject.toml").read_text()))
    assert named
    assert named <= tried
