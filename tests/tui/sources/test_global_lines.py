"""Where a global variable is assigned: the line if one statement alone can have done it, else none."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpumodels_tui.sources.asking import Chain, Found
from gpumodels_tui.sources.global_lines import MAX_BYTES, line_of_global, source_unchanged_since, with_lines
from snapshots import NOON_NS, a_process, a_process_state, a_snapshot


@pytest.mark.parametrize(
    "source",
    [
        "import torch\npipe = load()\n",
        "\npipe: Pipe = load()\npipe.unet = 3\n",
        "if __name__ == '__main__':\n    pipe = load()\n",
        "with torch.no_grad():\n    pipe = load()\n",
        "x = 1\nvae, pipe = load()\n",
        "x = 1\nfirst = pipe = load()\n",
        "x = 1\n(vae, [pipe]) = load()\n",
        "pipe = None\npipe = load()\n",
        "x = 1\nif x: pipe = load(); y = 2\n",
        "x = 1\nprint(pipe := load())\n",
        "x = 1\nfor pipe in load(): pass\n",
        "x = 1\nwith load() as pipe: pass\n",
        "def f(): pipe = 3\npipe = load()\ndef g():\n    pipe = 4\n",
        "x = 'pipe = 1'\npipe = load(pipe=1, f=lambda pipe=2: pipe)\n",
        "cache[pipe] = pipe == 3\npipe = load()\n",
        "x = '''\npipe = 1'''; pipe = load()\n",
        "del x\npipe = load(); del y\n",
        "x = 1\nclass pipe: pass\n",
        "x = 1\nimport a as pipe\n",
        "pipe: Pipe\npipe = load()\n",
        "cache[pipe]: int = f(pipe, key=pipe)\npipe = [p for p in load()]\n",
        "async def f(): pipe = 1\npipe = load()\n",
    ],
)
def test_the_only_assignment_is_found(source: str) -> None:
    assert line_of_global(source, "pipe") == 2


@pytest.mark.parametrize(
    "source",
    [
        "pipe = a()\npipe = b()\n",
        "if x:\n    pipe = a()\nelse:\n    pipe = b()\n",
        "pipe = a()\npipe += 1\n",
        "pipe = a()\ndef f():\n    global pipe\n    pipe = b()\n",
        "pipe = a()\ndef f(): global pipe; pipe = b()\n",
        "pipe = a()\nfrom all import *\n",
        "pipe = a()\nmatch x:\n    case pipe:\n        pass\n",
        "pipe = a()\nfor pipe in b(): pass\n",
        "pipe = a()\nimport pipe\n",
        "pipe = a()\nx = (pipe := b())\n",
        "def f():\n    pipe = 1\n",
        "class A:\n    pipe = 1\n",
        "class A: pipe = 1\n",
        "a.pipe = 1\npipe.x = 1\npipe[0] = 1\nf(pipe=1)\nx = lambda pipe=1: 0\n",
        "cache[pipe] = 1\n",
        "if (lambda: 0)(): pipe = 1\n",
        "pipe = None\n",
        "globals()['pipe'] = 1\n",
        "pipe = (\n",
        "\x00pipe = 1\n",
        "  pipe = 1\n pipe = 2\n",
        "",
    ],
)
def test_where_it_is_not_certain_there_is_no_line(source: str) -> None:
    assert line_of_global(source, "pipe") is None


def test_a_source_of_a_hostile_shape_is_given_up_quickly() -> None:
    for source in ("(" * 100_000 + "pipe = 1", "pipe = " + "[" * 100_000, "".join(" " * n + "if x:\n" for n in range(99)) + "x"):
        assert line_of_global(source, "pipe") is None


def a_file(tmp_path: Path, content: bytes = b"x = 1\npipe = load()\n", name: str = "app.py") -> Path:
    file = tmp_path / name
    file.write_bytes(content)
    os.utime(file, ns=(NOON_NS, NOON_NS))
    return file


def test_only_a_small_regular_file_that_is_as_it_was_is_read(tmp_path: Path) -> None:
    file = a_file(tmp_path)
    assert source_unchanged_since(str(file), NOON_NS) == "x = 1\npipe = load()\n"
    assert source_unchanged_since(str(file), NOON_NS - 1) is None
    (tmp_path / "link.py").symlink_to(file)
    os.mkfifo(tmp_path / "fifo.py")
    a_file(tmp_path, b"#" * (MAX_BYTES + 1), "large.py")
    a_file(tmp_path, b"\xff\xfe", "bytes.py")
    a_file(tmp_path, b"x = 1", "app.txt")
    (tmp_path / "directory.py").mkdir()
    for name in ("link.py", "fifo.py", "large.py", "bytes.py", "app.txt", "directory.py", "missing.py", "nul\0.py"):
        assert source_unchanged_since(str(tmp_path / name), 2 * NOON_NS) is None
    assert source_unchanged_since("app.py", 2 * NOON_NS) is None


def test_the_line_stands_behind_the_files_name(tmp_path: Path) -> None:
    file = a_file(tmp_path)
    process = replace(a_process(pid=os.getpid()), started_at_ns=NOON_NS)
    state = a_process_state(a_snapshot(process=process))
    chain = Chain("global pipe in __main__ (app.py) → .unet", str(file), "pipe")
    found = Found(chains=(chain, Chain("class Settings"), Chain("global x in app (app.py)", str(file), "other")))
    texts = [one.text for one in with_lines(found, state).chains]
    assert texts == ["global pipe in __main__ (app.py:2) → .unet", "class Settings", "global x in app (app.py)"]
    edited = a_process_state(a_snapshot(process=replace(process, started_at_ns=NOON_NS - 1)))
    assert with_lines(found, edited) == found


def test_of_a_process_with_other_files_nothing_is_read(tmp_path: Path) -> None:
    file = a_file(tmp_path)
    process = replace(a_process(pid=os.getpid()), started_at_ns=NOON_NS)
    found = Found(chains=(Chain("global pipe in __main__ (app.py)", str(file), "pipe"),))
    for state in (
        a_process_state(a_snapshot(process=process), is_local=False),
        a_process_state(a_snapshot(process=process), pid=2**22 + 1),
        a_process_state(None),
    ):
        assert with_lines(found, state) is found
