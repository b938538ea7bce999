"""A real ComfyUI with the sidecar in it, run from a checkout of yours: what `make test-comfyui` asks for its models."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from gpumodels_shared.decoding import decode
from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.schema import Model, Snapshot, Stage
from gpumodels_tui.sources.asking import ask_why

OWN: Final = Path(__file__).parent / "comfyui"
PACKAGES: Final = [str(Path(__file__).parents[1] / name) for name in ("sidecar", "shared", "tui")]
WAN_PACK: Final = "ComfyUI-WanVideoWrapper"
GGUF_PACK: Final = "ComfyUI-GGUF"
KJ_PACK: Final = "ComfyUI-KJNodes"
START_SECONDS: Final = 240
PROMPT_SECONDS: Final = 120

Nodes = dict[str, tuple[str, Mapping[str, Any]]]
"""A workflow: by name, each node's class and inputs. A tuple among the inputs is a link: a node's name and an output's number."""


class ComfyUI(NamedTuple):
    """A checkout of ComfyUI and the Python that runs it."""

    directory: Path
    python: str

    def has_pack(self, name: str) -> bool:
        """Whether this node pack is in its `custom_nodes`."""
        return (self.directory / "custom_nodes" / name).is_dir()


def the_comfyui() -> ComfyUI | None:
    """Where `make test-comfyui COMFYUI=DIR` says it is; None if it says nothing."""
    stated = os.environ.get("COMFYUI")
    if not stated:
        return None
    directory = Path(stated).resolve()
    own = [directory / venv / "bin" / "python" for venv in ("venv", ".venv")]
    python = os.environ.get("COMFYUI_PYTHON") or next((str(path) for path in own if path.exists()), sys.executable)
    return ComfyUI(directory, python)


def needs(*packs: str) -> pytest.MarkDecorator:
    """Skip where there is no ComfyUI, or where it has not all of these node packs."""
    comfyui = the_comfyui()
    if comfyui is None:
        return pytest.mark.skip(reason="needs a checkout of ComfyUI: make test-comfyui COMFYUI=DIR")
    missing = [name for name in packs if not comfyui.has_pack(name)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} in ComfyUI's custom_nodes")


def make_models(comfyui: ComfyUI, directory: Path) -> None:
    """Make small models of real architectures in this folder of models."""
    command = [comfyui.python, str(OWN / "make_models.py"), str(comfyui.directory), str(directory)]
    subprocess.run(command, check=True, timeout=600)


class ShownRow(NamedTuple):
    """A row that a test found true, for the table at the end of `make test-comfyui`."""

    loader: str
    model: Model | None
    """None where the truth is that there is no row."""
    truth_bytes: int | None
    """What the module holds, as counted inside ComfyUI; None where only the row itself tells."""
    seconds_until_bytes: float
    """From the end of the workflow until the bytes were true."""
    seconds: float
    """Until all of it was: names come later than bytes where earlier models have used the budget up."""


TABLE: Final[list[ShownRow]] = []
PAIRS: Final[dict[str, list[tuple[float, float]]]] = {}
"""By what was run, the seconds of each pair of workflows: without the sidecar, and beside it."""


def ratios() -> Iterator[str]:
    """The pairs in a line for each kind."""
    for what, pairs in PAIRS.items():
        ordered = sorted(beside / without for without, beside in pairs)
        without, beside = (statistics.median(pair[column] for pair in pairs) for column in (0, 1))
        yield (
            f"{what}: {without:.3f} s without the sidecar, {beside:.3f} s beside it (medians of {len(pairs)} pairs); "
            f"ratio {statistics.median(ordered):.3f}, from {ordered[0]:.3f} to {ordered[-1]:.3f}"
        )


def table(comfyui: ComfyUI) -> list[str]:
    """The rows that were found true, in lines of text."""
    found = [("loader", "row", "bytes", "truth", "confidence", "seconds until bytes", "until all true")]
    for row in TABLE:
        model = row.model
        shown = f"{'  ' if model.parent is not None else ''}{model.name} ({model.kind})" if model is not None else "no row"
        shared = f" + {model.shared_bytes} shared" if model is not None and model.shared_bytes else ""
        held = f"{model.resident_bytes}{shared}" if model is not None else "0"
        truth = str(row.truth_bytes) if row.truth_bytes is not None else "-"
        confidence = f"{model.confidence:g}" if model is not None else "-"
        found.append((row.loader, shown, held, truth, confidence, f"{row.seconds_until_bytes:.1f}", f"{row.seconds:.1f}"))
    widths = [max(len(line[column]) for line in found) for column in range(len(found[0]))]
    return [
        ", ".join(versions(comfyui)),
        *("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in found),
    ]


def versions(comfyui: ComfyUI) -> Iterator[str]:
    """Of ComfyUI and the packs in it, as their `pyproject.toml` say."""
    folders = {"ComfyUI": comfyui.directory} | {
        name: comfyui.directory / "custom_nodes" / name for name in (WAN_PACK, GGUF_PACK, KJ_PACK) if comfyui.has_pack(name)
    }
    for name, folder in folders.items():
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        stated = re.search(r"^version\s*=\s*[\"']([^\"']+)", text, re.MULTILINE)
        yield f"{name} {stated[1] if stated is not None else '(no version)'}"


class ComfyServer:
    """A running server. `prompt` runs a workflow, `models` is what the sidecar's file says."""

    def __init__(self, pid: int, port: int, snapshots: Path, log: Path) -> None:
        self.pid = pid
        self._port = port
        self._snapshots = snapshots
        self._log = log
        self.truth: Mapping[str, int] = {}
        """By label, the bytes that the models of the last workflow hold."""
        self.found: Mapping[str, Any] = {}
        """What other nodes of ours found in the process, by name."""
        self._asked_at = 0.0
        self.outputs: Mapping[str, Any] = {}
        """Of the last workflow's nodes, by name."""
        self.prompt_seconds = 0.0
        """How long the last workflow ran, by the server's own clock."""
        self._bytes: list[int] = []
        self.seconds_until_bytes = 0.0
        """From the end of the last workflow, or `free()`, until the models had the bytes that they have now."""
        self.seconds_until_true = 0.0
        """From then to the end of the last `models_when`."""

    def prompt(self, nodes: Nodes) -> None:
        """Run a workflow to its end.

        Raises:
            AssertionError: a node failed.
        """
        graph = {
            name: {
                "class_type": kind,
                "inputs": {key: list(value) if isinstance(value, tuple) else value for key, value in inputs.items()},
            }
            for name, (kind, inputs) in nodes.items()
        }
        number = self._ask("prompt", {"prompt": graph})["prompt_id"]
        until = time.monotonic() + PROMPT_SECONDS
        while time.monotonic() < until:
            history = self._ask(f"history/{number}")
            if number in history:
                status = history[number]["status"]
                self._asked_at = time.monotonic()
                assert status["status_str"] == "success", status["messages"][-1]
                self.outputs = history[number]["outputs"]
                self.truth = self.found = _truth_in(self.outputs)
                times = {event: told["timestamp"] for event, told in status["messages"]}
                self.prompt_seconds = (times["execution_success"] - times["execution_start"]) / 1000
                return
            time.sleep(0.02)
        raise AssertionError("the prompt did not end")

    def free(self) -> None:
        """Unload all models and empty the cache of outputs, as the buttons do."""
        self._ask("free", {"unload_models": True, "free_memory": True}, is_json=False)
        self._asked_at = time.monotonic()

    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def processor_seconds(self) -> float:
        """What it has used of the processors so far, by Linux's clock ticks."""
        fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def has_sidecar(self) -> bool:
        """Whether there is a sidecar's file."""
        return any(name.startswith(f"{self.pid}-") for name in snapshot_files(self._snapshots))

    def snapshot(self) -> Snapshot:
        """What the sidecar's file says now."""
        (name,) = [name for name in snapshot_files(self._snapshots) if name.startswith(f"{self.pid}-")]
        with contextlib.closing(SnapshotReader(self._snapshots / name, os.geteuid())) as reader:
            payload = reader.latest()
            assert payload is not None
            return decode(payload.data)

    def held_by(self, model: Model) -> list[str]:
        """Who holds the model, in the sidecar's words."""
        (name,) = [name for name in snapshot_files(self._snapshots) if name.startswith(f"{self.pid}-")]
        return [chain.text for chain in ask_why(self._snapshots / name, model.id).chains]

    def models(self) -> tuple[Model, ...]:
        """The models that the file lists now."""
        return self.snapshot().models

    def models_when(self, condition: Callable[[tuple[Model, ...]], bool], seconds: float = 30.0) -> tuple[Model, ...]:
        """The models once the condition holds and none waits for its name; as they are after so many seconds otherwise."""
        until = time.monotonic() + seconds
        while True:
            models = self.models()
            self.seconds_until_true = time.monotonic() - self._asked_at
            sizes = sorted(model.resident_bytes + model.shared_bytes for model in models)
            if sizes != self._bytes:
                self._bytes, self.seconds_until_bytes = sizes, self.seconds_until_true
            if all(model.name_source != NameSource.PENDING for model in models) and condition(models):
                return models
            if time.monotonic() > until:
                return models
            time.sleep(0.05)

    def stages_when(self, condition: Callable[[tuple[Stage, ...]], bool], seconds: float = 10.0) -> tuple[Stage, ...]:
        """The stages once the condition holds; as they are after so many seconds otherwise."""
        until = time.monotonic() + seconds
        while not condition(stages := self.snapshot().stages) and time.monotonic() < until:
            time.sleep(0.05)
        return stages

    def _ask(self, path: str, body: Any = None, is_json: bool = True) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        return json.loads(text) if is_json else None


def _truth_in(outputs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for output in outputs.values():
        for text in output.get("text", ()):
            with contextlib.suppress(ValueError):
                found |= json.loads(text)
    return found


@contextlib.contextmanager
def a_comfy_server(
    comfyui: ComfyUI,
    directory: Path,
    models: Path,
    arguments: tuple[str, ...] = (),
    *,
    on_cpu: bool = True,
    runs_sidecar: bool = True,
    packages: Sequence[str] = PACKAGES,
    packs: Sequence[str] = (WAN_PACK, GGUF_PACK, KJ_PACK),
    interval_seconds: float = 0.25,
) -> Iterator[ComfyServer]:
    """ComfyUI, on the CPU unless told otherwise. Writes nothing into its checkout.

    Args:
        comfyui: the checkout.
        directory: for everything that it writes. What is in its `base/custom_nodes` already is loaded.
        models: the folder of models.
        arguments: more of its arguments.
        on_cpu: whether it leaves a GPU alone.
        runs_sidecar: whether it is started by `gpumodels run`.
        packages: where its Python finds gpumodels.
        packs: those of its checkout's custom nodes that are loaded.
        interval_seconds: between the sidecar's scans.
    """
    snapshots = directory / "gpm"
    snapshots.mkdir(mode=0o700, parents=True)
    base = directory / "base"
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    (base / "models").symlink_to(models)
    for name in packs:
        if comfyui.has_pack(name):
            (base / "custom_nodes" / name).symlink_to(comfyui.directory / "custom_nodes" / name)
    probe = base / "custom_nodes" / "gpumodels_probe"
    probe.mkdir()
    shutil.copy(OWN / "probe_nodes.py", probe / "__init__.py")
    web = directory / "web"
    web.mkdir()
    (web / "index.html").touch()
    with socket.socket() as probed:
        probed.bind(("127.0.0.1", 0))
        port = probed.getsockname()[1]
    command = [comfyui.python, *(("-m", "gpumodels", "run") if runs_sidecar else ()), "main.py", "--port", str(port)]
    command += ["--cpu"] if on_cpu else []
    command += ["--base-directory", str(base), "--database-url", f"sqlite:///{directory}/comfyui.db", "--disable-api-nodes"]
    command += ["--front-end-root", str(web), "--cache-classic", *arguments]  # another cache drops models where memory is short
    environment = os.environ | {
        "GPUMODELS_DIR": str(snapshots), "GPUMODELS_INTERVAL": str(interval_seconds), "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(packages), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    log = directory / "comfyui.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=comfyui.directory, env=environment, stdout=output, stderr=subprocess.STDOUT) as child,
    ):
        try:
            _wait_for(child, port, log)
            yield ComfyServer(child.pid, port, snapshots, log)
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()


def _wait_for(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and child.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/system_stats", timeout=5):
            return
        time.sleep(0.1)
    raise AssertionError(f"ComfyUI did not start:\n{log.read_text(errors='replace')[-4000:]}")
