"""Real processes without a sidecar that have model files mapped or open, as llama.cpp and others do; some end when told to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from processes import run_python

OTHER_USER: Final = 65_534
PROGRAM: Final = """
import mmap, os, socket, sys
how, uid, paths = sys.argv[1], int(sys.argv[2]), sys.argv[3:sys.argv.index("--") if "--" in sys.argv else None]
kept = []
for path in paths:
    file = open(path, "r+b" if how == "written" else "rb")
    kept.append(file)
    if how == "mapped":
        kept.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        file.close()
if how == "listening":
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
if how == "mapped" and os.environ.get("NEW_ROOT"):
    os.chroot(os.environ["NEW_ROOT"])
if uid:
    os.setgid(uid)
    os.setuid(uid)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def reading(how: str, *paths: Path, arguments: Sequence[str] = (), uid: int = 0, name: str | None = None) -> Iterator[int]:
    """The pid of a process that has the files `mapped`, `open` or open to be `written`, with these arguments after others.

    Args:
        how: as above.
        paths: the files.
        arguments: what its command ends with, for readers of commands.
        uid: whose the process becomes; 0 for the tests' user.
        name: what its command begins with, instead of Python's path.
    """
    command = [name or sys.executable, "-c", PROGRAM, how, str(uid), *map(str, paths), "--", *arguments]
    process = subprocess.Popen(command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def a_gguf_file(path: Path, name: str = "Qwen3 8B", size: int = 4096) -> Path:
    """A GGUF file that states this name, with nothing but padding in it."""
    gguf, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name(name)
    writer.add_file_type(15)
    writer.add_tensor("output.weight", numpy.zeros(size // 4, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


AS_OTHER_USER: Final = f"""
import os, sys
from gpumodels_tui.outside.facts import Wanted
from gpumodels_tui.outside.looking import facts_of
facts_of(Wanted(os.getpid(), ("x",), None))
os.setgid({OTHER_USER})
os.setuid({OTHER_USER})
facts = facts_of(Wanted(int(sys.argv[1]), tuple(sys.argv[2:]), None))
print([(model.known_by.value, model.files, model.is_here) for model in facts.models], facts.unread)
"""


def seen_by_other_user(pid: int, *command: str) -> str:
    """What another user sees of the process and its command: models, and why its files can't be seen."""
    return run_python(AS_OTHER_USER, str(pid), *command).stdout.strip()


def can_become_others() -> bool:
    """Whether the tests may start processes of other users."""
    return os.geteuid() == 0
