"""The box of facts; which keys open it is tested with the screens."""

from __future__ import annotations

from gpumodels_tui.screens.facts_box import model_blocks, width_inside
from views import a_row


def test_raw_metadata_stands_below_the_facts_if_there_is_any() -> None:
    assert len(model_blocks(a_row(), 60)) == 1
    assert len(model_blocks(a_row(metadata={"ss_network_dim": "16"}), 60)) == 4


def test_a_box_is_never_wider_than_its_screen() -> None:
    assert [width_inside(100, columns) for columns in (60, 80, 200)] == [49, 67, 94]
