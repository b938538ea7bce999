"""The viewer on terminals of several kinds: few colours, no UTF-8, sent to the background and back."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter
from snapshots import GIB, MIB, WAN, a_device, a_model, a_snapshot
from terminals import Terminal

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

VIEWER = [str(Path(sys.executable).parent / "gpumodels-tui")]
COLOURS = re.compile(r"\x1b\[([0-9;]*)m")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A place with one sidecar's file, whose writer is this test."""
    place = tmp_path / "gpm"
    place.mkdir(mode=0o700)
    models = [
        a_model(WAN, 2 * GIB),
        a_model("模型🚀", 512 * MIB, "model"),
        a_model("MyLoRA", 128 * MIB, "lora", parent=WAN.lower()),
    ]
    writer = SnapshotWriter(place, this_process(), heartbeat_ms=60_000)
    writer.publish(encode(a_snapshot(*models, devices=[a_device("cpu", 3 * GIB)])))
    yield place
    writer.close()


def viewer(directory: Path, *arguments: str, **environment: str) -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in environment.items()), *VIEWER, "--dir", str(directory), *arguments]


def colours_in(screen: str) -> set[str]:
    return {parameter for sequence in COLOURS.findall(screen) for parameter in sequence.split(";")}


@pytest.mark.parametrize("kind", ["linux", "xterm", "screen", "tmux", "xterm-256color"])
def test_rows_show_and_keys_work_on_every_kind_of_terminal(tmp_path: Path, directory: Path, kind: str) -> None:
    with Terminal(tmp_path, viewer(directory, TERM=kind)) as terminal:
        terminal.wait_for(WAN, "MyLoRA", "Host memory")
        terminal.press("t")
        terminal.wait_for("Timeline", "loaded")
        terminal.press("Escape")
        terminal.wait_for("on dev")
        terminal.press("q")
        assert terminal.exit_code() == 0


def test_the_terminals_own_look_keeps_to_sixteen_colours(tmp_path: Path, directory: Path) -> None:
    with Terminal(tmp_path, viewer(directory, COLORTERM="truecolor")) as terminal:
        terminal.wait_for("MyLoRA", "q Quit")
        assert not {"38", "48"} & colours_in(terminal.screen(styled=True))
        terminal.press("?")
        terminal.wait_for("Keys")
        assert not {"38", "48"} & colours_in(terminal.screen(styled=True))
        terminal.press("?")
        terminal.press("q")
        assert terminal.exit_code() == 0


@pytest.mark.parametrize(
    ("environment", "sequence"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, r"\x1b\[[0-9;]*38;2;"),
        ({"TERM": "xterm-256color", "COLORTERM": ""}, r"\x1b\[[0-9;]*38;5;"),
        ({"TERM": "xterm", "COLORTERM": ""}, r"\x1b\[(?:[0-9;]*;)?(?:3|9)[0-7]m"),
    ],
    ids=["truecolor", "256", "16"],
)
def test_a_look_of_its_own_uses_the_colours_there_are(
    tmp_path: Path, directory: Path, environment: dict[str, str], sequence: str
) -> None:
    with Terminal(tmp_path, viewer(directory, "--theme", "dark", **environment)) as terminal:
        terminal.wait_for("MyLoRA")
        styled = terminal.screen(styled=True)
        assert re.search(sequence, styled)
        if environment["TERM"] == "xterm":
            assert not re.search(r"[34]8;[25];", styled)
        terminal.press("q")
        assert terminal.exit_code() == 0


@pytest.mark.parametrize(
    ("arguments", "environment"), [(["--ascii"], {}), ([], {"LC_ALL": "C"}), ([], {"LC_ALL": "", "LANG": "C"})]
)
def test_ascii_is_all_there_is_where_it_was_asked_for_or_the_locale_has_no_more(
    tmp_path: Path, directory: Path, arguments: list[str], environment: dict[str, str]
) -> None:
    with Terminal(tmp_path, viewer(directory, *arguments, **environment)) as terminal:
        screen = terminal.wait_for(WAN, "MyLoRA", "??????")
        assert screen.isascii()
        terminal.press("?")
        assert terminal.wait_for("Keys", "Choose a device").isascii()
        terminal.press("?")
        terminal.wait_until(lambda screen: "Esc closes" not in screen, "help stays")
        terminal.press("t")
        assert terminal.wait_for("Timeline", "loaded").isascii()
        terminal.press("q")
        assert terminal.exit_code() == 0


WIDE = [
    "plain",
    "模型🚀模型",
    "モデル",
    "한국어",
    "ｆｕｌｌ",
    "👩‍👩‍👧‍👦 family",
    "👍🏽 skin",
    "☂️ rain",
    "1️⃣ key",
    "🇩🇪 flag",
    "e\u0301\u0301",
    "ไทย",
]


def test_wide_characters_and_emoji_line_up_as_the_terminal_counts(tmp_path: Path) -> None:
    place = tmp_path / "gpm"
    place.mkdir(mode=0o700)
    writer = SnapshotWriter(place, this_process(), heartbeat_ms=60_000)
    models = [a_model(name, 3 * GIB, id=str(number)) for number, name in enumerate(WIDE)]
    writer.publish(encode(a_snapshot(*models, devices=[a_device("cpu", 3 * len(WIDE) * GIB)])))
    try:
        with Terminal(tmp_path, viewer(place)) as terminal:
            terminal.wait_for("plain", "ไทย")
            columns = terminal.columns_of("checkpoint")
            assert len(columns) == len(WIDE)
            assert len(set(columns)) == 1
            terminal.press("t")
            terminal.wait_for("Timeline", "ไทย")
            columns = terminal.columns_of("3.0 GB")
            assert len(columns) >= len(WIDE) - 4
            assert len(set(columns)) == 1
            terminal.press("q")
            assert terminal.exit_code() == 0
    finally:
        writer.close()


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(tmp_path: Path, directory: Path) -> None:
    with Terminal(tmp_path, ["env", "PS1=ready> ", "bash", "--norc", "-i"]) as terminal:
        terminal.wait_for("ready>")
        terminal.press(f"{shlex.join([*VIEWER, '--dir', str(directory)])}", "Enter")
        terminal.wait_for("MyLoRA")
        terminal.press("C-z")
        terminal.wait_for("Stopped", "ready>")
        assert not terminal.is_on_alternate_screen()
        terminal.press("stty -a | tr ' ' '\\n' | grep -c -e '^icanon' -e '^echo$'", "Enter")
        terminal.wait_until(lambda screen: re.search(r"^2$", screen, re.MULTILINE) is not None, "the terminal is still raw")
        terminal.press("fg", "Enter")
        terminal.wait_until(lambda screen: "MyLoRA" in screen and "Stopped" not in screen, "it doesn't come back")
        terminal.press("Enter")
        terminal.wait_for("No layers are known")
        terminal.press("q")
        terminal.wait_until(lambda screen: screen.rstrip().endswith("ready>"), "it doesn't end")
        assert "Traceback" not in terminal.screen()


def test_a_dumb_terminal_gets_the_table(tmp_path: Path, directory: Path) -> None:
    with Terminal(tmp_path, viewer(directory, TERM="dumb"), columns=160) as terminal:
        assert terminal.exit_code() == 0
        assert WAN in terminal.screen()
        assert "TERM=dumb" in terminal.screen()
