"""The play: what is done in which order, when it says that it is ready, and how it ends."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpumodels.demo import play, run_demo

Handler = Callable[[int, None], None]


class RecordingLoader:
    """Does nothing, refuses what can't be done, and ends the play as SIGTERM would after so many acts."""

    def __init__(self, roles: Mapping[str, object], *_: object) -> None:
        self.loaded: set[str] = set()
        self.offloaded: set[str] = set()
        self.acts: list[str] = []
        self.acts_left = 0
        self.end: Callable[[], None] = lambda: None
        self.roles = roles

    def write_files(self) -> None:
        self.acts.append("write")

    def load(self, role: str) -> None:
        assert role in self.roles
        assert role not in self.loaded, "loaded twice"
        self.loaded.add(role)
        self._done(f"load {role}")

    def unload(self, role: str) -> None:
        assert role not in self.offloaded, "half of it is offloaded"
        self.loaded.remove(role)
        self._done(f"unload {role}")

    def offload_half(self, role: str) -> None:
        assert role in self.loaded
        assert role not in self.offloaded, "offloaded twice"
        self.offloaded.add(role)
        self._done(f"offload {role}")

    def bring_back(self, role: str) -> None:
        self.offloaded.remove(role)
        self._done(f"bring back {role}")

    def _done(self, act: str) -> None:
        self.acts.append(act)
        if len(self.acts) == self.acts_left:
            self.end()


class Theatre:
    """The demo with such a loader, a sidecar that publishes nothing, and signals that reach only the demo."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.handlers: dict[int, Handler] = {}
        self.started: list[str] = []
        self.acts = 0
        self.loaders: list[RecordingLoader] = []
        self.publishes = True
        monkeypatch.setattr(play, "ACTION_SECONDS", 0.0)
        monkeypatch.setattr("gpumodels.demo.play.signal.signal", self.handlers.__setitem__)
        monkeypatch.setattr("gpumodels.demo.play.sidecar.start", lambda **options: self.started.append(options["label"]))
        monkeypatch.setattr("gpumodels.demo.play.sidecar.start_with", lambda _, **options: self.started.append(options["label"]))
        monkeypatch.setattr("gpumodels.demo.play.sidecar.published_names", self.published_names)
        monkeypatch.setattr("gpumodels.demo.model_loader.FileLoader", self.model_loader)
        monkeypatch.setattr("gpumodels.demo.model_loader.SimulatedLoader", self.model_loader)
        for name in ("GPUMODELS_DEMO_DIRECTORY", "GPUMODELS_DEMO_HOLD"):
            monkeypatch.delenv(name, raising=False)

    def model_loader(self, *arguments: Any) -> RecordingLoader:
        model_loader = RecordingLoader(*arguments)
        model_loader.acts_left, model_loader.end = self.acts, self.terminate
        self.loaders.append(model_loader)
        return model_loader

    def published_names(self) -> set[str]:
        (model_loader,) = self.loaders
        return {model_loader.roles[role].name for role in model_loader.loaded} if self.publishes else set()  # type: ignore[attr-defined]

    def terminate(self) -> None:
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)


@pytest.fixture
def theatre(monkeypatch: pytest.MonkeyPatch) -> Theatre:
    return Theatre(monkeypatch)


@pytest.mark.parametrize("simulated_gpus", [0, 2])
def test_it_plays_round_after_round_and_each_act_can_follow_the_one_before(theatre: Theatre, simulated_gpus: int) -> None:
    theatre.acts = 60
    assert run_demo(simulated_gpus) == 0
    (model_loader,) = theatre.loaders
    assert len(model_loader.acts) >= 60
    assert {act.partition(" ")[0] for act in model_loader.acts} >= {"load", "unload", "offload", "bring"}
    assert {role for role in model_loader.roles if f"load {role}" in model_loader.acts} == set(model_loader.roles)
    assert any(model_loader.acts.count(act) > 2 for act in model_loader.acts), "no second round"


def test_real_experts_take_turns_and_simulated_ones_are_there_together(theatre: Theatre) -> None:
    theatre.acts = 40
    for simulated_gpus in (0, 2):
        theatre.loaders.clear()
        run_demo(simulated_gpus)
        (model_loader,) = theatre.loaders
        assert ("unload high" in model_loader.acts) == (simulated_gpus == 0)
        swapped = ["unload high", "load low"]
        assert (swapped in [model_loader.acts[at : at + 2] for at in range(len(model_loader.acts))]) == (simulated_gpus == 0)
    assert theatre.started == ["gpumodels demo", "gpumodels demo (simulated)"]


def test_it_says_that_it_is_ready_when_viewers_can_see_its_models(theatre: Theatre, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(seconds=0.0) == 0
    assert capsys.readouterr().out == "ready\n"
    assert theatre.loaders[0].acts == ["write", *(f"load {role}" for role in ("high", "vace", "vae", "text", "lora"))]


def test_models_that_nobody_can_see_are_an_error_in_one_line(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theatre.publishes = False
    monkeypatch.setattr(play, "READY_SECONDS", 0.0)
    assert run_demo() == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert "could not be published" in printed.err


def test_told_to_end_before_it_is_ready_it_ends_without_a_word(theatre: Theatre, capsys: pytest.CaptureFixture[str]) -> None:
    theatre.publishes = False
    theatre.acts = 3
    assert run_demo() == 0
    assert capsys.readouterr() == ("", "")


def test_it_holds_still_where_only_its_table_is_asked_for(theatre: Theatre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DEMO_HOLD", "1")
    monkeypatch.setattr(play, "ACTION_SECONDS", 0.001)
    run_demo(seconds=0.01)
    assert all(act == "write" or act.startswith("load") for act in theatre.loaders[0].acts)


def test_files_are_written_where_the_environment_says_or_are_gone_afterwards(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directories: list[Path] = []

    def model_loader(specs: Mapping[str, object], directory: Path) -> RecordingLoader:
        assert directory.is_dir()
        directories.append(directory)
        theatre.loaders.clear()
        return theatre.model_loader(specs)

    monkeypatch.setattr("gpumodels.demo.model_loader.FileLoader", model_loader)
    run_demo(seconds=0.0)
    monkeypatch.setenv("GPUMODELS_DEMO_DIRECTORY", str(tmp_path))
    run_demo(seconds=0.0)
    assert not directories[0].exists()
    assert directories[1] == tmp_path
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("view", "line"),
    [
        (False, "gpumodels: the demo needs torch and safetensors; run: pip install 'gpumodels[demo]'\n"),
        (
            True,
            "gpumodels: the demo needs torch and safetensors and gpumodels_tui and textual; "
            "run: pip install 'gpumodels[demo,tui]'\n",
        ),
    ],
)
def test_without_what_it_needs_it_says_what_to_install(
    view: bool, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run_demo(view=view) == 1
    assert capsys.readouterr() == ("", line)
