"""Decoding: whatever the bytes are, the outcome is a Snapshot or a DecodeError, quickly and in little memory."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES, encode
from gpumodels_shared.decoding import MAX_ENTRIES, DecodeError, decode, decode_tree, decode_without_trees
from gpumodels_shared.schema import LayerTree, Snapshot
from snapshots import a_device, a_model, a_process, a_snapshot, a_tree
from work import counted

VALID: Final = encode(
    a_snapshot(
        a_model(tree=a_tree({"blocks.0.attn": 512, "blocks.1.attn": 256}), files=["/models/wan.safetensors"]),
        a_model("vae", 3, "vae"),
        devices=[a_device("cuda:0", 768, total_bytes=1 << 36, allocated_bytes=1024)],
    )
)
NUMBERS: Final = b"\xdc\x27\x0f" + b"\xcd\xff\xff" * 9_999
"""A list as long as one may be."""
LEAF: Final = a_tree({"a": 1, "b": 2})


def array_of(claimed: int) -> bytes:
    """The five bytes that announce an array of so many entries."""
    return b"\xdd" + struct.pack(">I", claimed)


def outcome(payload: bytes) -> Snapshot | DecodeError:
    """The decoded Snapshot or the DecodeError; anything else fails the test."""
    try:
        return decode(payload)
    except DecodeError as error:
        return error


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A valid payload after one change to its raw maps."""
    raw = msgpack.unpackb(VALID)
    change(raw)
    packed = msgpack.packb(raw)
    assert isinstance(packed, bytes)
    return packed


BOMBS: Final = {
    "one array that claims four billion entries": array_of(2**32 - 1),
    "one map that claims four billion entries": b"\xdf\xff\xff\xff\xff",
    "one text that claims four gigabytes": b"\xdb\xff\xff\xff\xff",
    "a thousand arrays, each within the next, that claim 399,999 entries each": array_of(399_999) * 1000,
    "arrays within arrays, claimed and filled": array_of(3900) + (b"\x91" * 1000 + b"\xc0") * 3900,
    "four million empty maps": array_of(MAX_PAYLOAD_BYTES - 5) + b"\x80" * (MAX_PAYLOAD_BYTES - 5),
    "100,000-deep nesting": b"\x91" * 100_000 + b"\xc0",
    "100,000-deep maps": b"\x81\xa1k" * 100_000 + b"\xc0",
    "100,000-deep nesting under a key that nobody knows": b"\x81\xa1k" + b"\x91" * 100_000 + b"\xc0",
    "four million empty maps under a key that nobody knows": b"\x81\xa1k" + array_of(4_000_000) + b"\x80" * 4_000_000,
    "four million empty models": b"\x81\xa6models" + array_of(4_000_000) + b"\x80" * 4_000_000,
}


@pytest.mark.parametrize("payload", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_in_few_steps_and_little_memory(payload: bytes) -> None:
    assert len(payload) <= MAX_PAYLOAD_BYTES
    decode(VALID)  # what is made once is made
    with counted(memory=True) as work:
        assert isinstance(outcome(payload), DecodeError)
    assert work.steps < 100  # whatever its size: no entry of it is read in Python
    assert work.peak_bytes < 32 * 1024 * 1024


def test_a_payload_over_the_limit_is_not_even_read() -> None:
    with pytest.raises(DecodeError, match="over the limit"):
        decode(bytes(MAX_PAYLOAD_BYTES + 1))


def test_every_truncation_of_a_valid_payload_is_refused() -> None:
    for length in range(len(VALID)):
        assert isinstance(outcome(VALID[:length]), DecodeError), length


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(DecodeError, match="1 bytes after its end"):
        decode(VALID + b"\xc0")


def test_flipped_bits_of_a_valid_payload_never_escape() -> None:
    for position in range(len(VALID)):
        for bit in range(8):
            damaged = bytearray(VALID)
            damaged[position] ^= 1 << bit
            outcome(bytes(damaged))


def test_overwritten_swapped_and_repeated_parts_of_a_valid_payload_never_escape() -> None:
    seeded = random.Random(2)
    for _ in range(3000):
        damaged = bytearray(VALID)
        for _ in range(seeded.randint(1, 4)):
            start, length = seeded.randrange(len(damaged)), seeded.randint(1, 24)
            source = seeded.randrange(len(damaged))
            damaged[start : start + length] = (
                seeded.choice(
                    (seeded.randbytes(length), damaged[source : source + length], b"\xff" * length, b"\xdd\xff\xff\xff\xff", b"")
                )
                or b"\xc1"
            )
        outcome(bytes(damaged))


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_escape(payload: bytes) -> None:
    outcome(payload)


RAW: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS: Final = [
    ("process",),
    ("models",),
    ("models", 0),
    ("models", 0, "id"),
    ("models", 0, "bytes_by_device"),
    ("models", 0, "tree"),
    ("models", 0, "tree", "depths"),
    ("models", 0, "tree", "memory"),
    ("models", 0, "tree", "memory", 0),
    ("models", 0, "parent"),
    ("devices", 0, "total_bytes"),
    ("health", "scan_seconds"),
]


@given(st.sampled_from(PATHS), RAW)
@settings(max_examples=60, deadline=None)
def test_any_value_in_any_place_never_escapes(path: tuple[str | int, ...], value: Any) -> None:
    def put(raw: Any) -> None:
        for step in path[:-1]:
            raw = raw[step]
        raw[path[-1]] = value

    outcome(changed(put))


WRONG: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "a missing process": lambda raw: raw.pop("process"),
    "a missing time": lambda raw: raw.pop("taken_at_ns"),
    "a text for a number": lambda raw: raw.update(taken_at_ns="now"),
    "a truth for a number": lambda raw: raw.update(taken_at_ns=True),
    "a fraction for a number": lambda raw: raw.update(taken_at_ns=1.5),
    "a number for a text": lambda raw: raw["process"].update(label=7),
    "bytes for a text": lambda raw: raw["process"].update(label=b"main.py"),
    "nothing for models": lambda raw: raw.update(models=None),
    "a map for models": lambda raw: raw.update(models={"0": raw["models"][0]}),
    "a model that is a list": lambda raw: raw.update(models=[list(raw["models"][0].values())]),
    "an entry of three": lambda raw: raw["models"][0]["tree"].update(memory=[[1, 0, 0]]),
    "an entry of five": lambda raw: raw["models"][0]["tree"].update(memory=[[1, 0, 0, 8, 8]]),
    "an extension type for a text": lambda raw: raw["process"].update(label=msgpack.ExtType(5, b"main.py")),
    "an extension type for a number": lambda raw: raw.update(taken_at_ns=msgpack.ExtType(5, b"")),
    "a timestamp for a number": lambda raw: raw.update(taken_at_ns=msgpack.Timestamp(1_700_000_000)),
    "a number as a key": lambda raw: raw["models"][0].update(bytes_by_device={1: 1}),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_wrong_types_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(DecodeError, match=r"not a snapshot|not a layer tree"):
        decode(changed(change))


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\x90", b"\x07", b"\xa3wan", b"\xc1", b"\xc7\x00\x05", b"\xd6\xff\0\0\0\0"])
def test_other_msgpack_than_a_map_is_refused(payload: bytes) -> None:
    assert isinstance(outcome(payload), DecodeError)


def test_text_that_is_no_utf_8_is_refused() -> None:
    assert VALID.count(b"ComfyUI") == 1
    with pytest.raises(DecodeError, match="not a snapshot"):
        decode(VALID.replace(b"ComfyUI", b"Comfy\xff\xfe"))


def with_tree(**columns: object) -> bytes:
    """A payload that is valid, except for these columns of its layer tree."""
    return changed(lambda raw: raw["models"][0]["tree"].update(columns))


INCONSISTENT: Final[dict[str, tuple[bytes, str]]] = {
    "negative layers": (encode(a_snapshot(a_model(layers=-1))), "negative count"),
    "negative parameters": (changed(lambda raw: raw["models"][0].update(parameters=-5)), "negative count"),
    "negative bytes off the device": (changed(lambda raw: raw["models"][0].update(offloaded_bytes=-1)), "negative count"),
    "negative shared bytes": (changed(lambda raw: raw["models"][0].update(shared_bytes=-1)), "negative count"),
    "negative pinned bytes": (changed(lambda raw: raw["models"][0].update(pinned_bytes=-1)), "negative count"),
    "negative bytes of a manager": (changed(lambda raw: raw["models"][0].update(managed_bytes=-1)), "negative count"),
    "negative bytes of a stage": (
        changed(lambda raw: raw.update(stages=[{"id": "3", "name": "n", "started_at_ns": 1, "peak_bytes": -1}])),
        "stage has negative",
    ),
    "a stage without an id": (changed(lambda raw: raw.update(stages=[{"name": "n", "started_at_ns": 1}])), "id"),
    "more stages than a process has": (
        changed(lambda raw: raw.update(stages=[{"id": "3", "name": "n", "started_at_ns": 1}] * 10_001)),
        "max_array_len",
    ),
    "negative bytes on a device": (changed(lambda raw: raw["models"][0].update(bytes_by_device={"cpu": -1})), "negative bytes"),
    "negative bytes of a dtype": (encode(a_snapshot(a_model(dtypes={"int8": -1}))), "negative bytes"),
    "a negative total of a device": (encode(a_snapshot(devices=[a_device(total_bytes=-1)])), "device has negative"),
    "a negative reserve of a device": (encode(a_snapshot(devices=[a_device(reserved_bytes=-1)])), "device has negative"),
    "negative other bytes": (changed(lambda raw: raw["devices"][0].update(other_bytes=-1)), "device has negative"),
    "one device twice": (encode(a_snapshot(devices=[a_device("cpu"), a_device("cpu")])), "two devices"),
    "negative failures": (changed(lambda raw: raw["health"].update(failures=-1)), "health"),
    "an endless interval": (encode(a_snapshot(process=a_process(interval_seconds=math.inf))), "duration"),
    "an interval that is no number": (encode(a_snapshot(process=a_process(interval_seconds=math.nan))), "duration"),
    "a confidence of two": (encode(a_snapshot(a_model(confidence=2.0))), "confidence"),
    "a confidence that is no number": (encode(a_snapshot(a_model(confidence=math.nan))), "confidence"),
    "one id twice": (encode(a_snapshot(a_model("a", id="x"), a_model("b", id="x"))), "two models have the same id"),
    "an adapter of itself": (encode(a_snapshot(a_model(id="x", parent="x"))), "ancestor of itself"),
    "adapters of each other": (
        encode(a_snapshot(a_model(id="x", parent="y"), a_model(id="y", parent="z"), a_model(id="z", parent="y"))),
        "ancestor of itself",
    ),
    "columns of different lengths": (with_tree(names=[""]), "columns differ"),
    "two roots": (with_tree(depths=[0, 0, 1, 1, 1]), "columns differ|form a tree"),
    "a root that is deep": (with_tree(names=[""], depths=[1], classes=[0], parameters=[0], memory=[]), "form a tree"),
    "a child of no parent": (
        with_tree(names=["", "a"], depths=[0, 2], classes=[0, 0], parameters=[0, 0], memory=[]),
        "form a tree",
    ),
    "a class that isn't there": (with_tree(class_names=[]), "refers to a class"),
    "memory of a layer that isn't there": (with_tree(memory=[[99, 0, 0, 8]]), "refers to an entry"),
    "memory of a negative layer": (with_tree(memory=[[-1, 0, 0, 8]]), "refers to an entry"),
    "memory on a device that isn't there": (with_tree(memory=[[1, 1, 0, 8]]), "refers to an entry"),
    "memory of a dtype that isn't there": (with_tree(shared=[[1, 0, 1, 8]]), "refers to an entry"),
    "negative bytes of a layer": (with_tree(memory=[[1, 0, 0, -8]]), "refers to an entry"),
    "memory in a tree without layers": (
        with_tree(names=[], depths=[], classes=[], parameters=[], memory=[[0, 0, 0, 8]]),
        "refers to an entry",
    ),
    "a negative number of folded modules": (with_tree(folded=-1), "negative count"),
}


@pytest.mark.parametrize(("payload", "reason"), INCONSISTENT.values(), ids=INCONSISTENT.keys())
def test_what_cannot_be_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(payload)


def test_a_tree_of_absurd_length_is_refused() -> None:
    tree = replace(LEAF, memory=((1, 0, 0, 8),) * (MAX_ENTRIES + 1))
    with pytest.raises(DecodeError, match="more than 400000 entries"):
        decode(encode(a_snapshot(a_model(tree=tree))))


def test_adapters_may_stand_on_adapters_and_on_bases_that_are_gone() -> None:
    snapshot = a_snapshot(a_model(id="x", parent="y"), a_model(id="y", parent="gone"), a_model(id="z", parent="x"))
    assert decode(encode(snapshot)) == snapshot


def test_a_tree_without_layers_is_a_tree() -> None:
    empty = LayerTree((), (), (), (), (), (), (), ())
    assert decode(encode(a_snapshot(a_model(tree=empty)))).models[0].tree == empty


def test_a_tree_stays_packed_until_it_is_asked_for() -> None:
    tree = a_tree({"blocks.0.attn": 512})
    snapshot, packed = decode_without_trees(encode(a_snapshot(a_model(id="wan", tree=tree), a_model("vae", 3, id="vae"))))
    assert [model.tree for model in snapshot.models] == [None, None]
    assert {key: decode_tree(one) for key, one in packed.items()} == {"wan": tree}


def test_a_tree_that_is_wrong_takes_no_other_model_with_it() -> None:
    snapshot, packed = decode_without_trees(encode(a_snapshot(a_model(id="wan", tree=replace(LEAF, depths=(0, 1, 3))))))
    assert [model.id for model in snapshot.models] == ["wan"]
    with pytest.raises(DecodeError, match="depths don't form a tree"):
        decode_tree(packed["wan"])


@pytest.mark.parametrize("path", [("models", 0, "name"), ("models", 0, "bytes_by_device"), ("process", "label"), ("devices",)])
@pytest.mark.parametrize("value", [None, -1, 1.5, b"a", True, [[]], {"a": "b"}, math.nan, {1: 2}, 2**64 - 1])
def test_a_value_of_a_wrong_type_is_refused(path: tuple[str | int, ...], value: object) -> None:
    def change(raw: Any) -> None:
        for step in path[:-1]:
            raw = raw[step]
        raw[path[-1]] = value

    with pytest.raises(DecodeError):
        decode_without_trees(changed(change))


@pytest.mark.parametrize("place", ["name", "files", "file_stamps", "metadata", "bytes_by_device", "fingerprint"])
@pytest.mark.parametrize(
    "entries", [b"\x80" * 3_900_000, (b"\xdc\x27\x0f" + b"\xcd\xff\xff" * 9_999) * 100], ids=["maps", "numbers"]
)
def test_four_megabytes_of_what_is_rarely_large_are_refused_but_never_built(place: str, entries: bytes) -> None:
    count = 3_900_000 if entries[0] == 0x80 else 100
    payload = changed(lambda raw: raw["models"][0].update({place: "HERE"})).replace(b"\xa4HERE", array_of(count) + entries)
    with counted(memory=True) as work, pytest.raises(DecodeError):
        decode_without_trees(payload)
    assert work.peak_bytes < 25 * 1024**2


def test_lists_that_are_many_and_long_are_refused() -> None:
    def change(raw: Any) -> None:
        raw["models"] = [{**raw["models"][0], "id": str(number), "files": ["a"] * 9_999} for number in range(21)]

    with pytest.raises(DecodeError, match="200000 entries"):
        decode_without_trees(changed(change))
