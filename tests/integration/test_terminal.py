"""The viewer in a real terminal: rows, keys, exit code, and the terminal as it was before."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.schema import Model
from gpumodels_shared.writer import SnapshotWriter
from snapshots import GIB, MIB, WAN, a_device, a_model, a_process, a_snapshot
from terminals import PATIENCE_SECONDS, Terminal, on_a_pty, read_until
from views import a_wan_tree

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]

VIEWER = [str(Path(sys.executable).parent / "gpumodels-tui")]


def some_models() -> list[Model]:
    return [
        a_model(WAN, 2 * GIB, tree=a_wan_tree(2 * GIB, blocks=4, device="cpu")),
        a_model("VACE-Depth", 512 * MIB, "model", layers=45),
        a_model("MyLoRA", 128 * MIB, "lora", layers=32),
    ]


def payload(models: list[Model]) -> bytes:
    process = a_process("train.py", os.getpid())
    return encode(a_snapshot(*models, process=process, devices=[a_device("cpu", sum(model.resident_bytes for model in models))]))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    place = tmp_path / "gpm"
    place.mkdir(mode=0o700)
    return place


@pytest.fixture
def writer(directory: Path) -> Iterator[SnapshotWriter]:
    """A sidecar's file, held open and fresh by the test."""
    writer = SnapshotWriter(directory, this_process(), heartbeat_ms=60_000)
    writer.publish(payload(some_models()))
    yield writer
    writer.close()


def test_rows_layers_help_and_a_terminal_as_it_was(tmp_path: Path, directory: Path, writer: SnapshotWriter) -> None:
    with Terminal(tmp_path, [*VIEWER, "--dir", str(directory)]) as terminal:
        screen = terminal.wait_for(WAN, "VACE-Depth", "MyLoRA", "Host memory", "2.0 GB")
        assert terminal.is_on_alternate_screen()
        assert max(map(len, screen.splitlines())) <= 80
        terminal.press("Enter")
        terminal.wait_for("WanModel", "blocks", "of parent")
        terminal.press("j", "Right")
        terminal.wait_for("WanAttentionBlock")
        terminal.press("?")
        terminal.wait_for("Keys", "Unfold or fold the layer")
        terminal.press("Escape")
        terminal.wait_until(lambda screen: "Esc closes" not in screen, "help stays")
        terminal.press("Escape")
        terminal.wait_for("VACE-Depth")
        terminal.press("q")
        assert terminal.exit_code() == 0
        settings = terminal.settings().split()
        assert {"echo", "icanon", "isig"} <= set(settings)
        assert not terminal.is_on_alternate_screen()
        assert not terminal.mouse_is_captured()
        assert "Traceback" not in terminal.screen()


def test_models_come_and_go_while_the_cursor_stays(tmp_path: Path, directory: Path, writer: SnapshotWriter) -> None:
    with Terminal(tmp_path, [*VIEWER, "--dir", str(directory)]) as terminal:
        terminal.wait_for("MyLoRA")
        terminal.press("j")
        terminal.wait_for(">▓ VACE-Depth")
        writer.publish(payload([a_model("newcomer", 5 * GIB, "llm"), *some_models()]))
        terminal.wait_for("newcomer", ">▒ VACE-Depth")
        writer.publish(payload(some_models()[1:]))
        terminal.wait_until(lambda screen: WAN not in screen and ">█ VACE-Depth" in screen, "the unloaded model stays")
        terminal.press("C-c")
        assert terminal.exit_code() == 0


def test_a_resized_terminal_is_drawn_anew(tmp_path: Path, directory: Path, writer: SnapshotWriter) -> None:
    with Terminal(tmp_path, [*VIEWER, "--dir", str(directory)]) as terminal:
        terminal.wait_for("MyLoRA")
        terminal.resize(50, 24)
        terminal.wait_for("50×24 is too small")
        terminal.resize(120, 40)
        terminal.wait_for("MyLoRA", "named by", f"train.py {os.getpid()}")
        terminal.press("q")
        assert terminal.exit_code() == 0


def test_an_empty_place_says_where_it_looked(tmp_path: Path, directory: Path) -> None:
    with Terminal(tmp_path, [*VIEWER, "--dir", str(directory)]) as terminal:
        terminal.wait_for("No process with gpumodels", "import gpumodels.auto", "Host memory")
        terminal.press("q")
        assert terminal.exit_code() == 0


def test_redirected_streams_do_not_matter_while_stdout_is_a_terminal(
    tmp_path: Path, directory: Path, writer: SnapshotWriter
) -> None:
    command = f"{shlex.join([*VIEWER, '--dir', str(directory)])} </dev/null 2>{shlex.quote(str(tmp_path / 'log'))}"
    with Terminal(tmp_path, ["sh", "-c", command]) as terminal:
        terminal.wait_for("MyLoRA")
        terminal.press("Enter")
        terminal.wait_for("of parent")
        terminal.press("q")
        assert terminal.exit_code() == 0
    assert (tmp_path / "log").read_bytes() == b""


def test_without_colours_the_cursor_is_still_seen(tmp_path: Path, directory: Path, writer: SnapshotWriter) -> None:
    with Terminal(tmp_path, ["env", "NO_COLOR=1", *VIEWER, "--dir", str(directory)]) as terminal:
        terminal.wait_for(">█ Wan2_2", "MyLoRA")
        styled = terminal.screen(styled=True)
        assert re.search(r"\x1b\[(0;)?7m", styled)
        assert not re.search(r"\x1b\[[0-9;]*3[1-7]m", styled)
        terminal.press("q")
        assert terminal.exit_code() == 0


def click(column: int, line: int) -> bytes:
    """What a terminal sends for one, counted from 1."""
    return f"\x1b[<0;{column};{line}M\x1b[<0;{column};{line}m".encode()


@pytest.mark.skipif(shutil.which("setsid") is None, reason="setsid is not installed")
def test_clicks_of_a_real_terminal_choose_open_and_leave(directory: Path, writer: SnapshotWriter) -> None:
    with on_a_pty([*VIEWER, "--dir", str(directory)], b"Quit") as (process, terminal):
        terminal.write(click(10, 7))
        read_until(terminal, b">\xe2\x96\x93 VACE-Depth")  # the line below the first model is under the cursor
        terminal.write(click(10, 6) * 2)
        read_until(terminal, b"of parent")
        terminal.write(b"?")
        read_until(terminal, b"Keys")
        terminal.write(click(1, 24))
        read_until(terminal, b"of parent")
        terminal.write(b"q")
        assert process.wait(PATIENCE_SECONDS) == 0


def test_in_tmux_a_path_is_said_to_be_sent_with_what_tmux_needs_and_stays_to_be_selected(
    tmp_path: Path, directory: Path, writer: SnapshotWriter
) -> None:
    path = "/srv/models/wan.safetensors"
    writer.publish(payload([a_model(WAN, 2 * GIB, files=[path])]))
    with Terminal(tmp_path, [*VIEWER, "--dir", str(directory)]) as terminal:
        terminal.wait_for(WAN)
        terminal.press("y")
        screen = terminal.wait_for(path, "sent to the terminal's clipboard, if it takes it", "set -g set-clipboard on")
        assert "copied" not in screen
        assert terminal.copied() == ""
        terminal.accept_copies()
        terminal.press("y")
        terminal.wait_until(lambda screen: "set-clipboard" not in screen and path in screen, "what tmux needs is said again")
        terminal.wait_until(lambda screen: terminal.copied() == path, "it did not arrive")


@pytest.mark.skipif(shutil.which("setsid") is None, reason="setsid is not installed")
def test_a_path_is_copied_through_the_terminal(directory: Path, writer: SnapshotWriter) -> None:
    path = "/srv/models/wan.safetensors"
    writer.publish(payload([a_model(WAN, 2 * GIB, files=[path])]))
    with on_a_pty([*VIEWER, "--dir", str(directory)], b"Quit") as (process, terminal):
        terminal.write(b"y")
        sent = read_until(terminal, path.encode())
        assert b"\x1b]52;c;" + base64.b64encode(path.encode()) + b"\a" in sent
        terminal.write(b"q")
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.skipif(shutil.which("setsid") is None, reason="setsid is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_in_order(directory: Path, writer: SnapshotWriter, number: signal.Signals) -> None:
    with on_a_pty([*VIEWER, "--dir", str(directory)], b"MyLoRA") as (process, terminal):
        os.kill(process.pid, number)
        rest = read_until(terminal, b"")
        assert process.wait(PATIENCE_SECONDS) == 0
        assert b"\x1b[?1049l" in rest
        assert b"Traceback" not in rest


@pytest.mark.parametrize(
    "leader",
    [pytest.param(True, marks=pytest.mark.skipif(shutil.which("setsid") is None, reason="setsid is not installed")), False],
)
@pytest.mark.parametrize("screen", [b"", b"t", b"\r", b"/my", b"?"], ids=["overview", "timeline", "layers", "filter", "help"])
def test_a_closed_terminal_ends_it_without_a_word(
    tmp_path: Path, directory: Path, writer: SnapshotWriter, leader: bool, screen: bytes
) -> None:
    log = tmp_path / "log"
    command = f"exec {shlex.join([*VIEWER, '--dir', str(directory)])} 2>{shlex.quote(str(log))}"
    with on_a_pty(["sh", "-c", command], b"MyLoRA", leader=leader) as (process, terminal):
        terminal.write(screen)
        terminal.close()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert log.read_text() == ""
