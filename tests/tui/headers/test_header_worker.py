"""Tests of the header worker: a real process, and what is done when it hangs, dies or never starts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import pytest

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.watch import Catalogue
from gpumodels_tui.headers.formats import suffix_of
from gpumodels_tui.headers.header_reader import WANTED_AT_ONCE, WORKER, HeaderWorker, NoWorkerError, TimedOutError
from gpumodels_tui.headers.headers import Request, UnreadableError, Wanted, frame
from gpumodels_tui.view.enrichment import enrich, merged_metadata
from gpumodels_tui.view.model_facts import facts_of, raw_metadata
from model_files import framed, titled, write_model
from processes import wait_until
from snapshots import a_model
from views import a_row

pytestmark = pytest.mark.slow


@pytest.fixture
def worker() -> Iterator[HeaderWorker]:
    worker = HeaderWorker()
    yield worker
    worker.close()


def title_of(worker: HeaderWorker, path: Path) -> str:
    header = worker.read(str(path), ".safetensors").header
    assert header is not None
    return header.metadata["modelspec.title"]


def test_no_file_no_process(worker: HeaderWorker) -> None:
    assert worker.pid is None


def test_files_are_read_by_one_modest_process_without_a_terminal(worker: HeaderWorker, tmp_path: Path) -> None:
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    process = psutil.Process(worker.pid)
    assert title_of(worker, titled(tmp_path / "b.safetensors", "B")) == "B"
    assert worker.pid == process.pid
    assert process.nice() > psutil.Process().nice()
    assert os.getsid(process.pid) == process.pid


def test_a_hanging_worker_is_given_up_and_replaced(tmp_path: Path) -> None:
    worker = HeaderWorker(read_seconds=0.3)
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    hanging = worker.pid
    assert hanging is not None
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(TimedOutError, match=r"no answer within 0\.3 s"):
        title_of(worker, path)
    assert not psutil.pid_exists(hanging)
    assert title_of(worker, path) == "A"
    worker.close()


def test_a_worker_that_died_since_the_last_file_is_no_files_fault(worker: HeaderWorker, tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert title_of(worker, path) == "A"


def a_file_and_its_values(path: Path) -> tuple[Path, Wanted]:
    data = struct.pack("<16f", *range(16))
    path.write_bytes(framed(b'{"w":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]}}') + data)
    return path, Wanted(5, Fingerprint((TensorSample("w", "float32", (4, 4), data),), 0))


def test_a_fingerprint_is_told_to_each_worker_once(worker: HeaderWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Request] = []

    def framing(message: Request) -> bytes:
        requests.append(message)
        return frame(message)

    monkeypatch.setattr("gpumodels_tui.headers.header_reader.frame", framing)
    path, wanted = a_file_and_its_values(tmp_path / "a.safetensors")
    for _ in range(2):
        assert worker.read(str(path), ".safetensors", [wanted]).matches == (Match(1, 1),)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(worker.pid)], 10)
    for _ in range(2):
        assert worker.compare([wanted], [str(path)], ".safetensors") == (Match(1, 1),)
    assert [len(request.told) for request in requests[-3:]] == [0, 1, 0]  # the first of them went to the worker that was dead
    assert sum(len(request.told) for request in requests) == 2


def test_a_worker_that_knows_too_many_fingerprints_forgets_them(
    worker: HeaderWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumodels_tui.headers.header_reader.MAX_TOLD", 2)
    path, wanted = a_file_and_its_values(tmp_path / "a.safetensors")
    for number in (1, 2, 3, 1, 2, 3):
        assert worker.compare([replace(wanted, number=number)], [str(path)], ".safetensors") == (Match(1, 1),)


def test_of_more_fingerprints_than_one_request_holds_the_first_are_answered(worker: HeaderWorker, tmp_path: Path) -> None:
    path, wanted = a_file_and_its_values(tmp_path / "a.safetensors")
    many = [replace(wanted, number=number) for number in range(WANTED_AT_ONCE + 10)]
    assert worker.compare(many, [str(path)], ".safetensors") == (Match(1, 1),) * WANTED_AT_ONCE


def test_a_file_that_takes_all_memory_ends_its_reader_not_its_neighbours(tmp_path: Path) -> None:
    small = "from gpumodels_tui.headers import header_worker as it; it.MEMORY_LIMIT_BYTES = 64 << 20; it.main()"
    worker = HeaderWorker((sys.executable, "-c", small))
    bomb = tmp_path / "bomb.safetensors"
    entries = ",".join(f'"t{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for number in range(200_000))
    bomb.write_bytes(framed(b"{" + entries.encode() + b"}"))
    with pytest.raises(
        UnreadableError, match=r"the reader process ended while reading it: memory allocation of \d+ bytes failed"
    ):
        worker.read(str(bomb), ".safetensors")
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    worker.close()


def test_a_giant_metadata_value_arrives_cut(worker: HeaderWorker, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", metadata={"comment": "x" * 10_000_000, "modelspec.title": "A"})
    header = worker.read(str(path), ".safetensors").header
    assert header is not None
    assert header.metadata["modelspec.title"] == "A"
    assert len(header.metadata["comment"]) < 2_000


def test_a_large_sparse_file_opens_under_the_memory_limit(worker: HeaderWorker, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    size = 40 * 1024**3
    header = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    path.write_bytes(framed(json.dumps(header).encode()))
    os.truncate(path, path.stat().st_size + size)
    read = worker.read(str(path), ".safetensors").header
    assert read is not None
    assert read.dtypes == {"uint8": size}


def test_a_worker_that_cannot_start_says_why_and_blames_no_file(tmp_path: Path) -> None:
    worker = HeaderWorker((sys.executable, "-c", "import a_package_that_is_not_there"))
    with pytest.raises(NoWorkerError, match="No module named 'a_package_that_is_not_there'"):
        worker.read(str(titled(tmp_path / "a.safetensors", "A")), ".safetensors")
    worker.close()


def test_a_program_that_is_not_there_is_said_too(tmp_path: Path) -> None:
    worker = HeaderWorker((str(tmp_path / "python"),))
    with pytest.raises(NoWorkerError, match="No such file"):
        worker.read(str(tmp_path), ".safetensors")


def test_the_current_directory_is_not_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('hostile')")
    (tmp_path / "gpumodels_tui.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    worker = HeaderWorker()
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    worker.close()


def test_closing_ends_the_process_and_nothing_is_read_after_it(worker: HeaderWorker, tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    process = psutil.Process(worker.pid)
    worker.close()
    assert not process.is_running()
    with pytest.raises(NoWorkerError):
        title_of(worker, path)


def test_the_worker_ends_with_a_viewer_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from gpumodels_tui.headers.header_reader import HeaderWorker\n"
        "worker = HeaderWorker()\n"
        "worker.read(sys.argv[1], '.safetensors')\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    path = titled(tmp_path / "a.safetensors", "A")
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        pid = int(viewer.stdout.readline())
        viewer.kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


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


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_header_takes_a_second_and_300_mb_at_most(worker: HeaderWorker, tmp_path: Path, kind: str) -> None:
    path, good = write_hostile(tmp_path, kind), titled(tmp_path / "good.safetensors", "good")
    ordinary, _ = cost_of_reading(good)
    seconds, peak_bytes = cost_of_reading(path)
    assert seconds - ordinary < 1.0
    assert peak_bytes < 300 * 1024**2
    with contextlib.suppress(UnreadableError):
        header = worker.read(str(path), suffix_of(str(path))).header
        assert header is not None
        assert sum(len(key) + len(value) for key, value in header.metadata.items()) < 300_000
    assert title_of(worker, good) == "good"


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_skipped_or_shown_harmless_and_hides_no_other(tmp_path: Path, kind: str) -> None:
    path, good = write_hostile(tmp_path, kind), titled(tmp_path / "good.safetensors", "good")
    named = path if path.suffix != ".json" else write_model(tmp_path / "model.safetensors")
    state = Catalogue([tmp_path]).read_now([str(named), str(good)], 10.0)
    assert state.by_path[str(good)].metadata == {"modelspec.title": "good"}
    assert all(warning.isprintable() for warning in state.warnings)
    model = a_model("WanModel", files=[named], confidence=0.5, name_source="class")
    name, facts = enrich(model, state)
    raw = merged_metadata(model, state)
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
