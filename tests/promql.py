"""Which metrics and labels an expression in PromQL asks for, as far as shipped expressions are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

ADDED_BY_PROMETHEUS: Final = frozenset({"job", "instance"})


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
