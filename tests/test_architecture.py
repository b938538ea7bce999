"""docs/architecture.md describes the tree that is there: every room, the layers of the contracts, every module that it names."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES: Final = {
    "gpumodels": ROOT / "sidecar" / "gpumodels",
    "gpumodels_tui": ROOT / "tui" / "gpumodels_tui",
    "gpumodels_shared": ROOT / "shared" / "gpumodels_shared",
}
SECTIONS: Final = {"gpumodels": "The rooms of the sidecar", "gpumodels_tui": "The rooms of the viewer"}
ADDITIONS: Final = ["a new loader", "a new kind", "a new column", "a new accelerator", "a new output"]


def section(title: str) -> str:
    return DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the section's table, without its head."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def described_layers(package: str) -> list[set[str]]:
    return [set(in_code(row[0])) for row in rows(section(SECTIONS[package]))]


def contracts() -> dict[str, list[set[str]]]:
    """The layers that import-linter holds, by package."""
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    settings = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        contract["containers"][0]: [set(layer.split(" | ")) for layer in contract["layers"]]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    }


@pytest.mark.parametrize("package", SECTIONS)
def test_the_layers_are_those_of_the_import_contracts(package: str) -> None:
    assert described_layers(package) == contracts()[package]


@pytest.mark.parametrize("package", SECTIONS)
def test_every_room_and_every_module_outside_the_rooms_is_described(package: str) -> None:
    there = {path.parent.name for path in PACKAGES[package].glob("*/*.py")}
    there |= {path.stem for path in PACKAGES[package].glob("*.py")} - {"__init__"}
    assert set().union(*described_layers(package)) == there
    assert all(words for _, words in rows(section(SECTIONS[package])))


def test_every_module_and_folder_that_is_named_exists() -> None:
    named = [path for path in in_code(DOCUMENT) if re.fullmatch(r"[\w./-]+(\.py|/)", path)]
    assert len(named) > 40
    places = (ROOT, *PACKAGES.values())
    assert [path for path in named if not any((place / path).exists() for place in places)] == []


def test_a_stranger_finds_one_room_and_one_or_two_modules_for_each_frequent_addition() -> None:
    found = rows(section("Where to add what"))
    assert [row[0] for row in found] == ADDITIONS
    for addition, room, modules in found:
        (folder,) = in_code(room)
        paths = in_code(modules)
        assert (ROOT / folder).is_dir(), addition
        assert 1 <= len(paths) <= 2, addition
        assert all((ROOT / path).is_file() for path in paths), addition
        assert paths[0].startswith(folder), addition


def test_every_name_of_the_code_that_the_additions_speak_of_stands_in_a_module_named_there() -> None:
    text = section("Where to add what")
    names = [name for name in in_code(text) if re.fullmatch(r"[A-Z][A-Za-z]+|[A-Z]{4,}|FileReaders\.awaited", name)]
    sources = [(ROOT / path).read_text(encoding="utf-8") for path in in_code(text) if (ROOT / path).is_file()]
    assert names
    words = {word for source in sources for word in re.findall(r"\w+", source)}
    assert [name for name in names if name.rpartition(".")[2] not in words] == []
