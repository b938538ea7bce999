from __future__ import annotations

from gpumodels_tui.view.events import Event, EventKind
from snapshots import NOON_NS


def test_an_event_is_on_the_device_of_its_key_and_on_none_that_is_only_called_the_same() -> None:
    event = Event(1, NOON_NS, EventKind.LOADED, "m", "vllm 1", "cuda:0", device_key="1:cuda:0")
    assert event.is_on("1:cuda:0", "cuda:0")
    assert event.is_on("1:cuda:0", "0")
    assert not event.is_on("2:cuda:0", "cuda:0")


def test_an_event_of_which_only_the_label_is_known_is_on_the_device_that_is_called_so() -> None:
    event = Event(1, NOON_NS, EventKind.LOADED, "m", "vllm 1", "0")
    assert event.is_on("gpu:GPU-1", "0")
    assert not event.is_on("gpu:GPU-2", "1")
    assert not Event(1, NOON_NS, EventKind.STARTED, "vllm 1", "vllm 1").is_on("host", "host")
