"""Tests of when states are told, and to whom jobs go."""

from __future__ import annotations

import threading
import time

from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.facts import ValuesMatch
from gpumodels_tui.catalogue.ledger import Ledger
from gpumodels_tui.catalogue.tree import Sighting, Stamp
from gpumodels_tui.headers.headers import FileHeader


def a_sighting(path: str) -> Sighting:
    return Sighting(path, path, Stamp(1, 1, 100, 0, 0))


def test_a_state_is_told_once_and_only_when_something_changed() -> None:
    told: list[int] = []
    ledger = Ledger(0.0, lambda: told.append(len(ledger.state.warnings)))
    ledger.is_walking = False
    ledger.publish()
    ledger.set_notice("/m", "/m: no such file or directory")
    ledger.publish()
    ledger.publish()
    ledger.set_notice("/m", "/m: no such file or directory")
    ledger.publish()
    ledger.set_notice("/m", None)
    ledger.publish()
    assert told == [1, 0]


def test_while_files_wait_states_are_held_back_and_the_last_one_never_is() -> None:
    told: list[int] = []
    ledger = Ledger(0.0, lambda: told.append(ledger.state.pending))
    ledger.is_walking = False
    ledger.enter(a_sighting(f"/m/{number}.safetensors") for number in range(100))
    for _ in range(100):
        job = ledger.next_job()
        assert job is not None
        ledger.read(job, FileHeader("safetensors"))
        ledger.publish()
    assert len(told) < 10
    assert told[-1] == 0
    assert len(ledger.state.by_path) == 100


def test_nothing_is_told_after_closing() -> None:
    told: list[None] = []
    ledger = Ledger(0.0, lambda: told.append(None))
    ledger.enter([a_sighting("/m/a.safetensors")])
    ledger.close()
    ledger.publish()
    assert told == []
    assert ledger.next_job() is None


def test_closing_releases_whoever_waits_for_work() -> None:
    ledger = Ledger(0.0, None)
    waiting = threading.Thread(target=ledger.wait_for_work, daemon=True)
    waiting.start()
    ledger.close()
    waiting.join(30)
    assert not waiting.is_alive()


def test_waiting_for_all_to_be_read_ends_at_the_deadline_with_what_there_is() -> None:
    ledger = Ledger(0.0, None)
    ledger.enter([a_sighting("/m/a.safetensors")])
    assert ledger.wait_until_read(time.monotonic() + 0.01).pending == 1


def test_without_a_worker_nobody_waits_for_files() -> None:
    ledger = Ledger(0.0, None)
    ledger.enter([a_sighting("/m/a.safetensors")])
    job = ledger.next_job()
    assert job is not None
    ledger.postponed(job, "model files can't be read")
    state = ledger.wait_until_read(time.monotonic() + 60)
    assert (state.warnings, state.pending) == (("model files can't be read",), 1)


def test_values_are_compared_only_when_all_directories_were_walked_and_each_is_told_as_soon_as_it_is_known() -> None:
    ledger = Ledger(0.0, None)
    fingerprint, other = (Fingerprint((TensorSample("w", "float32", (4, 4), byte * 64),), 1) for byte in (b"0", b"1"))
    ledger.search([fingerprint, other])
    before = ledger.may_compare  # a file that isn't entered yet may be the one, or as good as the one
    ledger.finish_walk()
    assert (before, ledger.may_compare) == (False, True)
    assert ledger.wait_until_read(0.0).unsettled == {fingerprint, other}
    verdict = ValuesMatch(("/m/a.safetensors",), (), 1, 1)
    ledger.found({fingerprint: verdict}, frozenset((other,)), ledger.changes, is_all=False)
    ledger.publish()
    assert (ledger.state.values, ledger.state.unsettled) == ({fingerprint: verdict}, frozenset((other,)))
    others_wait = ledger.may_compare
    ledger.found({fingerprint: verdict}, frozenset(), ledger.changes, is_all=True)
    assert (others_wait, ledger.may_compare) == (True, False)
    ledger.publish()
    assert ledger.state.unsettled == frozenset()


def test_what_was_settled_stays_so_when_others_are_sought_too() -> None:
    ledger = Ledger(0.0, None)
    first, second = (Fingerprint((TensorSample("w", "float32", (4, 4), byte * 64),), 1) for byte in (b"0", b"1"))
    ledger.search([first])
    ledger.found({}, frozenset(), ledger.changes, is_all=True)
    ledger.search([first, second])
    assert ledger.wait_until_read(0.0).unsettled == {second}
    ledger.search([first])
    assert ledger.wait_until_read(0.0).unsettled == frozenset()


def test_an_answer_about_what_was_wanted_before_ends_no_search_for_what_is_wanted_now() -> None:
    ledger = Ledger(0.0, None)
    ledger.finish_walk()
    first, second = (Fingerprint((TensorSample("w", "float32", (4, 4), byte * 64),), 1) for byte in (b"0", b"1"))
    ledger.search([first])
    before = ledger.changes
    ledger.search([first, second])
    ledger.found({}, frozenset(), before, is_all=True)
    is_sought = ledger.may_compare
    assert ledger.wait_until_read(0.0).unsettled == {first, second}
    ledger.found({}, frozenset(), ledger.changes, is_all=True)
    assert (is_sought, ledger.may_compare) == (True, False)
    assert ledger.wait_until_read(0.0).unsettled == frozenset()
