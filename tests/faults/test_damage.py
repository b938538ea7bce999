"""Files that are damaged, removed or malicious: each becomes a row with a reason, quickly and in little memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES, encode
from gpumodels_shared.decoding import DecodeError, decode, decode_tree
from gpumodels_shared.layout import HEADER_BYTES, HEARTBEAT_BYTES, HEARTBEAT_OFFSET, SLOT_HEADER_BYTES
from gpumodels_shared.writer import SMALLEST_SLOT_BYTES, SnapshotWriter
from gpumodels_tui.sources.feed import SnapshotFeed
from gpumodels_tui.sources.tailing import TailedFile
from snapshots import a_model, a_snapshot, an_identity, published
from work import Work, counted

Reached = Callable[[str, str], None]

ME: Final = os.geteuid()
HANGS_SECONDS: Final = 30.0
"""Longer than anything here takes on any machine."""
FUZZER: Final = Path(__file__).parent / "programs" / "fuzz_files.py"
SLOT: Final = HEADER_BYTES + SMALLEST_SLOT_BYTES
"""The offset of the slot that holds a small file's first snapshot."""


def followed(path: Path) -> TailedFile:
    """The file, read once by a viewer that has just been started."""
    tail = TailedFile(path, ME)
    tail.refresh(1000.0)
    tail.close()
    return tail


def test_every_bit_of_every_header_may_flip(shared_memory: Path, reached: Reached) -> None:
    writer = published(shared_memory, a_snapshot(a_model("wan")))
    image = writer.path.read_bytes()
    places = [*range(HEADER_BYTES), *range(SLOT, SLOT + SLOT_HEADER_BYTES)]
    checked = {*range(108), *range(HEARTBEAT_OFFSET, HEARTBEAT_OFFSET + HEARTBEAT_BYTES), *range(SLOT, SLOT + SLOT_HEADER_BYTES)}
    refused = shown = 0
    with writer.path.open("r+b", buffering=0) as file:
        for place in places:
            for bit in range(8) if place in checked else (place % 8,):
                file.seek(place)
                file.write(bytes([image[place] ^ 1 << bit]))
                tail = followed(writer.path)
                assert (tail.problem is None) == (tail.snapshot is not None), (place, bit)
                assert (tail.problem is not None) == (place in checked), (place, bit)
                refused += tail.problem is not None
                shown += tail.problem is None
            file.seek(place)
            file.write(image[place : place + 1])
    reached(
        "fuzz",
        f"{refused + shown:,} flipped bits: {refused:,} refused with a reason, {shown:,} in bytes of no meaning, 0 crashes",
    )
    assert followed(writer.path).problem is None
    writer.close()


def test_fuzzed_files_are_shown_or_refused_with_a_reason(shared_memory: Path, reached: Reached, full: bool) -> None:
    count = 1_000_000 if full else 5_000
    command = [sys.executable, "-W", "error", str(FUZZER), str(shared_memory), str(count), str(count)]
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), tests]))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    memory = figures["memory"] / 2**20
    reached(
        "fuzz",
        f"{count:,} fuzzed files: {figures['shown']:,} shown, {count - figures['shown']:,} refused for {len(figures['reasons'])} "
        f"reasons, 0 crashes, slowest {figures['longest'] * 1000:.0f} ms, {memory:.0f} MB",
    )
    assert memory < 350
    assert figures["longest"] < (2 if full else HANGS_SECONDS)
    assert len(figures["reasons"]) > 10
    assert 0.05 < figures["shown"] / count < 0.9


ANY_VALUE: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def paths_into(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in nested maps and arrays."""
    yield path
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths_into(inner, (*path, key))


GOOD: Final = msgpack.unpackb(encode(a_snapshot(a_model("wan"), a_model("vae"))))
PLACES: Final = [path for path in paths_into(GOOD) if path]


@pytest.mark.parametrize("examples", [300])
def test_any_value_in_any_place_is_decoded_or_refused(examples: int, reached: Reached, full: bool) -> None:
    number = 20_000 if full else examples

    @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(PLACES), ANY_VALUE)
    def put(place: tuple[Any, ...], value: Any) -> None:
        document = msgpack.unpackb(msgpack.packb(GOOD))
        at = document
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = value
        with contextlib.suppress(DecodeError):
            decode(msgpack.packb(document))

    put()
    reached("fuzz", f"{number:,} snapshots with any value in any place: 0 crashes")


def text_of_invalid_utf8() -> bytes:
    """A snapshot whose model's name is invalid UTF-8."""
    return encode(a_snapshot(a_model("wan"))).replace(b"\xa3wan", b"\xa3\xff\xfe\xff")


def with_field(**changed: Any) -> bytes:
    """A snapshot with other values for fields of its model."""
    document = msgpack.unpackb(encode(a_snapshot(a_model("wan"))))
    document["models"][0].update(changed)
    packed: bytes = msgpack.packb(document)
    return packed


def with_models(count: int) -> bytes:
    """A snapshot with so many models, each as small as the schema allows."""
    least = {"id": "", "name": "", "kind": "", "class_name": "", "loaded_at_ns": 0, "bytes_by_device": {}, "layers": 0}
    document = msgpack.unpackb(encode(a_snapshot()))
    document["models"] = [{**least, "parameters": 0, "dtypes": {}} for _ in range(count)]
    packed: bytes = msgpack.packb(document)
    return packed


def with_tree(**changed: Any) -> bytes:
    """A snapshot whose layer tree has other values in some columns."""
    tree = {"names": ["", "a"], "depths": [0, 1], "class_names": ["B"], "classes": [0, 0], "parameters": [0, 0]}
    tree |= {"devices": ["cpu"], "dtypes": ["f"], "memory": []}
    return with_field(tree={**tree, **changed})


BOMBS: Final = {
    "array of 4 G entries": b"\xdd\xff\xff\xff\xff",
    "map of 4 G entries": b"\xdf\xff\xff\xff\xff",
    "text of 4 GB": b"\xdb\xff\xff\xff\xff",
    "nested arrays, each of 400,000 entries": b"\xdd\x00\x06\x1a\x80" * 800_000,
    "100,000 deep": b"\x91" * 100_000 + b"\xc0",
    "4 million deep": b"\x91" * (MAX_PAYLOAD_BYTES - 1) + b"\xc0",
    "maps 100,000 deep": b"\x81\xa1a" * 100_000 + b"\xc0",
    "4 million nils": b"\xdd" + struct.pack(">I", MAX_PAYLOAD_BYTES - 5) + b"\xc0" * (MAX_PAYLOAD_BYTES - 5),
    "4 million names": with_field(metadata={})[:-1] + b"\xdd" + struct.pack(">I", 4_000_000) + b"\xa0" * 4_000_000,
    "as many models as there is room for": with_models(18_000),
    "an ext type": b"\xc7\x08\x05" + bytes(8),
    "a timestamp": b"\xd7\xff" + bytes(8),
    "the byte that means nothing": b"\xc1",
    "nothing": b"",
    "a number": b"\x01",
    "invalid UTF-8": text_of_invalid_utf8(),
    "text where bytes are counted": with_field(parameters="many"),
    "a negative size": with_field(bytes_by_device={"cpu": -1}),
    "more than 64 bits can add": with_field(bytes_by_device={"cpu": 2**64 - 1, "cuda:0": 2**64 - 1}, layers=-1),
    "no number": with_field(confidence=float("nan")),
    "absurd depths": with_tree(depths=[0, 7]),
    "a class that isn't there": with_tree(classes=[0, 1 << 40]),
    "memory outside the tree": with_tree(memory=[[1 << 60, 0, 0, 5]]),
    "columns of two lengths": with_tree(names=[""] * 100_000),
    "500,000 layers": with_tree(
        names=[""] * 500_000, depths=[0] + [1] * 499_999, classes=[0] * 500_000, parameters=[0] * 500_000
    ),
}


def file_with(directory: Path, payload: bytes) -> Path:
    """A snapshot file with this payload, valid or not, and correct checksums."""
    writer = SnapshotWriter(directory, an_identity(4711), 1000)
    writer.publish(payload[:MAX_PAYLOAD_BYTES])
    writer.abandon()
    return writer.path


STEPS_AT_MOST: Final = 1_000
"""Steps of Python for a bomb of any size; a small good snapshot takes 400. Passes over the whole payload are made in C."""
FEW_BYTES: Final = HEADER_BYTES + SMALLEST_SLOT_BYTES
"""Bytes that are read beside the payload."""
MEMORY_AT_MOST: Final = 32 * 2**20


def opened(path: Path) -> str | None:
    """What is wrong with the file, or with one of the layer trees in it, which are decoded when they are opened."""
    tail = followed(path)
    assert tail.problem is None or tail.snapshot is None
    try:
        for packed in tail.trees.values():
            decode_tree(packed)
    except DecodeError as error:
        return str(error)
    return tail.problem


def test_bombs_are_refused_with_a_reason_and_little_work(shared_memory: Path, reached: Reached) -> None:
    longest: tuple[float, str] = (0.0, "")
    most = Work()
    for name, payload in BOMBS.items():
        path = file_with(shared_memory, payload)
        times = []
        for _ in range(6):  # the machine may be busy; a bomb is slow each time
            started = time.thread_time()
            problem = opened(path)
            times.append(time.thread_time() - started)
            assert problem, name
            assert "\n" not in problem
            assert len(problem) < 300
        longest = max(longest, (min(times), name))
        with counted(memory=True) as work:
            opened(path)
        assert work.bytes_read <= len(payload) + FEW_BYTES, name  # all of it once at most
        assert work.steps < STEPS_AT_MOST, name
        assert work.peak_bytes < MEMORY_AT_MOST, name
        most = Work(max(most.steps, work.steps), peak_bytes=max(most.peak_bytes, work.peak_bytes))
        path.unlink()
    reached(
        "bombs",
        f"{len(BOMBS)} bombs refused, each with a reason, in {most.steps} steps of Python and {most.peak_bytes / 2**20:.0f} MB "
        f"at most; slowest {longest[0] * 1000:.0f} ms of processor time ({longest[1]})",
    )


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    """Replace the file by something else of the same name."""
    path.unlink()
    make(path)


def removed_with_its_directory(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


PULLS: Final[Mapping[str, Callable[[Path], object]]] = {
    "truncated to 0": lambda path: os.truncate(path, 0),
    "truncated in its slot": lambda path: os.truncate(path, SLOT + 100),
    "extended": lambda path: os.truncate(path, 10 << 30),
    "replaced by text": partial(replaced, make=lambda path: path.write_text("not a snapshot")),
    "replaced by a directory": partial(replaced, make=Path.mkdir),
    "replaced by a symlink": partial(replaced, make=lambda path: path.symlink_to("/etc/passwd")),
    "replaced by a FIFO": partial(replaced, make=os.mkfifo),
    "removed": Path.unlink,
    "directory removed": removed_with_its_directory,
    "made unreadable": lambda path: path.chmod(0),
}


def test_files_are_pulled_away_while_they_are_read(shared_memory: Path, reached: Reached, full: bool) -> None:
    """A thread polls all the while. It ends up showing what is there, and always shows a good neighbouring file."""
    rounds = 200 if full else 5
    reasons: dict[str, set[str]] = {name: set() for name in PULLS}
    slowest = 0.0
    neighbours = shared_memory / "neighbours"
    neighbours.mkdir(mode=0o700)
    neighbour = published(neighbours, a_snapshot(a_model("flux")))
    moments = random.Random(6)
    for _ in range(rounds):
        for name, pull in PULLS.items():
            directory = shared_memory / "files"
            directory.mkdir(mode=0o700)
            writer = published(directory, a_snapshot(a_model("wan")), heartbeat_ms=50)
            stop = threading.Event()
            polled: list[float] = []
            feed = SnapshotFeed([directory, neighbours])

            def poll(feed: SnapshotFeed = feed, stop: threading.Event = stop, polled: list[float] = polled) -> None:
                while not stop.is_set():
                    started = time.perf_counter()
                    state = feed.poll()
                    polled.append(time.perf_counter() - started)
                    assert any(one.path == neighbour.path for one in state.processes)

            thread = threading.Thread(target=poll)
            thread.start()
            time.sleep(moments.uniform(0, 0.02))
            pull(writer.path)
            time.sleep(0.01)
            stop.set()
            thread.join()
            until = time.monotonic() + HANGS_SECONDS
            while time.monotonic() < until:
                state = feed.poll()
                here = [one for one in state.processes if one.path == writer.path]
                said = [one.reason for one in state.unreadable] + [one.problem or one.liveness.value for one in here]
                if name in ("extended", "made unreadable") or said != ["live"]:
                    break
                time.sleep(0.02)
            reasons[name].update(said or ["gone"])
            slowest = max(slowest, *polled)
            feed.close()
            writer.abandon()
            remove(directory)
    neighbour.close()
    reached(
        "pulled away",
        f"{rounds * len(PULLS):,} pulls, {len(PULLS)} ways: 0 crashes, each with its reason, slowest {slowest * 1000:.0f} ms",
    )
    assert all("live" not in said for name, said in reasons.items() if name not in ("extended", "made unreadable")), reasons


def remove(directory: Path) -> None:
    """Remove a small directory and its content, if it exists."""
    if not directory.exists():
        return
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    directory.rmdir()
