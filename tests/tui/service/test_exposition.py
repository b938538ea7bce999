"""The text formats, compared with what prometheus_client writes and parses."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from gpumodels_tui.service.exposition import accepts_gzip, accepts_open_metrics, compressed, written
from gpumodels_tui.service.metric_families import Choices, ModelMetrics
from served_metrics import everything_observed


def some_families() -> list[Metric]:
    gauge = GaugeMetricFamily("gpumodels_odd", 'Odd: \\ and "quotes" and\na line.', labels=["model", "empty"])
    for number, name in enumerate(['quote " and \\ and \n line', "模型 \\u202e", "\\", 'a"', "{}=,#", ""]):
        gauge.add_metric([name, ""], number + 0.5)
    plain = GaugeMetricFamily("gpumodels_plain", "Without labels.")
    plain.add_metric([], 85_899_345_920)
    extremes = GaugeMetricFamily("gpumodels_extremes", "Numbers that are none.", labels=["which"])
    for value in (math.inf, -math.inf, math.nan, 1e300, -0.0):
        extremes.add_metric([str(value)], value)
    counter = CounterMetricFamily("gpumodels_errors", "Errors.", labels=["process"])
    counter.add_metric(["main.py"], 3)
    empty = GaugeMetricFamily("gpumodels_empty", "No series.", labels=["process"])
    return [gauge, plain, extremes, counter, empty, *ModelMetrics(everything_observed, "1", Choices()).collect()]


class Given(Collector):
    def collect(self) -> list[Metric]:
        return some_families()


def told(text: str, parse: Callable[[str], Iterable[Metric]]) -> list[object]:
    """What a page says, comparable: no number equals itself if it is none."""
    return [
        (
            one.name,
            one.type,
            one.documentation,
            [(sample.name, sample.labels, repr(float(sample.value))) for sample in one.samples],
        )
        for one in parse(text)
    ]


def test_it_says_what_prometheus_client_says() -> None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given())
    text = written(some_families(), as_open_metrics=False)
    assert told(text, parse_text) == told(generate_latest(registry).decode(), parse_text)
    open_metrics = written(some_families(), as_open_metrics=True)
    others: bytes = generate_open_metrics(registry)  # type: ignore[no-untyped-call]
    assert told(open_metrics, parse_open_metrics) == told(others.decode(), parse_open_metrics)
    assert text.endswith("\n")
    assert open_metrics.endswith("\n# EOF\n")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("text/plain, application/openmetrics-text", True),
    ],
)
def test_open_metrics_are_for_who_names_them(accept: str, expected: bool) -> None:
    assert accepts_open_metrics(accept) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=1.0", True),
        ("x-gzip2", False),
    ],
)
def test_gzip_is_for_who_accepts_it(accept: str, expected: bool) -> None:
    assert accepts_gzip(accept) is expected


def test_what_is_compressed_is_the_page() -> None:
    page = b"gpumodels_models 3\n" * 1000
    assert gzip.decompress(compressed(page)) == page
    assert len(compressed(page)) < len(page) / 10
