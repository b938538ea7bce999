"""The number keys that choose a device."""

from __future__ import annotations

import pytest

from gpumodels_tui.screens.device_keys import device_keys


def test_nine_numbers_choose_a_device_each_and_zero_all() -> None:
    bindings = {binding.key: binding.action for binding in device_keys("overview", "All models")}
    assert bindings == {str(number): f"device({number})" for number in range(1, 10)} | {"0": "all_devices"}


@pytest.mark.parametrize("show", [True, False])
def test_one_entry_speaks_for_all_nine_in_the_footer_and_in_the_help(show: bool) -> None:
    bindings = device_keys("timeline", "The events of all devices", show=show)
    assert [binding.key for binding in bindings if binding.show] == (["1"] if show else [])
    said = {binding.key: (binding.key_display, binding.tooltip) for binding in bindings if binding.tooltip}
    assert said == {"1": ("1-9", "Choose a device by its number"), "0": (None, "The events of all devices")}


def test_two_screens_ids_are_never_the_same_so_that_each_can_have_keys_of_its_own() -> None:
    ids = [binding.id for screen in ("overview", "timeline") for binding in device_keys(screen, "All")]
    assert len(set(ids)) == len(ids) == 20
