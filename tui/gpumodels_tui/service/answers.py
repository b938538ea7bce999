"""What the metrics service answers over HTTP, as a WSGI application: metrics, the JSON document, and whether it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, make_wsgi_app

from gpumodels_tui import json_output
from gpumodels_tui.service.metric_families import ModelMetrics
from gpumodels_tui.service.observed import Observer
from gpumodels_tui.view.filters import NO_FILTERS, Filters

INDEX: Final = """gpumodels
/metrics    for Prometheus
/json       the document of `gpumodels-tui --json`
/-/healthy  whether the sources are being read
/-/ready    whether they were read once
"""

PLAIN: Final = "text/plain; charset=utf-8"


class Answers:
    """The application. Only GET and HEAD are answered; nothing that is sent is ever read."""

    def __init__(self, observer: Observer, metrics: ModelMetrics, filters: Filters = NO_FILTERS) -> None:
        self._observer = observer
        self._filters = filters
        registry = CollectorRegistry(auto_describe=False)
        registry.register(metrics)
        self._metrics = make_wsgi_app(registry)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Type", PLAIN)])
            return [b"only GET and HEAD\n"]
        if environ["PATH_INFO"] == "/metrics":
            answer: Iterable[bytes] = self._metrics({**environ, "REQUEST_METHOD": "GET"}, start_response)
            return answer
        status, kind, body = self._answer(environ["PATH_INFO"])
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
        return [body]

    def _answer(self, path: str) -> tuple[str, str, bytes]:
        if path == "/":
            return "200 OK", PLAIN, INDEX.encode()
        seen = self._observer.observed()
        if path == "/json":
            if seen is None:
                return "503 Service Unavailable", PLAIN, b"not read yet\n"
            return "200 OK", "application/json", json_output.text(seen.snapshots, self._filters).encode()
        if path == "/-/healthy":
            failure = self._observer.failure
            return ("200 OK", PLAIN, b"ok\n") if failure is None else ("503 Service Unavailable", PLAIN, f"{failure}\n".encode())
        if path == "/-/ready":
            return ("200 OK", PLAIN, b"ok\n") if seen is not None else ("503 Service Unavailable", PLAIN, b"not read yet\n")
        return "404 Not Found", PLAIN, b"no such page; see /\n"
