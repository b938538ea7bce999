"""Tests of what the worker answers, here in this process, and of what a hostile file costs it in its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.watch import Catalogue
from gpumodels_tui.headers import safetensors_header
from gpumodels_tui.headers.formats import suffix_of
from gpumodels_tui.headers.header_reader import WORKER, HeaderWorker
from gpumodels_tui.headers.header_worker import HeaderReader, Worker
from gpumodels_tui.headers.headers import FileHeader, Reply, Request, UnreadableError, Wanted, frame
from gpumodels_tui.headers.stored_tensors import StoredTensors
from gpumodels_tui.view.enrichment import enriched, facts_from_files
from gpumodels_tui.view.model_facts import facts_of, raw_metadata
from model_files import framed, safetensors_bytes, titled, write_model
from snapshots import a_model
from views import a_row

READERS = {".safetensors": HeaderReader(safetensors_header.recognises, safetensors_header.read, safetensors_header.read_values)}


def reply_about(path: Path | str, suffix: str | None = ".safetensors") -> Reply:
    return Worker(READERS).answer(Request(os.fsencode(path), suffix))


def write_square(path: Path, *firsts: float) -> Path:
    """A file of four-by-four tensors `w0`, `w1`, …, each counting up from its first value."""
    data = b"".join(struct.pack("<16f", *(first + number for number in range(16))) for first in firsts)
    header = {
        f"w{number}": {"dtype": "F32", "shape": [4, 4], "data_offsets": [64 * number, 64 * number + 64]}
        for number in range(len(firsts))
    }
    path.write_bytes(framed(json.dumps(header).encode()) + data)
    return path


def wanted_square(number: int, *firsts: float, shape: tuple[int, ...] = (4, 4)) -> Wanted:
    samples = (
        TensorSample(f"w{one}", "float32", shape, struct.pack("<16f", *(first + number for number in range(16))))
        for one, first in enumerate(firsts)
    )
    return Wanted(number, Fingerprint(tuple(samples), 0))


def test_a_files_table_of_tensors_is_parsed_once_for_its_header_and_for_all_models_that_may_be_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_square(tmp_path / "m.safetensors", 1.0, 50.0)
    parsed: list[int] = []
    read: list[str] = []
    entries, stored = safetensors_header._entries, StoredTensors.read

    def parsing(descriptor: int, length: int) -> Mapping[str, Any]:
        parsed.append(length)
        return entries(descriptor, length)

    def reading(self: StoredTensors, key: str, start: int, count: int) -> bytes:
        read.append(key)
        return stored(self, key, start, count)

    monkeypatch.setattr(safetensors_header, "_entries", parsing)
    monkeypatch.setattr(StoredTensors, "read", reading)
    new_fingerprints = (wanted_square(7, 1.0, 50.0), wanted_square(8, 1.0, 2.0), wanted_square(9, 1.0, shape=(9, 9)))
    worker = Worker(READERS)
    reply = worker.answer(Request(os.fsencode(path), ".safetensors", (7, 8, 9, 7), new_fingerprints))
    assert reply.header is not None
    assert reply.matches == (Match(2, 2), Match(1, 2), None, Match(2, 2))
    assert (len(parsed), sorted(read)) == (1, ["w0", "w1"])
    again = worker.answer(Request(os.fsencode(path), ".safetensors", (8, 7), is_read=False))
    assert (again.header, again.matches) == (None, (Match(1, 2), Match(2, 2)))


def test_what_there_is_no_time_for_is_left_out_of_the_reply_but_never_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumodels_tui.headers.header_worker.COMPARING_SECONDS", -1.0)
    path = write_square(tmp_path / "m.safetensors", 1.0)
    new_fingerprints = (wanted_square(1, 1.0), wanted_square(2, 1.0))
    worker = Worker(READERS)
    assert worker.answer(Request(os.fsencode(path), ".safetensors", (1, 2), new_fingerprints)).matches == (Match(1, 1),)
    assert worker.answer(Request(os.fsencode(path), ".safetensors", (2, 1), is_read=False)).matches == (Match(1, 1),)


def test_what_is_no_regular_file_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo, directory, named_socket = tmp_path / "f.safetensors", tmp_path / "d.safetensors", tmp_path / "s"
    os.mkfifo(fifo)
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(named_socket))
        monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
        for path in (fifo, directory, named_socket, Path("/dev/null")):
            assert not stat.S_ISREG(path.stat().st_mode)
            assert reply_about(path) == Reply(reason="not a regular file")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m.safetensors")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert reply_about(path) == Reply(reason="permission denied")


def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    assert reply_about(tmp_path / "gone.safetensors") == Reply(reason="no such file or directory")


def test_a_file_name_that_is_no_unicode_is_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.safetensors"
    Path(os.fsdecode(path)).write_bytes(safetensors_bytes())
    assert reply_about(os.fsdecode(path)).header is not None


def test_a_blob_without_a_suffix_is_recognised_by_its_beginning(tmp_path: Path) -> None:
    blob = tmp_path / "0f3a"
    blob.write_bytes(safetensors_bytes(metadata={"title": "from the hub"}))
    header = reply_about(blob, None).header
    assert header is not None
    assert header.metadata == {"title": "from the hub"}


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("maximum recursion depth exceeded")])
def test_a_header_that_takes_too_much_memory_is_the_files_fault(tmp_path: Path, error: Exception) -> None:
    def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
        raise error

    worker = Worker({".safetensors": HeaderReader(safetensors_header.recognises, read)})
    reply = worker.answer(Request(os.fsencode(write_model(tmp_path / "m.safetensors")), ".safetensors"))
    assert reply == Reply(reason=f"its header takes too much memory ({type(error).__name__})")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickled checkpoint", b"GGUF\x03\0\0\0\0\0\0\0{", bytes(100)])
def test_a_file_of_another_format_is_neither_read_nor_blamed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    assert reply_about(path, None) == Reply()


def entries(count: int, entry: str) -> bytes:
    return b"{" + ",".join(entry.replace("N", str(number)) for number in range(count)).encode() + b"}"


def stated(value: object) -> bytes:
    return framed(json.dumps({"__metadata__": value}).encode())


def gguf(pairs: int, tensors: int, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + rest


def gguf_tensor(number: int) -> bytes:
    return struct.pack("<QIIQIQ", 4, number, 1, number, 0, 0)


SHAPED = '"N":{"dtype":"F32","shape":[0,N],"data_offsets":[0,0]}'


def gguf_pair(key: str, value: bytes) -> bytes:
    name = key.encode()
    return struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, len(value)) + value


def config(value: object) -> bytes:
    return json.dumps(value).encode()


EVIL: Final = {
    "control sequences": "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x7f",
    "markup": "[bold red]x[/] [link=file:///etc/passwd]y[/link] [/nope]",
    "right-to-left marks": "\u202egnp.exe\u2066\u200f\u061c",
    "NUL": "a\x00b\x00",
}
"""What steers a terminal or deceives an eye."""


HOSTILE: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    **{kind: (".safetensors", partial(stated, {"modelspec.title": text, text: text})) for kind, text in EVIL.items()},
    **{f"megabytes of {kind}": (".safetensors", partial(stated, {"c": text * 100_000})) for kind, text in EVIL.items()},
    **{
        f"{kind} in GGUF": (".gguf", partial(gguf, 1, 0, gguf_pair("general.name", text.encode()))) for kind, text in EVIL.items()
    },
    **{f"{kind} in a config": (".json", partial(config, {"_name_or_path": text, text: text})) for kind, text in EVIL.items()},
    "a value of 10 MB": (".safetensors", lambda: stated({"c": "x" * 10_000_000})),
    "a value of 10 MB in GGUF": (".gguf", lambda: gguf(1, 0, gguf_pair("general.name", b"x" * 10_000_000))),
    "a config of 10 MB": (".json", lambda: config({"a": "x" * 10_000_000})),
    "a key of 10 MB": (".safetensors", lambda: stated({"x" * 10_000_000: "c"})),
    "100,000 keys": (".safetensors", lambda: stated({f"k{number}": "v" for number in range(100_000)})),
    "100,000 keys in GGUF": (".gguf", lambda: gguf(100_000, 0, b"".join(gguf_pair(f"k{n}", b"v") for n in range(100_000)))),
    "100,000 keys in a config": (".json", lambda: config({f"k{number}": "v" for number in range(100_000)})),
    "as many keys as fit": (".safetensors", lambda: framed(b'{"__metadata__":' + entries(880_000, '"N":"v"') + b"}")),
    "as many shapes as fit": (".safetensors", lambda: framed(entries(200_000, SHAPED))),
    "nested JSON": (".safetensors", lambda: framed(b'{"a":' * 2_000_000)),
    "nested JSON in a value": (".safetensors", lambda: stated({"c": "[" * 5_000_000})),
    "nested JSON in a config": (".json", lambda: b'{"a":' * 400_000),
    "invalid UTF-8": (".safetensors", lambda: framed(b'{"__metadata__":{"modelspec.title":"\xff\xfe\xc3"}}')),
    "megabytes of invalid UTF-8": (".safetensors", lambda: framed(b'{"__metadata__":{"c":"' + b"\xff" * 10_000_000 + b'"}}')),
    "invalid UTF-8 in GGUF": (".gguf", lambda: gguf(1, 0, gguf_pair("general.name", b"\xff\xfe\xc3" * 100_000))),
    "invalid UTF-8 in a config": (".json", lambda: b'{"a":"\xff\xfe"}'),
    "lone surrogates": (".safetensors", lambda: framed(b'{"__metadata__":{"modelspec.title":"\\ud800\\udc00\\ud800"}}')),
    "an endless shape": (
        ".safetensors",
        lambda: framed(b'{"a":{"dtype":"U8","shape":[' + b"1," * 6_000_000 + b'1],"data_offsets":[0,1]}}', 1),
    ),
    "a header of 100 MB": (".safetensors", lambda: framed(b" " * 100_000_000)),
    "a header of 2^63": (".safetensors", lambda: struct.pack("<Q", 2**63) + b"{}"),
    "a header of 2^64 - 1": (".safetensors", lambda: struct.pack("<Q", 2**64 - 1) + b"{}"),
    "2^63 keys in GGUF": (".gguf", lambda: gguf(2**63, 0, b"")),
    "a text of 2^63 in GGUF": (".gguf", lambda: gguf(1, 0, struct.pack("<Q", 2**63) + b"k")),
    "a vocabulary of two million": (
        ".gguf",
        lambda: gguf(1, 0, struct.pack("<QcIIQ", 1, b"k", 9, 8, 1_999_999) + bytes(16_000_000)),
    ),
    "100,000 GGUF tensors": (".gguf", lambda: gguf(0, 100_000, b"".join(map(gguf_tensor, range(100_000))))),
}
"""Files by what is evil about them: how their names end, and what stands in them."""


MEASURE: Final = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdin=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, _, used = os.wait4(process.pid, 0)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""
"""Started by a small process: the peak that the system tells of a child begins with its parent's."""


def cost_of_reading(path: Path) -> tuple[float, int]:
    """CPU seconds and peak resident bytes of a worker that reads one file."""
    request = frame(Request(os.fsencode(path), suffix_of(str(path))))
    done = subprocess.run([sys.executable, "-c", MEASURE, *WORKER], input=request, stdout=subprocess.PIPE, check=True)
    seconds, peak_bytes = json.loads(done.stdout)
    return float(seconds), int(peak_bytes)


def write_hostile(directory: Path, kind: str) -> Path:
    suffix, content = HOSTILE[kind]
    path = directory / ("config.json" if suffix == ".json" else f"model{suffix}")
    path.write_bytes(content())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_takes_a_second_and_300_mb_at_most(worker: HeaderWorker, tmp_path: Path, kind: str) -> None:
    path, good = write_hostile(tmp_path, kind), titled(tmp_path / "good.safetensors", "good")
    ordinary, _ = cost_of_reading(good)
    costs = [cost_of_reading(path)]
    while costs[-1][0] - ordinary >= 1.0 and len(costs) < 3:  # other work on the machine only adds to it
        costs.append(cost_of_reading(path))
    assert min(seconds for seconds, _ in costs) - ordinary < 1.0
    assert max(peak_bytes for _, peak_bytes in costs) < 300 * 1024**2
    with contextlib.suppress(UnreadableError):
        header = worker.read(str(path), suffix_of(str(path))).header
        assert header is not None
        assert sum(len(key) + len(value) for key, value in header.metadata.items()) < 300_000
    after = worker.read(str(good), ".safetensors").header
    assert after is not None
    assert after.metadata == {"modelspec.title": "good"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_skipped_or_shown_harmless_and_hides_no_other(tmp_path: Path, kind: str) -> None:
    path, good = write_hostile(tmp_path, kind), titled(tmp_path / "good.safetensors", "good")
    named = path if path.suffix != ".json" else write_model(tmp_path / "model.safetensors")
    state = Catalogue([tmp_path]).read_now([str(named), str(good)], 10.0)
    assert state.by_path[str(good)].metadata == {"modelspec.title": "good"}
    assert all(warning.isprintable() for warning in state.warnings)
    model = a_model("WanModel", files=[named], confidence=0.5, name_source="class")
    one = enriched(model, state)
    name, facts, raw = one.shown_name, facts_from_files(one), one.metadata
    row = a_row(name, facts=facts, metadata=raw, files=[str(named)])
    drawn = [
        name,
        *facts,
        *facts.values(),
        *(text for fact in (*facts_of(row), *raw_metadata(row)) for text in (fact.label, fact.value)),
    ]
    assert all(text.isprintable() and len(text) <= 6_000 for text in drawn)  # a thousand characters, all of them escaped
    assert bool(state.warnings) or path.name in {Path(known).name for known in state.by_path}
    if (text := EVIL.get(kind)) is not None:
        assert facts["title"] == safe_text(text)
        assert raw["modelspec.title"] == text  # as it stands in the file, for whoever asks
