"""One question to a server on this machine: 127.0.0.1 only, no proxy, no redirect, within a second and 256 KiB."""

from __future__ import annotations

import re
import socket
import time
from typing import Final

HOST: Final = "127.0.0.1"
MOST_SECONDS: Final = 1.0
"""For everything, however slowly the answer drips."""
MOST_BYTES: Final = 256 * 1024
CHUNK_BYTES: Final = 64 * 1024


class NotToldError(Exception):
    """The server told nothing; the text says why."""


class RefusedError(NotToldError):
    """The server answered at once, but not this question."""


def get(port: int, path: str, seconds: float = MOST_SECONDS) -> bytes:
    """The body of the answer to `GET path`.

    Raises:
        NotToldError: no answer in time, a longer one, or any other status than 200.
    """
    deadline = time.monotonic() + seconds
    request = f"GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((HOST, port), timeout=seconds) as connection:
            connection.sendall(request.encode("ascii"))
            answer = _answer(connection, deadline)
    except TimeoutError as error:
        raise NotToldError(f"no answer in {seconds:g} s") from error
    except OSError as error:
        raise NotToldError(error.strerror or str(error)) from error
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
    if found is None:
        raise NotToldError("no HTTP server")
    if found[1] in (b"401", b"403"):
        raise RefusedError("it wants a key")
    if found[1] != b"200":
        raise RefusedError(f"it answered with status {int(found[1])}")
    if re.search(rb"(?im)^transfer-encoding:", head):
        raise NotToldError("its answer is in pieces, which aren't read")
    return body


def _answer(connection: socket.socket, deadline: float) -> bytes:
    """All of it, or as much as the head says.

    Raises:
        NotToldError: it is too long.
        OSError: it isn't there in time.
    """
    answer = bytearray()
    length: int | None = None
    while length is None or len(answer) < length:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        if not (data := connection.recv(CHUNK_BYTES)):
            break
        answer += data
        if len(answer) > MOST_BYTES:
            raise NotToldError(f"its answer is longer than {MOST_BYTES // 1024} KiB")
        if length is None and (end := answer.find(b"\r\n\r\n")) >= 0:
            stated = re.search(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", answer[:end])
            length = None if stated is None else end + 4 + int(stated[1])
    return bytes(answer)
