"""The shipped expressions in PromQL, and which metrics and labels they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

from gpumodels_tui.deploy.shipped_files import shipped_files

ADDED_BY_PROMETHEUS: Final = frozenset({"job", "instance"})


def shipped_rules() -> list[dict[str, Any]]:
    """The alerts."""
    document = yaml.safe_load(shipped_files("prometheus")[PurePosixPath("gpumodels-alerts.yml")])
    rules: list[dict[str, Any]] = document["groups"][0]["rules"]
    return rules


def shipped_dashboard() -> dict[str, Any]:
    """The dashboard."""
    dashboard: dict[str, Any] = json.loads(shipped_files("grafana")[PurePosixPath("gpumodels.json")])
    return dashboard


def panels_expressions() -> list[str]:
    """What the dashboard's panels ask for."""
    return [target["expr"] for panel in shipped_dashboard()["panels"] for target in panel.get("targets", ())]


def with_any_choice(expression: str) -> str:
    """The expression of a panel as Grafana asks it where nothing was chosen."""
    return re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", "1m"))


def selectors(expression: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Each metric that is named, with the labels by which its series are chosen."""
    for name, matchers in re.findall(r"\b(gpumodels_\w+)(?:\{([^}]*)\})?", expression):
        yield name, frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", matchers))


def grouping_labels(expression: str) -> frozenset[str]:
    """The labels named in `by (…)`, `on (…)` and `group_left (…)`."""
    listed = re.findall(r"\b(?:by|on|group_left|without)\s*\(([^)]*)\)", expression)
    return frozenset(label.strip() for one in listed for label in one.split(","))


def faults(expression: str, served: Mapping[str, frozenset[str]]) -> list[str]:
    """What the expression asks for and nobody serves."""
    found: list[str] = []
    for name, labels in selectors(expression):
        if name not in served:
            found.append(f"no metric {name}")
        else:
            found += [f"no label {label} of {name}" for label in sorted(labels - served[name] - ADDED_BY_PROMETHEUS)]
    known = ADDED_BY_PROMETHEUS.union(*(served.get(name, frozenset()) for name, _ in selectors(expression)))
    return found + [f"no label {label}" for label in sorted(grouping_labels(expression) - known)]
