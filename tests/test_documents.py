"""What the documents tell people to run, open, press and read is there, and says what they say."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

import gpumodels
from gpumodels.__main__ import main as gpumodels_command
from gpumodels.hooks.moves import MOVING_METHODS
from gpumodels.models.scan import PROBES
from gpumodels.naming.name_queue import LOAN_SECONDS
from gpumodels.observer import MEASURE_SHARE, OLDEST_MEASURE_SECONDS, WALK_SHARE
from gpumodels.sidecar import BURST_SECONDS, LONG_PAUSE_SECONDS, NAMES_SECONDS, PAUSE_SECONDS
from gpumodels.support.budget import RATE
from gpumodels.support.slices import SLICE_SECONDS
from gpumodels_shared.name_sources import (
    CONFIDENCE,
    KNOWN_FILE_CONFIDENCE,
    PATCHED_VALUES_CONFIDENCE,
    RECENCY_CONFIDENCE,
    NameSource,
)
from gpumodels_shared.schema import KINDS, Job, Stage
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.json_output import text
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.outside.facts import KnownBy, OutsideFacts, OutsideModel
from gpumodels_tui.settings.parser import parser
from gpumodels_tui.settings.table import THEMES
from gpumodels_tui.sources.gpus import GpuProcess
from gpumodels_tui.view.hints import MODEL_RULES, PROCESS_RULES
from gpumodels_tui.view.memory_parts import PartKind
from gpumodels_tui.view.metadata_fields import FIELDS
from gpumodels_tui.widgets.memory_bar import FREE, FREE_WORD, MARKS
from snapshots import GIB, NOON_NS, a_feed, a_gpu, a_model, a_process, a_snapshot, some_hardware

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TARGETS: Final = frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
CHANGES: Final = frozenset({"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"})


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def section(path: str, title: str) -> str:
    """What stands under a heading of any depth, up to the next heading of the same depth."""
    depth, found = re.findall(rf"^(#+) {re.escape(title)}\n(.*)", read(path), re.MULTILINE | re.DOTALL)[0]
    return re.split(rf"^{depth} ", found, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table, without its head."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    end = next((number for number, line in enumerate(lines[start:], start) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : end]]


def in_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def lines_of_blocks(document: Path) -> list[str]:
    """The commands in fenced blocks that name no language, without their comments."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line.partition(" #")[0].strip() for language, block in blocks if not language for line in block.splitlines()]


def commands(program: str) -> list[str]:
    """Every line that a document tells people to run with this program, in blocks and in the text."""
    listed = [line for document in DOCUMENTS for line in (*lines_of_blocks(document), *in_code(document.read_text("utf-8")))]
    return [line for line in listed if line == program or line.startswith(f"{program} ")]


def constant_of(path: str, name: str) -> Any:
    """The value of a module's constant, without running the module."""
    for statement in ast.parse(read(path)).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.target.id == name:
            assert statement.value is not None
            return ast.literal_eval(statement.value)
    raise AssertionError(f"{path} has no {name}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    named = re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE)
    assert set(named) <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_and_every_linked_section_exists(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
        linked = document.parent / target if target else document
        assert linked.exists()
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_named_path_of_this_tree_exists(document: Path) -> None:
    named = re.findall(r"`((?:sidecar|tui|shared|tests|docs|findings|\.ci)/[\w./-]+)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_links_every_document() -> None:
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^)#:]+)\)", read("README.md"))}
    assert set(DOCUMENTS) - linked == {ROOT / "README.md"}


def test_the_viewer_understands_every_command_line_that_is_named() -> None:
    lines = commands("gpumodels-tui")
    assert len(lines) > 5
    for line in lines:
        parser().parse_args(shlex.split(line)[1:])


def test_the_sidecars_command_understands_every_command_line_that_is_named() -> None:
    lines = [line.split()[3:] for line in commands("python -m gpumodels")] + [line.split()[1:] for line in commands("gpumodels")]
    lines = [line for line in lines if line]
    assert {line[0] for line in lines} == {"demo", "run", "comfyui", "enable", "disable", "status", "attach"}
    for line in lines:
        command = line[:2] if line[0] == "comfyui" else line[:1]
        asked_for_help = io.StringIO()
        with pytest.raises(SystemExit) as left, contextlib.redirect_stdout(asked_for_help):
            gpumodels_command([*command, "--help"])
        assert left.value.code == 0
        options = [] if line[0] == "run" else [word for word in line if word.startswith("--")]
        assert set(options) <= set(re.findall(r"--[a-z-]+", asked_for_help.getvalue())), line


def test_every_setting_is_one() -> None:
    first = " ".join(row[0] for row in rows(section("README.md", "Attach it to your process")))
    keywords = re.findall(r"start\((\w+)=", first)
    assert set(keywords) == inspect.signature(gpumodels.start).parameters.keys() - {"directory"}
    variables = set(re.findall(r"`([A-Z_]+)", first))
    sources = [path.read_text("utf-8") for package in ("sidecar", "tui", "shared") for path in (ROOT / package).rglob("*.py")]
    used = {name for source in sources for name in re.findall(r"\"((?:GPUMODELS\w*)|NO_COLOR)\"", source)}
    assert variables == {name for name in used if not name.startswith(("GPUMODELS_DEMO_", "GPUMODELS_TUI_"))}
    assert set(re.findall(r"--[a-z-]+", first)) <= set(re.findall(r"--[a-z-]+", parser().format_help()))


def test_the_themes_are_named() -> None:
    (sentence,) = re.findall(r"`--theme` chooses (.+?); `--ascii`", read("README.md"), re.DOTALL)
    assert in_code(sentence) == list(THEMES)


def printed_document() -> Mapping[str, Any]:
    model = a_model("model", GIB, device="cuda:0")
    process = a_process(rank=0, job=Job("4242.0", "slurm"))
    snapshot = replace(a_snapshot(model, process=process), stages=(Stage("4", "KSampler", NOON_NS),))
    outside = OutsideFacts((OutsideModel(KnownBy.MAPPED, ("/m/a.gguf",)),))
    hardware = some_hardware(a_gpu(processes={7: GIB}))
    hardware = replace(hardware, running={7: GpuProcess(7, ("llama-server",), "eve", NOON_NS, outside)})
    glance = Snapshots(a_feed(snapshot), hardware, CatalogueState(), NOON_NS)
    document: Mapping[str, Any] = json.loads(text(glance))
    return document


def test_the_keys_of_the_json_document_are_those_that_are_printed() -> None:
    document = printed_document()
    process = document["processes"][0]
    printed = {
        "The document": document,
        "A GPU": document["gpus"][0],
        "A process": process,
        "The job of a process": process["job"],
        "A device of a process": process["devices"][0],
        "A model": process["models"][0],
        "A stage of a process": process["stages"][0],
        "A process without a sidecar": document["unattached"][0],
        "A model of a process without a sidecar": document["unattached"][0]["models"][0],
    }
    for title, keys in printed.items():
        described = rows(section("docs/json.md", title))
        assert [in_code(row[0]) for row in described] == [[key] for key in keys], title
        assert all(row[1] for row in described)


def test_the_kinds_and_states_of_the_json_document_are_those_that_there_are() -> None:
    by_key = {row[0]: row[1] for title in ("A process", "A model") for row in rows(section("docs/json.md", title))}
    assert in_code(by_key["`kind`"]) == list(KINDS)
    assert in_code(by_key["`state`"]) == ["live", "stalled", "exited", "dead"]


def test_the_rows_of_the_table_of_faults_are_those_that_are_tested() -> None:
    tested = constant_of("tests/faults/conftest.py", "ROWS")
    described = rows(read("docs/faults.md"))
    assert [tuple(row[:2]) for row in described] == list(tested.values())
    assert all(reached for _, _, reached in described)


def test_every_cost_names_the_part_of_the_benchmarks_that_measures_it() -> None:
    parts = constant_of("tests/benchmarks/__main__.py", "PARTS")
    named = [in_code(row[3])[0] for row in rows(read("docs/costs.md"))]
    assert set(named) <= set(parts)
    (alone,) = re.findall(r"python -m benchmarks (\w+)", read("docs/costs.md"))
    assert alone in parts


def test_the_facts_of_model_files_come_from_the_keys_that_are_named() -> None:
    described = [(row[0], tuple(in_code(row[1]))) for row in rows(read("docs/metadata.md"))]
    assert described[: len(FIELDS)] == [(label, keys) for label, keys, _ in FIELDS]


def test_every_source_of_a_name_is_described_with_its_confidence() -> None:
    described = {in_code(row[0])[0]: row[1:] for row in rows(section("docs/metadata.md", "The name"))}
    assert described.keys() == {str(source) for source in NameSource} - {"sum"}
    for source, confidence in CONFIDENCE.items():
        assert described[source][0] == f"{confidence:g}"
    assert described["recency"][0] == f"{RECENCY_CONFIDENCE:g}"
    assert described["class"][0].startswith(f"{KNOWN_FILE_CONFIDENCE:g} ")
    assert f"{PATCHED_VALUES_CONFIDENCE:g}" in described["values"][1]


def test_every_part_of_a_devices_memory_is_described_with_its_mark() -> None:
    described = {row[0]: in_code(row[1]) for row in rows(section("docs/memory.md", "The parts of a device's memory"))}
    drawn = {kind.value: [MARKS[kind][0]] for kind in PartKind}
    assert described == drawn | {FREE_WORD: [FREE]}


def test_the_shares_and_times_of_looking_are_those_of_the_code() -> None:
    what = " ".join(section("docs/observing.md", "How soon a change is seen").split())
    for share in (WALK_SHARE, MEASURE_SHARE, RATE):
        assert f"{share:.1%}".replace("%", " % of a core") in what
    assert f"every {OLDEST_MEASURE_SECONDS:g} s at least" in what
    assert sorted(LOAN_SECONDS.values(), reverse=True) == [5.0, 2.0, 0.5, 0.0]
    assert "borrow: 5 s for a model without a name, 2 s if" in what
    assert "half a second for what changed" in what
    assert NAMES_SECONDS == 0.1
    assert "a tenth of a second" in what
    assert PROBES == 6
    assert "six modules of each model" in what
    assert f"slices of {SLICE_SECONDS * 1e3:g} ms" in what
    assert f"After {BURST_SECONDS * 1e3:g} ms of work" in what
    assert f"become {LONG_PAUSE_SECONDS * 1e3:g} ms" in what
    assert PAUSE_SECONDS == 0.0005
    assert "half a millisecond" in what


def test_every_method_that_is_observed_as_a_move_is_named() -> None:
    (row,) = [row for row in rows(read("docs/observing.md")) if row[0].startswith("modules as they are moved")]
    assert {name.rpartition(".")[2] for name in in_code(row[1])} == set(MOVING_METHODS)


def test_the_changelog_has_a_dated_section_for_the_version_of_the_package() -> None:
    changelog = read("CHANGELOG.md")
    titles = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", title) for title in titles[1:]]
    versions = [match[1] for match in released if match is not None]
    assert len(versions) == len(titles) - 1
    days = [date.fromisoformat(match[2]) for match in released if match is not None]
    assert days == sorted(days, reverse=True)
    assert set(re.findall(r"^### (.+)$", changelog, re.MULTILINE)) <= CHANGES
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    assert versions[0] == toml.loads(read("pyproject.toml"))["project"]["version"]


def test_what_runs_before_a_commit_is_make_check() -> None:
    assert re.findall(r"entry: (.+)", read(".pre-commit-config.yaml")) == ["make check"]


def workflow() -> Any:
    return importlib.import_module("yaml").safe_load(read(".github/workflows/ci.yml"))["jobs"]


def test_the_workflow_checks_on_linux_and_macos_on_every_supported_python() -> None:
    check = workflow()["check"]
    matrix = check["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos"}
    assert matrix["python"] == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    named = re.findall(r"Programming Language :: Python :: (\d\.\d+)", read("pyproject.toml"))
    assert named
    assert set(named) <= set(matrix["python"])
    assert check["steps"][-1]["run"].startswith("make check")


def test_the_workflow_builds_the_wheel_installs_it_into_an_empty_environment_and_runs_it() -> None:
    assert workflow()["wheel"]["steps"][-1]["run"] == ".ci/wheel"
    script = read(".ci/wheel")
    steps = [
        " wheel --no-deps",
        '-m venv "$folder/host"',
        "gpumodels.start()",
        "gpumodels-tui deploy",
        "gpumodels-tui --once",
        "gpumodels-tui --json",
    ]
    assert [script.find(step) for step in steps] == sorted(script.find(step) for step in steps)
    assert all(step in script for step in steps)


@pytest.mark.parametrize(("title", "rules"), [("On a model", MODEL_RULES), ("On a process", PROCESS_RULES)])
def test_every_hint_is_described_in_the_tables_order(title: str, rules: Mapping[str, object]) -> None:
    described = rows(section("docs/hints.md", title))
    assert [row[0] for row in described] == list(rules)
    assert all(speaks and silent for _, speaks, silent in described)


def test_the_form_for_bug_reports_asks_for_the_json_document() -> None:
    form = importlib.import_module("yaml").safe_load(read(".github/ISSUE_TEMPLATE/bug.yml"))
    required = [field["attributes"]["label"] for field in form["body"] if field.get("validations", {}).get("required")]
    assert "Output of `gpumodels-tui --json`" in required
