"""The codec: every snapshot is decoded as it was encoded, and additions of later versions do no harm."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES, encode
from gpumodels_shared.decoding import decode
from gpumodels_shared.schema import KINDS, DeviceMemory, LayerTree, Model, ProcessInfo, SidecarHealth, Snapshot
from snapshots import a_device, a_model, a_process, a_snapshot, a_tree

COUNTS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MOMENTS = st.integers(-(2**63), 2**64 - 1)
SECONDS = st.floats(0, 1e9)
BYTES_BY_NAME = st.dictionaries(TEXTS, COUNTS, max_size=3)


@st.composite
def trees(draw: st.DrawFn) -> LayerTree:
    """Valid layer trees of up to eight modules."""
    count = draw(st.integers(0, 8))
    depths = [0] * min(count, 1)
    while len(depths) < count:
        depths.append(draw(st.integers(1, depths[-1] + 1)))
    columns = st.lists(st.integers(0, 1), min_size=count, max_size=count)
    entries = st.tuples(st.integers(0, count - 1), st.integers(0, 1), st.integers(0, 1), COUNTS)
    held = st.lists(entries, max_size=3) if count else st.just([])
    return LayerTree(
        names=tuple(draw(st.lists(TEXTS, min_size=count, max_size=count))),
        depths=tuple(depths),
        class_names=("Linear", draw(TEXTS)),
        classes=tuple(draw(columns)),
        parameters=tuple(draw(st.lists(COUNTS, min_size=count, max_size=count))),
        devices=("cpu", draw(TEXTS)),
        dtypes=("bfloat16", draw(TEXTS)),
        memory=tuple(draw(held)),
        shared=tuple(draw(held)),
        folded=draw(COUNTS),
    )


def models(id: str) -> st.SearchStrategy[Model]:
    """Models with this id and any other content."""
    return st.builds(
        Model,
        id=st.just(id),
        name=TEXTS,
        kind=st.sampled_from(KINDS),
        class_name=TEXTS,
        loaded_at_ns=MOMENTS,
        bytes_by_device=BYTES_BY_NAME,
        layers=COUNTS,
        parameters=COUNTS,
        dtypes=BYTES_BY_NAME,
        name_source=TEXTS,
        confidence=st.floats(0, 1),
        candidates=st.tuples(TEXTS),
        architecture=st.none() | TEXTS,
        files=st.tuples(TEXTS, TEXTS),
        device=st.none() | TEXTS,
        offloaded_bytes=COUNTS,
        shared_bytes=COUNTS,
        metadata=st.dictionaries(TEXTS, TEXTS, max_size=3),
        parent=st.just("base") if id != "base" else st.none(),
        adapters=st.tuples(TEXTS),
        slot=st.none() | TEXTS,
        tree=st.none() | trees(),
    )


def devices(name: str) -> st.SearchStrategy[DeviceMemory]:
    """Devices with this name, with many or few of the other fields known."""
    maybe = st.none() | COUNTS
    return st.builds(
        DeviceMemory, st.just(name), COUNTS, st.none() | TEXTS, st.none() | TEXTS, maybe, st.booleans(), *[maybe] * 6
    )


SNAPSHOTS = st.builds(
    Snapshot,
    taken_at_ns=MOMENTS,
    process=st.builds(
        ProcessInfo,
        pid=COUNTS,
        uid=COUNTS,
        label=TEXTS,
        command=st.tuples(TEXTS, TEXTS),
        started_at_ns=MOMENTS,
        python_version=TEXTS,
        sidecar_version=TEXTS,
        interval_seconds=SECONDS,
        torch_version=st.none() | TEXTS,
        rank=st.none() | st.integers(0, 2**20),
        visible_devices=st.none() | TEXTS,
        device_order=st.none() | TEXTS,
        platform=st.none() | TEXTS,
        device_choice=st.dictionaries(TEXTS, TEXTS, max_size=2),
    ),
    devices=st.just(()) | st.tuples(devices("cpu"), devices("cuda:0")),
    models=st.just(()) | st.tuples(models("base"), models("adapter")),
    health=st.builds(SidecarHealth, SECONDS, COUNTS, COUNTS),
    warnings=st.tuples(TEXTS),
)


@given(SNAPSHOTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_snapshot_is_decoded_as_it_was_encoded(snapshot: Snapshot) -> None:
    assert decode(encode(snapshot)) == snapshot


def test_decoded_snapshots_are_immutable_all_the_way() -> None:
    snapshot = decode(encode(a_snapshot(a_model(tree=a_tree({"blocks.0": 512, "blocks.1": 512})))))
    (model,) = snapshot.models
    assert model.tree is not None
    assert isinstance(model.tree.memory, tuple)
    assert isinstance(model.tree.memory[0], tuple)
    assert hash(model.tree) == hash(model.tree)


def test_text_that_is_no_unicode_arrives_with_escapes() -> None:
    snapshot = decode(encode(a_snapshot(a_model(files=["/models/caf\udce9.safetensors"]))))
    assert snapshot.models[0].files == ("/models/caf\\udce9.safetensors",)


def test_any_mapping_may_stand_where_the_schema_says_mapping() -> None:
    snapshot = a_snapshot(a_model(bytes_by_device=MappingProxyType({"cpu": 7}), dtypes=MappingProxyType({"int8": 7})))
    assert decode(encode(snapshot)).models[0].bytes_by_device == {"cpu": 7}


@pytest.mark.parametrize("stray", [object(), {1, 2}, Model], ids=["object", "set", "class"])
def test_what_the_schema_does_not_name_is_refused_when_written(stray: Any) -> None:
    with pytest.raises(TypeError, match="not in the schema"):
        encode(Snapshot(1, a_process(), warnings=(stray,)))


def test_a_reader_ignores_what_a_later_minor_version_adds() -> None:
    raw = msgpack.unpackb(encode(a_snapshot(a_model(), devices=[a_device()])))
    later = {"added": [1, {"deep": None}], "blob": b"\0\1"}
    raw.update(later)
    raw["process"].update(later)
    raw["models"][0].update(later)
    raw["devices"][0].update(later)
    assert decode(msgpack.packb(raw)) == a_snapshot(a_model(), devices=[a_device()])


def test_a_reader_fills_in_what_an_earlier_minor_version_lacks() -> None:
    raw = msgpack.unpackb(encode(a_snapshot(a_model(kind="vae"))))
    required = {"id", "name", "kind", "class_name", "loaded_at_ns", "bytes_by_device", "layers", "parameters", "dtypes"}
    raw["models"] = [{key: value for key, value in raw["models"][0].items() if key in required}]
    del raw["health"], raw["warnings"]
    (model,) = decode(msgpack.packb(raw)).models
    assert (model.kind, model.confidence, model.files, model.tree) == ("vae", 0.0, (), None)


def test_forty_thousand_modules_fit_into_a_payload() -> None:
    tree = a_tree({f"layers.{layer}.experts.{expert}": 1 << 24 for layer in range(80) for expert in range(500)})
    assert len(tree.names) > 40_000
    payload = encode(a_snapshot(a_model(tree=tree)))
    assert len(payload) < MAX_PAYLOAD_BYTES // 2
    assert decode(payload).models[0].tree == tree
