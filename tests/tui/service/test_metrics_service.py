"""The command `gpumodels-tui metrics`, as a process of its own."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpumodels_tui.service.metric_families import Choices
from gpumodels_tui.service.metrics_service import serve, write_textfile
from gpumodels_tui.sources.opening import Sources
from processes import wait_until
from snapshots import GIB, a_model, a_process, a_snapshot, published


def test_a_textfile_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "files"
    files.mkdir()
    writer = published(files, a_snapshot(a_model("wan", GIB)))
    path = tmp_path / "gpumodels.prom"
    assert write_textfile(Sources((files,)), "1", Choices(), path) == 0
    assert 'gpumodels_model_device_bytes{device="host",' in path.read_text()
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["gpumodels.prom"]
    assert write_textfile(Sources((files,)), "1", Choices(), tmp_path / "none" / "gpumodels.prom") == 1
    assert "cannot write" in capsys.readouterr().err
    writer.close()


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_ordinary_file_is_never_replaced(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpumodels.prom"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = os.lstat(path)
    assert write_textfile(Sources((tmp_path,)), "1", Choices(), path) == 1
    assert "it is no ordinary file" in capsys.readouterr().err
    assert (os.lstat(path).st_ino, os.lstat(path).st_mode) == (before.st_ino, before.st_mode)
    assert list(tmp_path.iterdir()) == [path]


def test_an_address_that_cannot_be_listened_on_ends_it_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(Sources(()), "1", Choices(), "nowhere") == 1
    assert capsys.readouterr().err.startswith("gpumodels-tui: error: --listen takes HOST:PORT")


@contextmanager
def killed_in_the_end(service: subprocess.Popen[str]) -> Iterator[None]:
    """A test that fails waits for no service that nobody ends."""
    try:
        yield
    finally:
        service.kill()


@pytest.mark.slow
def test_it_serves_on_a_unix_socket_that_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    command = [sys.executable, "-m", "gpumodels_tui", "metrics", "--dir", str(tmp_path), "--unix", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service, killed_in_the_end(service):
        assert service.stderr is not None
        assert service.stderr.readline() == f"gpumodels-tui: serving metrics on unix:{path}\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.read()) == (200, b"ok\n")
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=30) == 0
    assert not path.exists()


@pytest.mark.slow
def test_it_serves_until_it_is_told_to_end_and_promtool_finds_no_fault(tmp_path: Path) -> None:
    writer = published(tmp_path, a_snapshot(a_model("wan", GIB), process=a_process(pid=os.getpid())))
    command = [sys.executable, "-m", "gpumodels_tui", "metrics", "--dir", str(tmp_path), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service, killed_in_the_end(service):
        assert service.stderr is not None
        line = service.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, line

        def page(path: str) -> str:
            with urllib.request.urlopen(f"{found[0]}{path}", timeout=30) as answer:
                text: str = answer.read().decode()
                return text

        wait_until(lambda: 'model="wan"' in page("/metrics"))
        history = Path(os.environ["XDG_STATE_HOME"]) / "gpumodels" / "history"
        wait_until(lambda: bool(list(history.glob(f"*-{service.pid}.ndjson.gz"))))
        text = page("/metrics")
        if (promtool := shutil.which("promtool")) is not None:
            checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
        writer.close()
        wait_until(lambda: 'model="wan"' not in page("/metrics"))
        assert "gpumodels_models 0\n" in page("/metrics")
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=30) == 0
        assert service.stderr.read() == ""
