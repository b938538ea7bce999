"""A fleet as docs/deploy.md has it: Debian's Prometheus scrapes two services over real sockets, and node_exporter a text file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels_shared.writer import SnapshotWriter
from nvml.simulation import SimulatedNvml, compiler
from processes import wait_until
from promql import panels_expressions, shipped_rules, with_any_choice
from snapshots import GIB, H100, a_device, a_gpu, a_model, a_process, a_snapshot, published

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
NEVER_STALLED_MS: Final = 600_000
"""The beat of writers that nobody beats in."""
COPIES: Final = "gpumodels_model_copies{"
"""The beginning of what the one panel asks that has nothing to show."""
ALERTS: Final = [rule["alert"] for rule in shipped_rules()]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no Debian")


def documented(title: str) -> list[str]:
    """The commands in the blocks of a section of the document."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def asked(url: str, **parameters: str) -> Any:
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
        return json.loads(answer.read())


@contextlib.contextmanager
def running(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()


def a_machine(folder: Path, *names: str, failures: int = 0) -> SnapshotWriter:
    """The snapshots of a machine with one process, which holds these models on GPU 0."""
    folder.mkdir()
    device = a_device("cuda:0", GIB, H100, allocated_bytes=2 * GIB, reserved_bytes=3 * GIB)
    device = replace(device, out_of_memory_count=failures)
    models = [a_model(name, GIB, device="cuda:0", off_bytes=GIB, files=[f"/m/{name}"]) for name in names]
    return published(folder, a_snapshot(*models, process=a_process(pid=os.getpid()), devices=[device]), None, NEVER_STALLED_MS)


class Fleet:
    """Two machines and the Prometheus that scrapes them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def found(self, expression: str) -> list[dict[str, Any]]:
        """The series that a query finds."""
        answer = asked(f"{self.url}/api/v1/query", query=expression)
        assert answer["status"] == "success"
        series: list[dict[str, Any]] = answer["data"]["result"]
        return series


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian: prometheus)")
    if compiler() is None:
        pytest.skip("no C compiler for the simulated driver")
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "nvml").mkdir()
    nvml = SimulatedNvml(folder / "nvml")
    nvml.says(a_gpu(processes={os.getpid(): 4 * GIB}))
    environment = {**nvml.environment(), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    deploy, check, start = documented("A fleet")[1:4]
    run(deploy, folder, environment)
    with contextlib.ExitStack() as stack:
        addresses = []
        for name in ("wan", "flux"):
            writer = a_machine(folder / name, name, f"{name}-vae")
            stack.callback(writer.close)
            command = [sys.executable, "-m", "gpumodels_tui", "metrics", "--dir", str(folder / name), "--listen", "127.0.0.1:0"]
            service = stack.enter_context(running(command, environment, folder))
            assert service.stderr is not None
            (address,) = re.findall(r"http://([\d.:]+)/metrics", service.stderr.readline())
            addresses.append(str(address))
        configuration = folder / "fleet" / "prometheus.yml"
        text = configuration.read_text().replace("- 127.0.0.1:9477", "- " + "\n          - ".join(addresses))
        configuration.write_text(text.replace("15s", "1s"))
        assert f"{len(ALERTS)} rules found" in run(check, folder, environment)
        port = free_port()
        own = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
        stack.enter_context(running([*shlex.split(start), *own], environment, folder))
        running_fleet = Fleet(f"http://127.0.0.1:{port}", folder)

        def is_scraped() -> bool:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                return len(running_fleet.found("count_over_time(gpumodels_models[1m]) > 3")) == 2
            return False

        wait_until(is_scraped)
        yield running_fleet


def run(line: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run a documented command."""
    done = subprocess.run(shlex.split(line), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_query_gets_the_models_of_all_machines(fleet: Fleet) -> None:
    found = fleet.found('gpumodels_model_device_bytes{device="0"}')
    assert {(one["metric"]["model"], one["value"][1]) for one in found} == {
        (name, str(GIB)) for name in ("wan", "wan-vae", "flux", "flux-vae")
    }
    assert len({one["metric"]["instance"] for one in found}) == 2


def test_the_documented_question_is_answered(fleet: Fleet) -> None:
    (question,) = [line for line in documented("A fleet") if line.startswith("promtool query")]
    answer = run(question.replace("http://localhost:9090", fleet.url), fleet.folder, os.environ)
    assert {"wan", "wan-vae", "flux", "flux-vae"} == set(re.findall(r'model="([^"]+)"', answer))


def test_the_alerts_are_loaded_evaluated_and_quiet(fleet: Fleet) -> None:
    def rules() -> list[dict[str, Any]]:
        (group,) = asked(f"{fleet.url}/api/v1/rules")["data"]["groups"]
        listed: list[dict[str, Any]] = group["rules"]
        return listed

    wait_until(lambda: all(rule["health"] == "ok" for rule in rules()))
    assert [rule["name"] for rule in rules()] == ALERTS
    assert [(rule["name"], rule["state"]) for rule in rules() if rule["state"] != "inactive"] == []


def test_every_panel_of_the_dashboard_has_something_to_show(fleet: Fleet) -> None:
    plain = list(map(with_any_choice, panels_expressions()))
    assert len(plain) > 15
    assert [expression for expression in plain if not fleet.found(expression)] == [
        expression for expression in plain if expression.startswith(COPIES)
    ]


def test_both_services_are_up_and_their_series_follow_the_state(fleet: Fleet) -> None:
    assert [one["value"][1] for one in fleet.found('up{job="gpumodels"}')] == ["1", "1"]
    late = a_machine(fleet.folder / "late", "late", failures=1)
    late.path.rename(fleet.folder / "wan" / late.path.name)
    wait_until(lambda: bool(fleet.found('gpumodels_model_device_bytes{model="late"}')))
    wait_until(lambda: bool(fleet.found('ALERTS{alertname="GpuOutOfMemory", alertstate="firing"}')))
    late.close()
    wait_until(lambda: not fleet.found('gpumodels_model_device_bytes{model="late"}'))


def test_node_exporter_serves_the_text_file(tmp_path: Path) -> None:
    if (exporter := shutil.which("prometheus-node-exporter")) is None:
        pytest.skip("node_exporter is not installed (Debian: prometheus-node-exporter)")
    writer = a_machine(tmp_path / "files", "wan")
    texts = tmp_path / "texts"
    texts.mkdir()
    command = [sys.executable, "-m", "gpumodels_tui", "metrics", "--dir", str(tmp_path / "files"), "--textfile"]
    run(shlex.join([*command, str(texts / "gpumodels.prom")]), tmp_path, os.environ)
    writer.close()
    port = free_port()
    options = ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={texts}"]
    with running([exporter, *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"], os.environ, tmp_path):

        def page() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                    text: str = answer.read().decode()
                    return text
            except (urllib.error.URLError, ConnectionError):  # not listening yet
                return ""

        wait_until(lambda: "node_textfile_scrape_error" in page())
        served = page()
    assert "node_textfile_scrape_error 0" in served
    assert re.search(r'^gpumodels_model_device_bytes\{.*model="wan".*\} 1.073741824e\+09$', served, re.MULTILINE)
