"""Real loads of real files by the libraries that people use, with the sidecar started before and after they are imported."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from gpumodels_shared.schema import Model
from hosts import Host, a_host
from provenance_cases import CASES, IMPORTS, NET, PREPARE, SETUP, START, Case

NEEDED = ("accelerate", "diffusers", "gguf", "peft", "safetensors", "torch", "transformers")

pytestmark = [
    pytest.mark.skipif(any(find_spec(name) is None for name in NEEDED), reason="needs " + ", ".join(NEEDED)),
    pytest.mark.timeout(300),
]

OUTCOMES: dict[tuple[str, str], list[str]] = {}
"""By (order, case): right, uncertain or wrong for each model."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    subprocess.run([sys.executable, "-c", PREPARE, str(directory)], check=True, capture_output=True, timeout=200)
    return directory


@pytest.fixture(scope="module", params=["sidecar first", "frameworks first"])
def host(request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Host]]:
    order = str(request.param)
    setup = [SETUP, START, IMPORTS, NET] if order == "sidecar first" else [SETUP, IMPORTS, NET, START]
    with a_host(tmp_path_factory.mktemp("gpm") / "gpm") as host:
        for source in setup:
            host.tell(source)
        host.tell(f"os.chdir({str(models)!r})")
        yield order, host


def outcome(model: Model, name: str | None, file: str | None) -> str:
    """What became of one model."""
    claimed = model.name if model.confidence >= 0.6 else None
    if claimed is None:
        return "right" if name is None else "uncertain"
    if claimed != name:
        return "wrong"
    return "right" if file is not None and any(file in path for path in model.files) else "uncertain"


def best_assignment(models: tuple[Model, ...], case: Case) -> list[str]:
    """Models and what is expected have no order: right ones are paired first."""
    outcomes: list[str] = []
    left = list(models)
    for name, file in case.expected:
        ranked = sorted(left, key=lambda model: ["right", "uncertain", "wrong"].index(outcome(model, name, file)))
        left.remove(ranked[0])
        outcomes.append(outcome(ranked[0], name, file))
    return outcomes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_model_has_the_name_of_what_was_loaded(host: tuple[str, Host], case: Case) -> None:
    order, child = host
    child.tell("kept = file = None; import gc; gc.collect()")
    child.models_when(lambda found: not found)
    child.tell(case.source.strip())
    found = child.settled_models(lambda found: len(found) == len(case.expected))
    outcomes = best_assignment(found, case)
    OUTCOMES[order, case.name] = outcomes
    said = [(model.name, model.name_source, model.confidence, model.files, model.candidates) for model in found]
    assert "wrong" not in outcomes, said
    if case.confidence is not None:
        child.models_when(lambda found: all(model.confidence == case.confidence for model in found))
    if "uncertain" in outcomes:
        OUTCOMES[order, case.name].append(str(said))


@pytest.mark.parametrize(
    "load",
    [
        "loaded(load_file(path))",
        "loaded(load_file(path), assign=True)",
        "loaded({key: value.half() for key, value in load_file(path).items()}, Net().half())",
        "loaded(load(Path(path).read_bytes()))",
    ],
)
def test_two_models_of_one_class_loaded_one_right_after_the_other_each_get_their_own_file(
    host: tuple[str, Host], load: str
) -> None:
    _, child = host
    child.tell("kept = None; import gc; from pathlib import Path; gc.collect()")
    child.models_when(lambda found: not found)
    child.tell(f"""
kept = []
for path in ("gamma_v1.safetensors", "delta_v1.safetensors"):
    kept.append({load})
""")
    assert child.tell("[type(one).__name__ for one in kept]") == ["Net", "Net"]
    found = child.models_when(lambda found: len(found) == 2 and all(model.confidence for model in found))
    assert sorted(model.name for model in found) == ["delta_v1", "gamma_v1"]
    assert all(any(model.name in path for path in model.files) for model in found)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn"])
def test_61_fine_tunes_of_one_architecture_are_told_apart(models: Path, tmp_path: Path, dtype: str) -> None:
    with a_host(tmp_path / "gpm", SETUP + START + NET) as host:
        host.tell(f"os.chdir({str(models)!r})")
        host.tell(f"""
kept = []
for number in range(61):
    state = load_file(f"tunes/tune{{number:02}}.safetensors")
    kept.append(type(f"Net{{number:02}}", (Net,), {{}})().to(torch.{dtype}))
    kept[-1].load_state_dict({{key: value.to(torch.{dtype}, copy=True) for key, value in state.items()}})
del state
""")
        found = host.models_when(lambda found: len(found) == 61 and all(model.confidence or model.candidates for model in found))
        claimed = [model for model in found if model.confidence >= 0.6]
        assert all(model.name == model.class_name.replace("Net", "tune") for model in claimed)
        assert len(claimed) == 61 or dtype == "float8_e4m3fn"
        assert all(len(model.candidates) > 1 for model in found if model.confidence < 0.6)


def test_none_is_wrong_and_nearly_all_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    if len(OUTCOMES) < 2 * len(CASES):
        pytest.skip("the matrix was not run as a whole")
    counts = Counter(one for outcomes in OUTCOMES.values() for one in outcomes if one in ("right", "uncertain", "wrong"))
    lines = [f"{order}: {name}: {', '.join(said)}" for (order, name), said in OUTCOMES.items() if set(said) != {"right"}]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, *(f"{word} {counts[word]}" for word in ("right", "uncertain", "wrong")), ""]))
    assert counts["wrong"] == 0
    assert counts["right"] >= 0.95 * counts.total()
