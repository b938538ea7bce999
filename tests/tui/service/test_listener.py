"""The HTTP server, over real sockets."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpumodels_tui.service.listener import Listener, ListenError, listen, listen_unix


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


@contextmanager
def serving(listener: Listener) -> Iterator[Listener]:
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listener
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


def asked(client: socket.socket, path: str) -> bytes:
    client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.read()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
def test_it_answers_on_tcp(address: str) -> None:
    with serving(listen(address, answer)) as listener:
        host, port = listener.server_address[:2]
        with socket.create_connection((str(host), int(port)), timeout=10) as client:
            assert asked(client, "/there") == b"/there"


def test_it_answers_on_a_unix_socket_and_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with serving(listen_unix(path, answer)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert asked(client, "/there") == b"/there"
        assert path.stat().st_mode & 0o777 == 0o660
    assert not path.exists()


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
    with serving(listen_unix(path, answer)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert asked(client, "/again") == b"/again"


def test_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ListenError, match=r"cannot listen on .*notes.txt: Address already in use"):
        listen_unix(path, answer)
    assert path.read_text() == "mine"
    taken = tmp_path / "metrics.sock"
    with serving(listen_unix(taken, answer)):
        with pytest.raises(ListenError, match="Address already in use"):
            listen_unix(taken, answer)
        assert taken.exists()


@pytest.mark.parametrize("address", ["", "nine", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ListenError, match=r"--listen takes HOST:PORT such as 127.0.0.1:9477, not"):
        listen(address, answer)


def test_a_port_that_is_taken_is_said_with_what_to_do() -> None:
    with serving(listen("127.0.0.1:0", answer)) as listener:
        port = listener.server_address[1]
        with pytest.raises(ListenError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use; choose another"):
            listen(f"127.0.0.1:{port}", answer)


def test_a_client_that_says_nothing_keeps_no_other_waiting() -> None:
    with serving(listen("127.0.0.1:0", answer)) as listener:
        address = ("127.0.0.1", int(listener.server_address[1]))
        with socket.create_connection(address, timeout=10), socket.create_connection(address, timeout=10) as client:
            assert asked(client, "/there") == b"/there"
