"""The HTTP server of the metrics service, on a TCP address or a Unix socket. Each request has a thread, and little time."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

WSGIApplication: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""As in `wsgiref.types`, which Python 3.10 lacks."""

REQUEST_SECONDS: Final = 10.0
"""How long a client may take for its request, and for taking the answer."""

DEFAULT_PORT: Final = 9477
SOCKET_MODE: Final = 0o660


class ListenError(ValueError):
    """The address can't be listened on; the text says why, and what to do, in one line."""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""

    def address_string(self) -> str:
        """Clients of a Unix socket have no address."""
        return "local" if isinstance(self.client_address, str) else super().address_string()


class Listener(socketserver.ThreadingMixIn, WSGIServer):
    """A server for one application."""

    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients may leave at any moment."""


class _Tcp6Listener(Listener):
    address_family = socket.AF_INET6


class _UnixListener(Listener):
    address_family = socket.AF_UNIX
    has_bound = False
    """Whether the path is this socket's: one that holds something else is closed, too, and leaves it alone."""

    def server_bind(self) -> None:
        """Let the group connect, too."""
        super().server_bind()
        self.has_bound = True
        Path(str(self.server_address)).chmod(SOCKET_MODE)

    def get_request(self) -> tuple[Any, Any]:
        """The handler expects an address in two parts."""
        request, _ = super().get_request()
        return request, ("local", 0)

    def server_close(self) -> None:
        """Remove the socket's file, too."""
        super().server_close()
        if self.has_bound:
            with contextlib.suppress(OSError):
                Path(str(self.server_address)).unlink()


def listen(address: str, application: WSGIApplication) -> Listener:
    """A server on `host:port`, `:port`, or `[::1]:port`.

    Raises:
        ListenError: no such address, or it is taken.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or int(port) > 65535:
        raise ListenError(f"--listen takes HOST:PORT such as 127.0.0.1:{DEFAULT_PORT}, not {address}")
    server = _Tcp6Listener if ":" in host else Listener
    try:
        return _serving(server, (host, int(port)), application)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror or error}; choose another with --listen") from error


def listen_unix(path: Path, application: WSGIApplication) -> Listener:
    """A server on a Unix socket, for the owner and the group. A socket that nobody listens on any more is replaced.

    Raises:
        ListenError: the path holds something else, or somebody listens there.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                _remove_if_abandoned(path)
        return _serving(_UnixListener, str(path), application)
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error


def _remove_if_abandoned(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def _serving(server: type[Listener], address: Any, application: WSGIApplication) -> Listener:
    listener = server(address, _Handler)
    listener.set_app(application)
    return listener
