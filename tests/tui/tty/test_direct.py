"""How widgets reach the terminal."""

from __future__ import annotations

import gc
import weakref

from textual.app import App

from gpumodels_tui.tty.direct import offer, writer_of


def test_an_application_has_the_writer_that_was_offered_for_it_and_is_not_kept() -> None:
    app, other = App[None](), App[None]()
    offer(app, lambda drawing: True)
    write = writer_of(app)
    assert write is not None
    assert write("x")
    assert writer_of(other) is None
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None
