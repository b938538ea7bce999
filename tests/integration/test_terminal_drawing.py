"""What tables draw on the terminal themselves leaves the screen as Textual would draw it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.codec import encode
from snapshots import GIB, MIB, a_device, a_model, a_process, a_snapshot, published
from terminals import Terminal

STEADY: Final = 5
"""So many times in a row the terminal shows the same, a tenth of a second apart."""
STEPS: Final = (
    (),
    ("Down",),
    ("/", "m", "o"),
    ("Escape", "Escape", "End"),
    ("0",),
    ("Space",),
    ("Space",),
    ("i",),
    ("Escape",),
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
def test_after_every_step_the_screen_is_that_of_a_new_drawing(tmp_path: Path, columns: int, lines: int) -> None:
    directory = tmp_path / "files"
    directory.mkdir(mode=0o700)

    def snapshot(step: int) -> bytes:
        models = [
            a_model(f"model-{number:02d}", (number * 7 + step * 5) % 19 * 100 * MIB + MIB, device="cpu", loaded_at_ns=1)
            for number in range(12 + step % 3)
        ]
        held = sum(model.resident_bytes for model in models)
        return encode(a_snapshot(*models, process=a_process("worker", 4711), devices=[a_device("cpu", held)]))

    writer = published(
        directory, a_snapshot(a_model("model-00", GIB, device="cpu"), devices=[a_device("cpu", GIB)]), heartbeat_ms=60_000
    )
    command = [sys.executable, "-m", "gpumodels_tui", "--dir", str(directory), "--models", str(directory), "--interval", "0.2"]
    with Terminal(tmp_path, command, columns, lines) as terminal:
        terminal.wait_for("Filter", "model-00")
        for step, keys in enumerate(STEPS):
            writer.publish(snapshot(step))
            settled(terminal)
            for key in keys:
                terminal.press(key)
                settled(terminal)
            before = settled(terminal)
            terminal.resize(columns, lines - 1)
            settled(terminal)
            terminal.resize(columns, lines)
            assert before == settled(terminal), (step, keys)
    writer.close()


def settled(terminal: Terminal) -> list[str]:
    """What the terminal shows, but for host memory, once it has stayed the same for longer than two polls take.

    Something stands in its last row then: after a resize that row is empty until the program, which may be late, has drawn.
    """
    shown: list[list[str]] = []

    def is_steady(screen: str) -> bool:
        words = ("Host memory", "free", "other use")
        shown.append([line for line in screen.splitlines() if not any(word in line for word in words)])
        time.sleep(0.1)
        is_drawn = bool(screen.splitlines()[-1].strip())
        return is_drawn and len(shown) > STEADY and all(one == shown[-1] for one in shown[-STEADY:])

    terminal.wait_until(is_steady, "never settles")
    return shown[-1]
