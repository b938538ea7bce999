from __future__ import annotations

import os
import runpy
from collections.abc import Mapping

import pytest

from gpumodels_shared.hub_cache import expanded, hub_cache

HOME = "/home/ada"
VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "DISK", "TILDE", "HOME", "MORE")

CASES: tuple[Mapping[str, str], ...] = (
    {},
    {"XDG_CACHE_HOME": "/c"},
    {"XDG_CACHE_HOME": "~/c"},
    {"XDG_CACHE_HOME": "$DISK/c", "DISK": "/d"},
    {"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"},
    {"HF_HOME": "~/b"},
    {"HF_HOME": "~"},
    {"HF_HOME": "$DISK/b", "DISK": "/d"},
    {"HF_HOME": "${DISK}b", "DISK": "/d/"},
    {"HF_HOME": "$HOME/b"},
    {"HF_HOME": "$NOWHERE/b"},
    {"HF_HOME": "$TILDE/b", "TILDE": "~/t"},
    {"HF_HOME": "$MORE", "MORE": "$DISK", "DISK": "/d"},
    {"HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/b"},
    {"HUGGINGFACE_HUB_CACHE": "~/old"},
    {"HUGGINGFACE_HUB_CACHE": "$DISK/old", "DISK": "/d"},
    {"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HOME": "/b"},
    {"HF_HUB_CACHE": "~/a"},
    {"HF_HUB_CACHE": "$HF_HOME/a", "HF_HOME": "/b"},
    {"HF_HUB_CACHE": "~root/a"},
    {"HF_HUB_CACHE": "~nobody-of-this-name/a"},
    {"HF_HUB_CACHE": "relative/a"},
    {"HF_HUB_CACHE": ""},
    {"HF_HOME": ""},
    {"XDG_CACHE_HOME": ""},
)


@pytest.mark.parametrize("environment", CASES, ids=str)
def test_the_hubs_cache_is_where_huggingface_hub_says(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    complete = {"HOME": HOME, **environment}
    for name, value in complete.items():
        monkeypatch.setenv(name, value)
    truth = runpy.run_path(constants.__file__)["HF_HUB_CACHE"]
    assert hub_cache(complete, HOME) == truth


@pytest.mark.parametrize("path", ["~", "~/", "~x", "$A", "${A}", "$A$B/$C", "${A", "$", "$$A", "${}", "$1A", "$Ä", "a~/b"])
def test_a_path_is_expanded_as_pythons_own_functions_do(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"A": "/a/$B", "B": "/b", "HOME": HOME, "1A": "/1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("C", raising=False)
    assert expanded(path, environment, HOME) == os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


def test_the_home_of_who_lives_in_the_root_directory() -> None:
    assert [expanded(path, {}, "/") for path in ("~", "~/m")] == ["/", "/m"]
