"""What the filter's line tells its screen, which hears it without having loaded the line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gpumodels_tui.screens import list_screen
from gpumodels_tui.widgets import filter_words
from gpumodels_tui.widgets.filter_words import TypingLeft, WordsTyped


def loaded_with(module: Path) -> set[str]:
    """The modules that it imports when it is itself imported."""
    body = ast.parse(module.read_text()).body
    return {node.module or "" for node in body if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("told", [WordsTyped("vae"), TypingLeft(True)])
def test_what_the_line_tells_reaches_the_screen_that_it_is_on(told: WordsTyped | TypingLeft) -> None:
    assert told.bubble


def test_the_words_come_as_they_were_typed() -> None:
    assert WordsTyped("  VAE 模型 ").words == "  VAE 模型 "


def test_a_screen_knows_the_messages_without_loading_what_one_types_in() -> None:
    assert "gpumodels_tui.widgets.filter_words" in loaded_with(Path(list_screen.__file__))
    for module in (list_screen, filter_words):
        assert not {"textual.widgets", "gpumodels_tui.widgets.filter_line"} & loaded_with(Path(str(module.__file__)))
