"""The command `diff`, on documents as `--json` prints them and on recordings."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from gpumodels_tui import cli
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.comparing.documents import MOST_BYTES
from gpumodels_tui.json_output import text
from gpumodels_tui.oneshot import Snapshots
from recordings import a_recording, holding
from snapshots import NOON_NS, some_hardware


@pytest.fixture(autouse=True)
def _of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def printed(path: Path, *names: str, is_pretty: bool = False) -> str:
    path.write_text(text(Snapshots(holding(*names), some_hardware(), CatalogueState(), NOON_NS), is_pretty=is_pretty))
    return path.name


def changes(said: str) -> list[tuple[str, str]]:
    return [(change["what"], change["name"]) for process in json.loads(said)["processes"] for change in process["changes"]]


def test_two_documents_are_compared_one_of_them_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = printed(tmp_path / "a.json", "wan", "vae"), printed(tmp_path / "b.json", "wan", "clip", is_pretty=True)
    assert cli.main(["diff", one, other, "--json"]) == 0
    assert changes(capsys.readouterr().out) == [("went", "vae"), ("came", "clip")]
    assert cli.main(["diff", one, other]) == 0
    assert "\n  went  vae   1.0 GB in host memory\n  came  clip  1.0 GB in host memory\n" in capsys.readouterr().out
    assert cli.main(["diff", one, other, "--markdown"]) == 0
    assert "| where | what | name | change |" in capsys.readouterr().out


def test_one_document_may_come_from_stdin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = printed(tmp_path / "a.json", "wan"), printed(tmp_path / "b.json")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / other).read_bytes())))
    assert cli.main(["diff", one, "-", "--json"]) == 0
    assert changes(capsys.readouterr().out) == [("went", "wan")]


def test_two_moments_of_a_recording_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_recording(tmp_path / "r.ndjson.gz", [(0, holding("wan")), (60, holding("wan", "vae")), (120, holding("vae"))])
    assert cli.main(["diff", "r.ndjson.gz", "--json"]) == 0
    assert changes(capsys.readouterr().out) == [("went", "wan"), ("came", "vae")]
    assert cli.main(["diff", "r.ndjson.gz", "--from", "1m", "--json"]) == 0
    assert changes(capsys.readouterr().out) == [("went", "wan")]
    assert cli.main(["diff", "r.ndjson.gz", "--to", "1m", "--json"]) == 0
    assert changes(capsys.readouterr().out) == [("came", "vae")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.json", "missing.json"], "No such file"),
        (["a.json", "."], "is no file"),
        (["a.json", "cut.json"], "cut.json: its end is missing"),
        (["a.json", "newer.json"], "newer.json: needs a newer gpumodels-tui"),
        (["a.json", "huge.json"], "huge.json: is larger than 64 MB"),
        (["a.json", "r.ndjson.gz"], "is compressed; give a recording alone"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(tmp_path / "a.json", "wan")
    (tmp_path / "cut.json").write_text((tmp_path / "a.json").read_text()[:200])
    (tmp_path / "newer.json").write_text('{"schema": 2}')
    with (tmp_path / "huge.json").open("wb") as huge:
        huge.truncate(MOST_BYTES + 1)
    a_recording(tmp_path / "r.ndjson.gz", [(0, holding("wan"))])
    assert cli.main(["diff", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.json"], "a.json: is no recording; name the later document, too"),
        (["-"], "a second document is needed"),
        (["-", "-"], "only one of the two"),
        (["a.json", "b.json", "--from", "1m"], "for one recording"),
        (["r.ndjson.gz", "--from", "soon"], "is no time"),
        (["r.ndjson.gz", "--from", "0s"], "--from is not before --to"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(tmp_path / "a.json", "wan")
    a_recording(tmp_path / "r.ndjson.gz", [(0, holding("wan")), (60, holding())])
    assert cli.main(["diff", *arguments]) == 2
    assert said in capsys.readouterr().err
