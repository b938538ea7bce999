"""What holds for all tests: none reads or writes the files of whoever runs them."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parent
PROCESS_FOLDERS: Final = tuple(TESTS / name for name in ("faults", "host_unchanged", "integration"))
"""All tests in these take child processes, terminals or real loads, so that they are slow without saying so."""
OWN_TARGETS: Final = {
    TESTS / "libraries": "libraries",
    TESTS / "comfyui": "comfyui",
    TESTS / "accelerator_matrix": "accelerator",
}
"""Folders by the mark of all tests in them: they need what only `make test-libraries` installs, a checkout of ComfyUI, or half an
hour. Other runs leave them out."""

FEW: Final = 20_000
"""A garbage collection looks through so many objects in a few milliseconds."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while torch's million objects are imported: there is none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't even import the folders whose tests are left out; None leaves the decision to pytest."""
    expression = config.option.markexpr
    is_left_out = expression == "not slow" and collection_path in PROCESS_FOLDERS
    mark = OWN_TARGETS.get(collection_path)
    return True if is_left_out or (mark is not None and mark != expression) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of these folders, before any are left out by their marks."""
    for item in items:
        if any(folder in item.path.parents for folder in PROCESS_FOLDERS):
            item.add_marker(pytest.mark.slow)
        for folder, mark in OWN_TARGETS.items():
            if folder in item.path.parents:
                item.add_marker(mark)


@pytest.fixture(scope="module", autouse=True)
def _frozen_imports() -> None:
    """Exclude torch's million objects from garbage collections, which would otherwise take a quarter of a second each.

    Again after tests that imported another library, and after those that unfroze what was frozen.
    """
    if len(gc.get_objects(generation=2)) > FEW:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nobodys_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches, configuration and downloaded models of the user's are out of sight, for child processes too."""
    place = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HF_HOME"):
            patch.setenv(name, str(place / name.lower()))
        patch.setenv("GPUMODELS_SYSFS", str(place / "no-kernel"))  # GPUs of the machine's other than NVIDIA's
        # readline, which pytest imports, sets the last two; terminals of the tests have sizes of their own.
        for name in ("HF_HUB_CACHE", "GPUMODELS_MODELS", "COLUMNS", "LINES"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _environment_as_it_was(_nobodys_files: None) -> Iterator[None]:
    """What a library sets in the environment stays in its test: PEFT 0.21.2's BOFT leaves `CXX=gcc`, and inductor can't link."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})
