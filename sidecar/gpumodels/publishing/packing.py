"""Packs snapshots without holding the interpreter for long: large columns in pieces, unchanged models not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Final

from gpumodels.publishing.folding import fold_deepest
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.codec import MAX_PAYLOAD_BYTES, Encoder
from gpumodels_shared.schema import LayerTree, Model, Snapshot

ELEMENTS_PER_STEP: Final = 4000
"""Elements of a column that are packed in one piece, which takes well below a millisecond."""


@never_pickled
class SnapshotPacker:
    """Packs what `codec.encode` packs, byte for byte, and keeps each model's bytes for as long as it is the same object."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause
        self._encoder = Encoder()
        self._packed: dict[int, tuple[Model, bytes]] = {}

    def pack(self, snapshot: Snapshot) -> bytes:
        """The snapshot as msgpack, with its layer trees folded as far as the limit on payloads requires."""
        payload = self._pack(snapshot)
        while len(payload) > MAX_PAYLOAD_BYTES and (smaller := fold_deepest(snapshot)) is not None:
            snapshot = smaller
            payload = self._pack(snapshot)
        return payload

    def _pack(self, snapshot: Snapshot) -> bytes:
        known, self._packed = self._packed, {}
        models: list[bytes] = []
        for model in snapshot.models:
            before = known.get(id(model))
            packed = before[1] if before is not None and before[0] is model else self._pack_model(model)
            self._packed[id(model)] = (model, packed)
            models.append(packed)
        return self._encoder.around(snapshot, {"models": self._encoder.array(len(models), models)})

    def _pack_model(self, model: Model) -> bytes:
        if model.tree is None or len(model.tree.names) < ELEMENTS_PER_STEP:
            return self._encoder.around(model, {})
        columns: dict[str, bytes] = {}
        for field in fields(LayerTree):
            column = getattr(model.tree, field.name)
            if isinstance(column, tuple):
                columns[field.name] = self._encoder.array(len(column), self._pieces(column))
        return self._encoder.around(model, {"tree": self._encoder.around(model.tree, columns)})

    def _pieces(self, column: Sequence[Any]) -> Iterator[bytes]:
        for start in range(0, len(column), ELEMENTS_PER_STEP):
            if start:
                self._pause()
            yield self._encoder.elements(column[start : start + ELEMENTS_PER_STEP])
