"""Real loads onto a device whose memory nobody reads by pointer: with and without samples of it, started before and after."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from accelerator import simulated_device
from accelerator_cases import ATTACH, DEVICE_CASES, LOADS, best_assignment
from gpumodels_shared.schema import Model
from hosts import Host, a_host
from provenance_cases import IMPORTS, NET, PREPARE, SETUP, START, Case

NEEDED = ("accelerate", "diffusers", "gguf", "peft", "safetensors", "torch", "transformers")

pytestmark = [
    pytest.mark.skipif(any(find_spec(name) is None for name in NEEDED), reason="needs " + ", ".join(NEEDED)),
    pytest.mark.skipif(simulated_device.unavailable() is not None, reason=str(simulated_device.unavailable())),
    pytest.mark.timeout(300),
]

SETTINGS = [(order, samples) for order in ("early", "late") for samples in ("without samples", "with samples")]

OUTCOMES: dict[tuple[str, str, str], list[tuple[str, Model]]] = {}
"""By (order, samples, case): right, uncertain or wrong for each model, and what was said of it."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    subprocess.run([sys.executable, "-c", PREPARE, str(directory)], check=True, capture_output=True, timeout=200)
    return directory


@pytest.fixture(scope="module", params=SETTINGS, ids=" ".join)
def host(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Host]]:
    order, samples = request.param
    settings = {"GPUMODELS_SAMPLE_ACCELERATOR": str(int(samples == "with samples")), "GPUMODELS_INTERVAL": "0.1"}
    with a_host(tmp_path_factory.mktemp("gpm") / "gpm", environment=settings) as host:
        for source in (SETUP, ATTACH, *([START] if order == "early" else []), IMPORTS, NET, LOADS):
            host.tell(source)
        host.tell(f"os.chdir({str(models)!r})")
        yield order, samples, host


@pytest.mark.parametrize("case", DEVICE_CASES, ids=lambda case: case.name)
def test_a_model_on_the_device_has_the_name_of_what_was_loaded(host: tuple[str, str, Host], case: Case) -> None:
    order, samples, child = host
    if order == "early":
        child.tell("kept = file = None; import gc; gc.collect()")
        child.models_when(lambda found: not found)
        child.tell(case.source.strip())
    else:
        child.tell("import gpumodels; gpumodels.stop(); kept = file = None; import gc; gc.collect()")
        child.tell(case.source.strip())
        child.tell(START)
    found = child.models_when(lambda found: len(found) == len(case.expected))
    child.wait_for_ticks(3)
    found = child.models_when(lambda found: len(found) == len(case.expected))
    outcomes = OUTCOMES[order, samples, case.name] = best_assignment(found, case)
    said = [(model.name, model.name_source, model.confidence, model.files, model.candidates) for model in found]
    assert "wrong" not in [one for one, _ in outcomes], said


def test_none_is_wrong_and_nearly_all_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    if len(OUTCOMES) < len(SETTINGS) * len(DEVICE_CASES):
        pytest.skip("the matrix was not run as a whole")
    with capsys.disabled():
        sys.stdout.write("\n" + table())
    counts = Counter(word for outcomes in OUTCOMES.values() for word, _ in outcomes)
    assert counts["wrong"] == 0
    assert counts["right"] >= 0.95 * counts.total()


def table() -> str:
    """What came of each case, as a table in Markdown."""
    lines = ["| case | " + " | ".join(", ".join(setting) for setting in SETTINGS) + " |", "|---|" + "---|" * len(SETTINGS)]
    for case in DEVICE_CASES:
        cells = [_cell(OUTCOMES.get((*setting, case.name), [])) for setting in SETTINGS]
        lines.append(f"| {case.name} | " + " | ".join(cells) + " |")
    sums = []
    for order, samples in SETTINGS:
        counts = Counter(word for (*setting, _), found in OUTCOMES.items() for word, _ in found if setting == [order, samples])
        sums.append(f"{counts['right']} right, {counts['uncertain']} uncertain, {counts['wrong']} wrong")
    return "\n".join([*lines, "| **all** | " + " | ".join(sums) + " |", ""])


def _cell(found: list[tuple[str, Model]]) -> str:
    said = []
    for word, model in found:
        candidates = ", ".join(Path(path).name for path in model.candidates)
        said.append(f"{word} ({model.name_source} {model.confidence}{': ' + candidates + '?' if candidates else ''})")
    return "; ".join(said)
