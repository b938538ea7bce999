"""The tests are found where their module is: every module has its `test_<module>`, in the room of the same name."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = {
    "sidecar": ROOT / "sidecar" / "gpumodels",
    "tui": ROOT / "tui" / "gpumodels_tui",
    "shared": ROOT / "shared" / "gpumodels_shared",
}


def does_something(module: Path) -> bool:
    """Whether there is a function in it that says more than its docstring."""
    functions = [node for node in ast.walk(_parsed(module)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return any(not isinstance(statement, ast.Expr) for function in functions for statement in function.body)


def modules(package: str) -> list[Path]:
    """Those that a test can be about: types and constants are tested where they are used."""
    return sorted(path for path in PACKAGES[package].rglob("*.py") if path.stem != "__init__" and does_something(path))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_test(package: str) -> None:
    def test_of(module: Path) -> Path:
        place = module.relative_to(PACKAGES[package])
        return ROOT / "tests" / package / place.with_name(f"test_{place.stem.strip('_')}.py")

    missing = [str(test_of(module).relative_to(ROOT)) for module in modules(package) if not test_of(module).exists()]
    assert missing == []


@cache
def _parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


@cache
def _names(module: Path) -> frozenset[object]:
    """All attributes' names and all constants in it."""
    nodes = list(ast.walk(_parsed(module)))
    attributes = (node.attr for node in nodes if isinstance(node, ast.Attribute))
    return frozenset({*attributes, *(node.value for node in nodes if isinstance(node, ast.Constant))})


@pytest.mark.parametrize("name", ["_cdata", "_C", "_dynamo", "_parameters", "_buffers", "_modules", "_weak_ref"])
def test_private_names_of_torch_stand_in_one_module(name: str) -> None:
    """As an attribute, or as a text of its own: what changes with torch's versions is found in one place."""
    users = {
        str(module.relative_to(PACKAGES["sidecar"])) for module in PACKAGES["sidecar"].rglob("*.py") if name in _names(module)
    }
    assert users - {"support/torch_private.py"} == set()
