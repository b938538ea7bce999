"""A weight is divided into what is on its device, in host memory and on disk, each byte once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dynamic_vram import MIB, PAGE
from gpumodels.models.assembling import FoundModel
from gpumodels.models.page_residency import Residency
from gpumodels.models.paged_weights import PagedWeight, Vbar, divided
from modules import Backbone, attached, the_only

GPU = Vbar(1, "cuda:0", 0, 2 * PAGE)


def shown(*, on_disk: bool, is_pinned: bool | None = None, pages: bytes = b"\x01\x00") -> FoundModel:
    """A model whose first weight lies in two pages, of which the first is in memory."""
    with attached() as sidecar:
        model = Backbone(1)
        found = the_only(sidecar)
        row, device, dtype, size = found.tree.memory[0]
        weight = PagedWeight(
            row, found.tree.devices[device], found.tree.dtypes[dtype], size, ((1, 0, 2 * PAGE),), "float32", size, on_disk
        )
        pinned = {} if is_pinned is None else {row: is_pinned}
        steps = divided(found, "cuda:0", [weight], pinned, {1: GPU}, {1: Residency(pages, MIB)})
        results: list[FoundModel] = []

        def run() -> Iterator[None]:
            results.append((yield from steps))

        assert len(list(run())) == 2
        del model
        return results[0]


@pytest.mark.parametrize(
    ("on_disk", "is_pinned", "in_host", "missing", "pinned"),
    [
        (False, None, 0.5, 0.0, 0.0),
        (True, None, 0.0, 0.5, 0.0),
        (True, True, 0.5, 0.0, 0.5),
        (True, False, 0.5, 0.0, 0.0),
    ],
)
def test_the_rest_is_where_its_only_other_copy_is(
    on_disk: bool, is_pinned: bool | None, in_host: float, missing: float, pinned: float
) -> None:
    plain, found = shown(on_disk=False, pages=b"\x00\x00"), shown(on_disk=on_disk, is_pinned=is_pinned)
    _, _, _, size = plain.tree.memory[0]
    in_all = plain.bytes_by_device["cpu"]
    assert dict(found.bytes_by_device) == {"cuda:0": size // 2, "cpu": in_all - size + size * in_host}
    assert (found.missing_bytes, found.pinned_bytes) == (size * missing, size * pinned)
    assert found.own_bytes == plain.own_bytes == in_all
    assert found.paged_onto == "cuda:0"
