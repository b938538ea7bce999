"""The dashboard: what its panels ask for is served, and it belongs to no Prometheus or machine in particular."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from promql import ADDED_BY_PROMETHEUS, faults, panels_expressions, selectors, shipped_dashboard, with_any_choice
from served_metrics import served_metrics

DASHBOARD: Final[dict[str, Any]] = shipped_dashboard()
PANELS: Final[list[dict[str, Any]]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: Final = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def values_within(value: Any, key: str) -> Iterator[Any]:
    """Every value of this key, at any depth."""
    if isinstance(value, dict):
        yield from (found for name, found in value.items() if name == key)
        yield from (found for one in value.values() for found in values_within(one, key))
    elif isinstance(value, list):
        yield from (found for one in value for found in values_within(one, key))


def test_what_the_panels_and_variables_ask_for_is_served() -> None:
    served = served_metrics()
    asked = [*panels_expressions(), *(one["query"]["query"] for one in VARIABLES.values() if one["type"] == "query")]
    assert {expression: found for expression in asked if (found := faults(expression, served))} == {}
    for panel in PANELS:
        for target in panel["targets"]:
            known = ADDED_BY_PROMETHEUS.union(*(served[name] for name, _ in selectors(target["expr"])))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, panel["title"]


def test_every_variable_of_the_panels_is_there_and_all_but_the_data_source_narrow_them() -> None:
    text = json.dumps(DASHBOARD["panels"])
    named = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert named == set(VARIABLES) == {"datasource", "instance", "device", "process", "model"}
    assert all("$instance" in expression for expression in panels_expressions())


def test_it_belongs_to_no_prometheus_in_particular() -> None:
    sources = list(values_within(DASHBOARD, "datasource"))
    assert len(sources) > len(PANELS)
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert DASHBOARD.get("id") is None


def test_panels_have_numbers_and_places_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    plain = map(with_any_choice, panels_expressions())
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(plain)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    run = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
