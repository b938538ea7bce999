"""What is printed arrives, or is said not to."""

from __future__ import annotations

import io
import sys

import pytest

from gpumodels_tui.printing import OutputError, say, write


def test_data_goes_to_stdout_and_lines_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    write("data\n")
    say("a line")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("data\n", "gpumodels-tui: a line\n")


def test_without_an_output_writing_is_an_error_and_saying_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    say("to nobody")
    with pytest.raises(OutputError, match="it is closed"):
        write("data")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(OutputError, match="closed file"):
        write("data")
