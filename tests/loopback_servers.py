"""Servers on 127.0.0.1 that answer as ollama, llama.cpp and vLLM do, and hostile ones."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

HOSTILE: Final = ("slow", "dripping", "endless", "huge", "redirect", "no http", "wrong", "nested", "key", "silent")


@contextmanager
def serving(answers: Mapping[str, str] | str) -> Iterator[tuple[int, list[str]]]:
    """The port of a server, and the paths that it was asked for.

    Args:
        answers: the JSON by path, everything else is 404; or a word of `HOSTILE`.
    """
    asked: list[str] = []
    stopping = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)

    def work() -> None:
        while not stopping.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(2)
                    path = connection.recv(65536).split()[1].decode()
                    asked.append(path)
                    if isinstance(answers, str):
                        _be_hostile(connection, answers, stopping)
                    else:
                        body = answers.get(path)
                        status = "404 Not Found" if body is None else "200 OK"
                        text = body or "{}"
                        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], asked
    finally:
        stopping.set()
        thread.join(5)
        server.close()


def _be_hostile(connection: socket.socket, how: str, stopping: threading.Event) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    if how == "slow":
        stopping.wait(5)
    elif how == "dripping":
        while not stopping.is_set():
            connection.sendall(b"H")
            time.sleep(0.02)
    elif how == "endless":
        while not stopping.is_set():
            connection.sendall(head + b"X-Header: " + b"x" * 60_000 + b"\r\n")
    elif how == "huge":
        connection.sendall(head + b"Content-Length: 999999999\r\n\r\n" + b"[" * 400_000)
    elif how == "redirect":
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n")
    elif how == "no http":
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
    elif how == "wrong":
        connection.sendall(head + b'\r\n{"models": 7, "data": {"id": 3}, "model_path": []}')
    elif how == "nested":
        connection.sendall(head + b'\r\n{"models":' + b"[" * 100_000)
    elif how == "key":
        connection.sendall(b'HTTP/1.1 401 Unauthorized\r\n\r\n{"error": "key"}')
