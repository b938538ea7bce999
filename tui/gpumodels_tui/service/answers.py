"""What the metrics service answers over HTTP, as a WSGI application: metrics, the JSON document, and whether it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from gpumodels_tui import json_output
from gpumodels_tui.service.exposition import OPEN_METRICS, TEXT, accepts_gzip, accepts_open_metrics, compressed, written
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
LEAST_COMPRESSED: Final = 1024
"""Bytes; smaller answers are sent as they are."""


class Answers:
    """The application. Only GET and HEAD are answered; nothing that is sent is ever read."""

    def __init__(self, observer: Observer, metrics: ModelMetrics, filters: Filters = NO_FILTERS) -> None:
        self._observer = observer
        self._filters = filters
        self._metrics = metrics

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Type", PLAIN)])
            return [b"only GET and HEAD\n"]
        if environ["PATH_INFO"] == "/metrics":
            status, kind, body = self._page(accepts_open_metrics(environ.get("HTTP_ACCEPT", "")))
        else:
            status, kind, body = self._answer(environ["PATH_INFO"])
        fields = [("Content-Type", kind), ("Cache-Control", "no-store"), ("Vary", "Accept, Accept-Encoding")]
        if len(body) > LEAST_COMPRESSED and accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")):
            body = compressed(body)
            fields.append(("Content-Encoding", "gzip"))
        start_response(status, [*fields, ("Content-Length", str(len(body)))])
        return [body] if environ["REQUEST_METHOD"] == "GET" else []

    def _page(self, as_open_metrics: bool) -> tuple[str, str, bytes]:
        page = written(self._metrics.collect(), as_open_metrics=as_open_metrics)
        return "200 OK", OPEN_METRICS if as_open_metrics else TEXT, page.encode()

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
