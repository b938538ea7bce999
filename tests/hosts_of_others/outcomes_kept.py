"""A pytest plugin: writes how every test ended, as one JSON object, to the file that GPUMODELS_OUTCOMES names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch  # noqa: F401  so that a suite without it is a host of the sidecar's all the same

_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Each test's worst phase counts; an expected failure is one of its own kind."""
    outcome: str = f"x{report.outcome}" if hasattr(report, "wasxfail") else report.outcome
    known = _outcomes.get(report.nodeid, "passed")
    if known == "passed" or outcome == "failed":
        _outcomes[report.nodeid] = outcome


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """What can't be collected is an outcome too."""
    if not report.passed:
        _outcomes[report.nodeid] = f"not collected: {report.outcome}"


def pytest_unconfigure() -> None:
    """All of them."""
    Path(os.environ["GPUMODELS_OUTCOMES"]).write_text(json.dumps(_outcomes))
