"""The command `why`, on real processes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels_tui import cli
from hosts import Host, a_host
from processes import wait_until

pytestmark = pytest.mark.slow

MODELS = """
import gpumodels, torch, threading
from torch import nn
class Unet(nn.Sequential): pass
class Pipe:
    def __init__(self): self.unet = Unet(nn.Linear(256, 256), nn.Linear(256, 256))
pipe = Pipe()
class Held(nn.Sequential): pass
def generate(go, over):
    local = Held(nn.Linear(300, 300), nn.Linear(300, 300))
    go.set()
    over.wait()
    local.train()
go, over = threading.Event(), threading.Event()
worker = threading.Thread(target=generate, args=(go, over), name="worker-3", daemon=True)
worker.start()
go.wait()
class Cyclic(nn.Sequential):
    def keep(self):
        self.own = self.forward
        return self
import gc
gc.disable()
Cyclic(nn.Linear(310, 310), nn.Linear(310, 310)).keep()
gpumodels.start()
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.mktemp("why") / "own"
    own.mkdir(mode=0o700)
    return own


@pytest.fixture(scope="module")
def host(directory: Path) -> Iterator[Host]:
    with a_host(directory) as one:
        one.tell(MODELS)
        one.models_when(lambda models: {"Unet", "Held"} <= {model.class_name for model in models})
        yield one


@pytest.fixture(autouse=True)
def _of_this_directory(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_global_variable_holds_it(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["why", "Unet"]) == 0
    said = capsys.readouterr()
    assert re.search(r"is held by:\n\n  .*\['pipe'\]\.unet\n|is held by:\n\n  global pipe in .* → \.unet\n", said.out), said.out
    assert "the interpreter was held for" in said.out
    assert "searching; this holds the process's interpreter for about" in said.err


def test_a_running_function_holds_it(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["why", "Held", "--json", "--pid", str(host.pid)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert any(
        chain.startswith("local variable local of generate() ") and chain.endswith("running in thread worker-3")
        for chain in document["chains"]
    ), document


def test_a_cycle_is_all_that_holds_it(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(model.name for model in host.snapshot().models if "Cyclic" in (model.class_name, model.leftover_of or model.name))
    assert cli.main(["why", name]) == 0
    assert "only a reference cycle: Python's garbage collector will free it" in capsys.readouterr().out


def test_asking_keeps_nothing_and_frees_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.tell("import weakref; class_ = Held; gone = weakref.ref(pipe.unet)")
    assert cli.main(["why", "Unet"]) == 0
    assert host.tell("gone() is pipe.unet") is True
    host.tell("del pipe.unet")
    assert host.tell("gone() is None") is True
    host.tell("pipe.unet = Unet(nn.Linear(256, 256), nn.Linear(256, 256))")
    wait_until(lambda: any(model.name == "Unet" for model in host.snapshot().models))


def test_the_line_is_told_where_a_global_variable_is_assigned(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "an_app.py"
    source.write_text("from torch import nn\nclass Kept(nn.Sequential): pass\nkept = None\nkept = Kept(nn.Linear(320, 320))\n")
    os.utime(source, (1e9, 1e9))
    host.tell(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import an_app")
    host.models_when(lambda models: "Kept" in {model.class_name for model in models})
    assert cli.main(["why", "Kept"]) == 0
    assert "  global kept in an_app (an_app.py:4)\n" in capsys.readouterr().out
    os.utime(source)  # it may have been edited since
    assert cli.main(["why", "Kept"]) == 0
    assert "  global kept in an_app (an_app.py)\n" in capsys.readouterr().out


def test_no_or_several_such_models(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["why", "no such model"]) == 2
    assert "no model is called no such model" in capsys.readouterr().err
    assert cli.main(["why", "Unet", "--pid", "one"]) == 2
    assert "--pid one: not the number of a process" in capsys.readouterr().err
    assert cli.main(["why", "e"]) == 2
    assert "more than one model is called e" in capsys.readouterr().err
    assert [name for name in os.listdir(os.environ["GPUMODELS_DIR"]) if "ask" in name or "answer" in name] == []
