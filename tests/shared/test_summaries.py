"""What other programs are told of a snapshot agrees with what the viewer decodes, and is refused where that refuses it."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgpack
import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.decoding import decode
from gpumodels_shared.layout import HEADER_BYTES, SLOT_HEADER_BYTES, parse_header, parse_slot_header
from gpumodels_shared.payload_shape import DecodeError
from gpumodels_shared.schema import DeviceMemory, Fingerprint, Model, ProcessInfo, Snapshot, TensorSample
from gpumodels_shared.summaries import MAX_LISTED, decode_summary
from snapshots import H100, a_device, a_model, a_process, a_snapshot, a_tree

GOLDEN: Final = sorted((Path(__file__).parents[1] / "golden").glob("*.gpm"))
SAMPLE: Final = Fingerprint((TensorSample("a", "bfloat16", (4,), b"1234"),), 1)
SNAPSHOT: Final = a_snapshot(
    replace(a_model(tree=a_tree({"a": 2}), files=["/m/wan.safetensors"], metadata={"a": "b"}, slot="unet"), fingerprint=SAMPLE),
    a_model("lora", 3, "lora", parent="wan", off_bytes=5),
    process=replace(a_process(visible_devices=H100), torch_version=None),
    devices=[a_device("cuda:0", 768, H100, allocated_bytes=1024), a_device("cuda:1")],
)
VALID: Final = encode(SNAPSHOT)


def without_the_rest(snapshot: Snapshot) -> tuple[Any, ...]:
    """What both decoders tell."""

    def of_model(model: Model) -> tuple[Any, ...]:
        facts = (model.id, model.name, model.kind, model.class_name, model.loaded_at_ns, dict(model.bytes_by_device))
        more = (model.files, model.device, model.offloaded_bytes, model.parent, model.precision, model.name_source)
        return (*facts, model.layers, model.parameters, dict(model.dtypes), model.confidence, *more)

    def of_device(memory: DeviceMemory) -> tuple[Any, ...]:
        facts = (memory.device, memory.models_bytes, memory.uuid, memory.simulated)
        return (*facts, memory.allocated_bytes, memory.reserved_bytes)

    def of_process(info: ProcessInfo) -> tuple[Any, ...]:
        facts = (info.pid, info.uid, info.label, info.started_at_ns, info.python_version, info.sidecar_version)
        return (*facts, info.interval_seconds, info.torch_version, info.visible_devices)

    return (
        snapshot.taken_at_ns,
        of_process(snapshot.process),
        tuple(map(of_device, snapshot.devices)),
        tuple(map(of_model, snapshot.models)),
    )


def golden_payload(path: Path) -> bytes:
    """The newest payload of a golden file."""
    data = path.read_bytes()
    header = parse_header(data[:HEADER_BYTES])
    found: list[tuple[int, bytes]] = []
    for index in (0, 1):
        offset = header.slot_offset(index)
        try:
            slot = parse_slot_header(data[offset : offset + SLOT_HEADER_BYTES])
        except ValueError:
            continue
        found.append((slot.seq, data[offset + SLOT_HEADER_BYTES :][: slot.length]))
    return max(found)[1]


def test_it_agrees_with_the_viewers_decoder() -> None:
    assert without_the_rest(decode_summary(VALID)) == without_the_rest(decode(VALID))
    assert [model.tree for model in decode_summary(VALID).models] == [None, None]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_golden_file_of_every_version_of_the_format_is_read(path: Path) -> None:
    payload = golden_payload(path)
    assert without_the_rest(decode_summary(payload)) == without_the_rest(decode(payload))
    assert decode_summary(payload).models


def test_fields_of_a_newer_version_are_left_out() -> None:
    raw = msgpack.unpackb(VALID)
    raw["newer"] = raw["process"]["newer"] = raw["models"][0]["newer"] = {"a": [1, 2]}
    assert without_the_rest(decode_summary(msgpack.packb(raw))) == without_the_rest(SNAPSHOT)


def outcome(payload: bytes, read: Callable[[bytes], Snapshot]) -> Snapshot | None:
    try:
        return read(payload)
    except DecodeError:
        return None


def test_damaged_payloads_are_snapshots_or_refused_and_nothing_else_happens() -> None:
    chance = random.Random(18)
    agreeing = 0
    for _ in range(3000):
        damaged = bytearray(VALID)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        whole = outcome(bytes(damaged), decode)
        summary = outcome(bytes(damaged), decode_summary)
        if whole is not None and summary is not None:
            agreeing += 1
            assert without_the_rest(summary) == without_the_rest(whole)
    assert agreeing > 500
    for length in range(0, len(VALID), 7):
        assert outcome(VALID[:length], decode_summary) is None


@pytest.mark.parametrize("path", [("models", 0, "name"), ("models", 0, "bytes_by_device"), ("process", "label"), ("devices",)])
@pytest.mark.parametrize("value", [None, -1, 1.5, b"a", True, [], [[]], {"a": "b"}, float("nan"), {1: 2}, 2**64 - 1])
def test_a_value_of_a_wrong_type_is_refused(path: tuple[str | int, ...], value: object) -> None:
    raw: Any = msgpack.unpackb(VALID)
    inner = raw
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    payload = msgpack.packb(raw)
    if path == ("devices",) and value == []:
        assert decode_summary(payload).devices == ()
        return
    with pytest.raises(DecodeError):
        decode_summary(payload)


@pytest.mark.parametrize("place", ["name", "files", "metadata", "bytes_by_device"])
def test_four_megabytes_of_empty_maps_are_skipped_or_refused_but_never_built(place: str) -> None:
    raw = msgpack.unpackb(VALID)
    raw["models"][0][place] = "HERE"
    bomb = b"\xdd" + (3_900_000).to_bytes(4, "big") + b"\x80" * 3_900_000
    payload = msgpack.packb(raw).replace(b"\xa4HERE", bomb)
    tracemalloc.start()
    try:
        refused = outcome(payload, decode_summary) is None
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused == (place != "metadata")
    assert most < 20 * 1024**2


def test_a_list_that_no_snapshot_has_is_refused() -> None:
    raw = msgpack.unpackb(VALID)
    raw["models"][0]["files"] = ["a"] * (MAX_LISTED + 1)
    with pytest.raises(DecodeError, match="10001"):
        decode_summary(msgpack.packb(raw))
