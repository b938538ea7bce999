"""The scrape configuration and the alerts: Prometheus takes them, and each alert fires when it should and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gpumodels_tui.deploy.shipped_files import shipped_files
from promql import ADDED_BY_PROMETHEUS, faults, selectors, shipped_rules
from served_metrics import served_metrics

PROMTOOL: Final = shutil.which("promtool")
FILES: Final = shipped_files("prometheus")
RULES: Final = shipped_rules()
ALERTS: Final = [rule["alert"] for rule in RULES]
NEEDS_PROMTOOL: Final = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
OF: Final = 'job="gpumodels", instance="a:9477"'
MODEL: Final = f'{OF}, process="main.py", user="ada", model="wan", id="0a0a0a0a", device="0"'
PROCESS: Final = f'{OF}, process="main.py", user="ada"'
USER: Final = f'{PROCESS}, model="wan", id="0a0a0a0a"'
GIB: Final = 1024**3

FIRES: Final[dict[str, tuple[dict[str, str], str, str]]] = {
    "GpuModelIdle": (
        {
            f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x100",
            f"gpumodels_model_last_used_timestamp_seconds{{{USER}}}": "0x100",
        },
        "67m",
        "59m",
    ),
    "GpuIdleWithModel": (
        {
            f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x100",
            f'gpumodels_device_utilization_ratio{{{OF}, device="0"}}': "0.001x100",
        },
        "62m",
        "58m",
    ),
    "GpuModelLoadedTwice": ({f"gpumodels_model_copies{{{MODEL}}}": "2x30"}, "11m", "9m"),
    "GpuNearlyFull": (
        {
            f'gpumodels_device_used_bytes{{{OF}, device="0"}}': f"{78 * GIB}x30",
            f'gpumodels_device_total_bytes{{{OF}, device="0"}}': f"{80 * GIB}x30",
        },
        "11m",
        "9m",
    ),
    "GpuMemoryUnexplained": (
        {f'gpumodels_process_device_bytes{{{PROCESS}, device="0", part="other_tensors"}}': f"{3 * GIB}x60"},
        "31m",
        "29m",
    ),
    "GpuOutOfMemory": ({f'gpumodels_out_of_memory_total{{{PROCESS}, device="0"}}': "0x20 1x20"}, "22m", "20m"),
    "GpuLost": ({f'gpumodels_device_up{{{OF}, device="0"}}': "1x5 0x10"}, "8m", "5m"),
    "GpuModelsSidecarStalled": ({f'gpumodels_process_info{{{PROCESS}, state="stalled", rank=""}}': "1x20"}, "6m", "4m"),
    "GpuModelsNotRead": ({f'gpumodels_last_read_success{{{PROCESS}, source="snapshot"}}': "0x20"}, "6m", "4m"),
    "GpuModelsServiceDown": ({f"up{{{OF}}}": "0x20"}, "6m", "4m"),
}
"""Of each alert: series that make it fire, when it must, and when it must not yet."""

QUIET: Final[dict[str, tuple[dict[str, str], str]]] = {
    "GpuIdleWithModel on a GPU that works now and then": (
        {
            f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x100",
            f'gpumodels_device_utilization_ratio{{{OF}, device="0"}}': "0x50 0.9 0x48",
        },
        "90m",
    ),
    "GpuIdleWithModel on a device without a figure": ({f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x100"}, "90m"),
    "GpuIdleWithModel beside another machine's idle GPU": (
        {
            f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x100",
            'gpumodels_device_utilization_ratio{job="gpumodels", instance="b:9477", device="0"}': "0x100",
        },
        "90m",
    ),
    "GpuModelIdle of which nothing is known": ({f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x100"}, "90m"),
    "GpuIdleWithModel of which it is known": (
        {
            f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x100",
            f"gpumodels_model_last_used_timestamp_seconds{{{USER}}}": "0x100",
            f'gpumodels_device_utilization_ratio{{{OF}, device="0"}}': "0x100",
        },
        "90m",
    ),
    "GpuModelLoadedTwice for one copy": ({f"gpumodels_model_copies{{{MODEL}}}": "1x30"}, "20m"),
    "GpuNearlyFull for full host memory": (
        {
            f'gpumodels_device_used_bytes{{{OF}, device="host"}}': "99x30",
            f'gpumodels_device_total_bytes{{{OF}, device="host"}}': "100x30",
        },
        "20m",
    ),
    "GpuMemoryUnexplained for what models hold": (
        {f'gpumodels_process_device_bytes{{{PROCESS}, device="0", part="models"}}': f"{30 * GIB}x60"},
        "40m",
    ),
    "GpuMemoryUnexplained for what comes and goes": (
        {f'gpumodels_process_device_bytes{{{PROCESS}, device="0", part="other_tensors"}}': " ".join([f"{3 * GIB}x9 {GIB}"] * 10)},
        "90m",
    ),
    "GpuOutOfMemory for an old error": ({f'gpumodels_out_of_memory_total{{{PROCESS}, device="0"}}': "3x40"}, "30m"),
    "GpuModelsSidecarStalled for a live one": (
        {f'gpumodels_process_info{{{PROCESS}, state="live", rank=""}}': "1x20"},
        "15m",
    ),
}


def checked(*arguments: str, folder: Path) -> str:
    assert PROMTOOL is not None
    run = subprocess.run([PROMTOOL, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_what_the_alerts_ask_for_is_served() -> None:
    served = {**served_metrics(), "up": frozenset({"job", "instance"})}
    assert {rule["alert"]: found for rule in RULES if (found := faults(rule["expr"], served))} == {}
    for rule in RULES:
        known = ADDED_BY_PROMETHEUS.union(*(served[name] for name, _ in selectors(rule["expr"])))
        asked = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert asked <= known, rule["alert"]


def test_every_alert_is_described_and_has_its_series_here() -> None:
    document = (Path(__file__).resolve().parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(Gpu\w+)` \|", document, re.MULTILINE) == ALERTS
    assert set(FIRES) == set(ALERTS)
    assert {name.partition(" ")[0] for name in QUIET} <= set(ALERTS)


@NEEDS_PROMTOOL
def test_prometheus_takes_the_configuration_and_the_rules(folder: Path) -> None:
    assert f"{len(RULES)} rules found" in checked("check", "config", "prometheus.yml", folder=folder)


@NEEDS_PROMTOOL
def test_each_alert_fires_when_it_should_and_only_then(folder: Path) -> None:
    def fires(alert: str, at: str, labels: int | None) -> dict[str, Any]:
        """How many fire at that time; `labels` is the number expected."""
        samples = [] if labels is None else [{"labels": "{}", "value": labels}]
        return {"expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})', "eval_time": at, "exp_samples": samples}

    def given(series: dict[str, str], *tests: dict[str, Any]) -> dict[str, Any]:
        listed = [{"series": name, "values": values} for name, values in series.items()]
        return {"interval": "1m", "input_series": listed, "promql_expr_test": list(tests)}

    tests = [given(series, fires(alert, at, 1), fires(alert, early, None)) for alert, (series, at, early) in FIRES.items()]
    tests += [given(series, fires(name.partition(" ")[0], at, None)) for name, (series, at) in QUIET.items()]
    first_seen_with_an_error = {f'gpumodels_out_of_memory_total{{{PROCESS}, device="0"}}': "_x20 1x30"}
    tests.append(given(first_seen_with_an_error, fires("GpuOutOfMemory", "23m", 1), fires("GpuOutOfMemory", "40m", None)))
    busy_between_evaluations = {
        f"gpumodels_model_device_bytes{{{MODEL}}}": f"{2 * GIB}x400",
        f'gpumodels_device_utilization_ratio{{{OF}, device="0"}}': " ".join(["0 0.9 0 0"] * 100),
    }
    tests.append({**given(busy_between_evaluations, fires("GpuIdleWithModel", "90m", None)), "interval": "15s"})
    document = {"rule_files": ["gpumodels-alerts.yml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "test.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    checked("test", "rules", "test.yml", folder=folder)
