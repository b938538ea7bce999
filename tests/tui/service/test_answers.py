"""What the service answers, page by page."""

from __future__ import annotations

import gzip
import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.service.answers import Answers
from gpumodels_tui.service.metric_families import Choices, ModelMetrics
from gpumodels_tui.service.observed import Observed
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.filters import NO_FILTERS, Filters
from snapshots import GIB, H100, NOON_NS, a_feed, a_gpu, a_model, a_snapshot, some_hardware


class Known:
    """Stands for the observer."""

    def __init__(self, is_read: bool = True, failure: Exception | None = None) -> None:
        seen = Snapshots(a_feed(a_snapshot(a_model("wan", GIB))), some_hardware(a_gpu()), CatalogueState(), NOON_NS)
        self._seen = Observed(seen, build_view(seen.feed, seen.hardware, seen.catalogue)) if is_read else None
        self.failure = failure

    def observed(self) -> Observed | None:
        return None if self.failure else self._seen


def asked(
    path: str, known: Known, method: str = "GET", filters: Filters = NO_FILTERS, **headers: str
) -> tuple[str, dict[str, str], bytes]:
    answers = Answers(known, ModelMetrics(known.observed, "1", Choices(filters)), filters)  # type: ignore[arg-type]
    said: list[Any] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", **headers}
    body = b"".join(answers(environ, lambda status, fields, _error=None: said.extend((status, dict(fields)))))
    return said[0], said[1], body


def test_metrics_are_text_that_prometheus_parses() -> None:
    status, fields, body = asked("/metrics", Known())
    assert status == "200 OK"
    assert fields["Content-Type"].startswith("text/plain; version=")
    assert "gpumodels_models" in {family.name for family in text_string_to_metric_families(body.decode())}


def test_open_metrics_are_written_for_who_accepts_them() -> None:
    _, fields, body = asked("/metrics", Known(), HTTP_ACCEPT="application/openmetrics-text; version=1.0.0")
    assert fields["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_a_page_is_compressed_for_who_accepts_it_and_a_short_one_is_not() -> None:
    _, fields, body = asked("/metrics", Known(), HTTP_ACCEPT_ENCODING="gzip")
    assert (fields["Content-Encoding"], fields["Content-Length"]) == ("gzip", str(len(body)))
    assert gzip.decompress(body) == asked("/metrics", Known())[2]
    assert "Content-Encoding" not in asked("/-/ready", Known(), HTTP_ACCEPT_ENCODING="gzip")[1]


def test_who_asks_for_the_head_alone_gets_no_page() -> None:
    for path in ("/metrics", "/-/ready"):
        status, fields, body = asked(path, Known(), "HEAD")
        assert (status, body) == ("200 OK", b"")
        assert fields["Content-Length"] == str(len(asked(path, Known())[2]))


def test_the_document_is_that_of_the_command() -> None:
    status, fields, body = asked("/json", Known())
    assert (status, fields["Content-Type"]) == ("200 OK", "application/json")
    assert json.loads(body)["processes"][0]["models"][0]["name"] == "wan"


def test_the_document_of_one_user_tells_of_no_other() -> None:
    for page in ("/json", "/metrics"):
        assert b"wan" in asked(page, Known(), filters=Filters(users=("ada",)))[2]
        assert b"wan" not in asked(page, Known(), filters=Filters(users=("bob",)))[2]
    assert json.loads(asked("/json", Known(), filters=Filters(users=("bob",)))[2])["gpus"][0]["uuid"] == H100


def test_before_the_first_reading_it_is_healthy_but_not_ready() -> None:
    known = Known(is_read=False)
    statuses = {path: asked(path, known)[0][:3] for path in ("/-/healthy", "/-/ready", "/json", "/metrics", "/")}
    assert statuses == {"/-/healthy": "200", "/-/ready": "503", "/json": "503", "/metrics": "200", "/": "200"}


def test_after_a_failure_it_is_neither_and_says_why() -> None:
    known = Known(failure=OSError("disk gone"))
    assert asked("/-/healthy", known)[::2] == ("503 Service Unavailable", b"disk gone\n")
    assert asked("/-/ready", known)[0] == "503 Service Unavailable"


def test_other_pages_and_methods_are_refused() -> None:
    assert asked("/etc/passwd", Known())[0] == "404 Not Found"
    status, fields, _ = asked("/metrics", Known(), "POST")
    assert (status, fields["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")
    assert asked("/", Known())[2].startswith(b"gpumodels\n/metrics")
