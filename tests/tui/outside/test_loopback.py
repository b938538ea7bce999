"""Tests of asking one question: the answer, and every way in which a server may not give one."""

from __future__ import annotations

import socket
import time

import pytest

from gpumodels_tui.outside.loopback import NotToldError, get
from loopback_servers import serving


def test_the_answer_is_the_body() -> None:
    with serving({"/api/ps": '{"models": []}'}) as (port, asked):
        assert get(port, "/api/ps") == b'{"models": []}'
        with pytest.raises(NotToldError, match="status 404"):
            get(port, "/else")
    assert asked == ["/api/ps", "/else"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("slow", "no answer in 0.3 s"),
        ("dripping", "no answer in 0.3 s"),
        ("endless", "longer than 256 KiB"),
        ("huge", "longer than 256 KiB"),
        ("redirect", "status 302"),
        ("no http", "no HTTP server"),
        ("key", "wants a key"),
        ("silent", "no HTTP server"),
    ],
)
def test_a_hostile_server_told_nothing_and_soon(how: str, reason: str) -> None:
    begun = time.monotonic()
    with serving(how) as (port, asked):
        with pytest.raises(NotToldError, match=reason):
            get(port, "/v1/models", 0.3)
        assert time.monotonic() - begun < 3
    assert asked == ["/v1/models"], "it is asked once, and nobody else"


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({}) as (proxy, asked), serving({"/props": "{}"}) as (port, _):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        assert get(port, "/props") == b"{}"
    assert asked == []


def test_where_nobody_listens_it_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotToldError, match="refused"):
        get(port, "/")
