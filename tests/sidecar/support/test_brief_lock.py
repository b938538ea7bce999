from __future__ import annotations

import threading
from collections.abc import Callable

from gpumodels.support.brief_lock import BriefLock


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_lock_whose_holder_is_gone_keeps_nobody_waiting() -> None:
    lock = BriefLock()
    in_a_thread(lock.__enter__)  # as after fork(2) from C code, while another thread held it
    with lock as had:
        assert not had
    with lock:
        pass


def test_a_lock_may_be_taken_again_by_who_holds_it() -> None:
    lock = BriefLock()
    with lock as first, lock as second:
        assert first
        assert second
    others: list[bool] = []
    in_a_thread(lambda: others.append(lock.__enter__()))
    assert others == [True]


def test_a_lock_is_free_again_when_what_it_guarded_raised() -> None:
    lock = BriefLock()
    try:
        with lock:
            raise KeyError("the host's")
    except KeyError:
        pass
    others: list[bool] = []
    in_a_thread(lambda: others.append(lock.__enter__()))
    assert others == [True]


def test_who_went_on_without_the_lock_does_not_release_it_for_its_holder() -> None:
    lock = BriefLock()
    had: list[bool] = []

    def goes_on_without() -> None:
        with lock as first:
            had.append(first)
        had.append(lock.__enter__())

    with lock:
        in_a_thread(goes_on_without)
    assert had == [False, False]
