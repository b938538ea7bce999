"""Processes without a sidecar in the real viewer: real processes with real files, which a simulated NVML names on a GPU."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpumodels_shared.identity import pid_namespace
from gpumodels_shared.pid_namespaces import FIRST_NAMESPACE
from loopback_servers import serving
from model_files import write_model
from model_readers import a_gguf_file, reading
from nvml.simulation import SimulatedNvml, compiler
from snapshots import A100, GIB, a_gpu
from terminals import Terminal

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="no C compiler"),
    pytest.mark.skipif(pid_namespace() != FIRST_NAMESPACE, reason="in a container the driver's pids name nobody"),
]

BIG = int(6.1 * GIB)
SERVER = """
import http.server, json, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"model_path": "/m/Served-9B-Q4_K_M.gguf"} if self.path == "/props" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> SimulatedNvml:
    return SimulatedNvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where no sidecar's file is."""
    chosen = tmp_path / "sidecars"
    chosen.mkdir(mode=0o700)
    return chosen


@pytest.fixture
def server() -> Iterator[int]:
    """The pid of a llama-server that tells what it has loaded, and has no file mapped."""
    process = subprocess.Popen(["llama-server", "-c", SERVER], executable=sys.executable, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def viewer(nvml: SimulatedNvml, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpumodels_tui", "--dir", str(directory), *arguments]
    return subprocess.run(command, env=nvml.environment(), capture_output=True, text=True, timeout=60, check=False)


def unattached(nvml: SimulatedNvml, directory: Path, *arguments: str) -> Any:
    return json.loads(viewer(nvml, directory, "--json", *arguments).stdout)["unattached"]


def test_the_table_says_which_model_a_process_without_a_sidecar_has_mapped(
    tmp_path: Path, nvml: SimulatedNvml, directory: Path
) -> None:
    path = a_gguf_file(tmp_path / "Qwen3-8B-Q4_K_M.gguf")
    with reading("mapped", path, name="llama-server") as pid, reading("open") as other:
        nvml.says(a_gpu(processes={pid: BIG, other: GIB}))
        done = viewer(nvml, directory, "--once")
    lines = done.stdout.splitlines()
    expected = f"llama-server {pid}, not attached: Qwen3-8B-Q4_K_M.gguf \\(mapped\\) +6.1 GB +\\d+s  \\w+ {pid}"
    assert any(re.fullmatch(expected, line) for line in lines), done.stdout
    assert any(f" {other}, not attached  " in line or line.endswith(f" {other}, not attached") for line in lines), done.stdout
    assert done.returncode == 0
    assert "note: no running sidecar's file" in done.stderr


def test_the_document_has_the_process_once_with_what_is_known_and_no_arguments(
    tmp_path: Path, nvml: SimulatedNvml, directory: Path
) -> None:
    path = write_model(tmp_path / "flux1-dev.safetensors")
    with reading("open", path, arguments=["--model", "org/name", "--api-key", "secret"]) as pid:
        nvml.says(a_gpu(processes={pid: BIG}), a_gpu(1, A100, processes={pid: None}))
        (found,) = unattached(nvml, directory)
        assert unattached(nvml, directory, "--process", "1") == []
        assert unattached(nvml, directory, "--kind", "lora") == []
    assert [(one["known_by"], one["name"], one["files"]) for one in found["models"]] == [
        ("open", "flux1-dev", [str(path)]),
        ("argument", "org/name", []),
    ]
    assert found["devices"] == [{"uuid": a_gpu().uuid, "used_bytes": BIG}, {"uuid": A100, "used_bytes": None}]
    assert "secret" not in json.dumps(found)


def test_a_deleted_file_and_a_process_that_has_ended(tmp_path: Path, nvml: SimulatedNvml, directory: Path) -> None:
    path = write_model(tmp_path / "gone.safetensors")
    with reading("mapped", path) as pid:
        path.unlink()
        nvml.says(a_gpu(processes={pid: GIB}))
        assert "gone.safetensors (mapped, deleted since)" in viewer(nvml, directory, "--once").stdout
    (found,) = unattached(nvml, directory)
    assert (found["pid"], found["models"], found["unread"], found["user"]) == (pid, [], None, None)


def test_servers_are_asked_only_with_the_option(nvml: SimulatedNvml, directory: Path, server: int) -> None:
    nvml.says(a_gpu(processes={server: GIB}))
    (silent,) = unattached(nvml, directory)
    assert silent["models"] == []
    (told,) = unattached(nvml, directory, "--ask-servers")
    assert [(one["known_by"], one["name"]) for one in told["models"]] == [("server", "Served-9B")]
    assert told["models"][0]["said_by"].startswith("llama.cpp at 127.0.0.1:")


def test_ollama_on_another_machine_is_not_asked(nvml: SimulatedNvml, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/api/ps": '{"models": [{"name": "llama3.2:3b"}]}'}) as (port, asked), reading("open", name="ollama") as pid:
        nvml.says(a_gpu(processes={pid: GIB}))
        monkeypatch.setenv("OLLAMA_HOST", f"ollama.example:{port}")
        (found,) = unattached(nvml, directory, "--ask-servers")
        assert (found["models"], asked) == ([], [])
        assert "another machine" in found["not_said"]
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{port}")
        (found,) = unattached(nvml, directory, "--ask-servers")
        assert [one["name"] for one in found["models"]] == ["llama3.2:3b"]


def test_doctor_says_what_is_seen(tmp_path: Path, nvml: SimulatedNvml, directory: Path) -> None:
    with reading("mapped", a_gguf_file(tmp_path / "m-Q8_0.gguf"), name="llama-server") as pid:
        nvml.says(a_gpu(processes={pid: GIB}))
        assert f"{pid}, as seen from outside: m-Q8_0.gguf (mapped)" in viewer(nvml, directory, "doctor").stdout


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_screens_show_the_model_and_how_it_is_known(
    tmp_path: Path, nvml: SimulatedNvml, directory: Path, size: tuple[int, int]
) -> None:
    path = a_gguf_file(tmp_path / "Qwen3-8B-Q4_K_M.gguf", "Qwen3 8B Instruct")
    ours = {name: value for name, value in nvml.environment().items() if name in ("LD_LIBRARY_PATH", "SIMULATED_NVML")}
    command = ["env", *(f"{name}={value}" for name, value in ours.items()), sys.executable, "-m", "gpumodels_tui"]
    with reading("mapped", path, name="llama-server") as pid:
        nvml.says(a_gpu(processes={pid: BIG}))
        with Terminal(tmp_path, [*command, "--dir", str(directory)], *size) as terminal:
            terminal.wait_for("Qwen3-8B-Q4_K_M.gguf" + (" (mapped)" if size[0] > 80 else ""))
            terminal.wait_for("unattached", str(pid), "6.1 GB")
            terminal.press("i")
            terminal.wait_for("Facts", "llama-server -c", f"{path.name} (mapped), a file of")
            terminal.press("Escape")
            terminal.wait_until(lambda screen: "Facts" not in screen, "the box stays")
            terminal.press("p")
            terminal.wait_for("not attached: start one", "Above stands what is known from outside", f"{path.name} (mapped)")
