"""Servers that a reloader starts anew, in a process of its own each time: real uvicorn."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from launched import environment
from library_hosts import needs
from processes import wait_until

pytestmark = [needs("uvicorn"), pytest.mark.slow, pytest.mark.timeout(180)]

APP: Final = """
import os, threading, torch

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        served = "gpumodels" in [thread.name for thread in threading.enumerate()]
        with open("served.txt", "a") as file:
            file.write(f"{os.getpid()} {served}\\n")
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
"""


def test_each_server_that_uvicorns_reloader_starts_is_served(tmp_path: Path) -> None:
    app, told = tmp_path / "app.py", tmp_path / "served.txt"
    app.write_text(APP)
    told.touch()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "gpumodels", "run", "-m", "uvicorn", "app:app", "--reload", "--port", str(port)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        try:
            for started in (1, 2):
                wait_until(lambda count=started: len(told.read_text().splitlines()) == count, 60)  # type: ignore[misc]
                app.write_text(f"{APP}\n# edited {started}\n")
        finally:
            os.killpg(child.pid, signal.SIGINT)
            try:
                child.wait(30)
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
    lines = [line.split() for line in told.read_text().splitlines()]
    assert {served for _, served in lines} == {"True"}
    assert len({pid for pid, _ in lines}) >= 2
    assert str(child.pid) not in {pid for pid, _ in lines}
