"""The gate between the sidecar's work and the host's forks."""

from __future__ import annotations

import threading

import pytest

from gpumodels import fork_gate
from gpumodels.fork_gate import ForkGate


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ForkGate:
    """A gate at which a fork waits for no time at all."""
    monkeypatch.setattr(fork_gate, "LONGEST_WAIT_SECONDS", 0.0)
    return ForkGate()


def test_a_fork_goes_on_without_the_gate_where_work_takes_too_long(gate: ForkGate) -> None:
    with gate:
        assert not gate.close_for_fork()
    assert gate.close_for_fork()


def test_work_that_raised_leaves_the_gate_open(gate: ForkGate) -> None:
    with pytest.raises(RuntimeError, match="in the middle"), gate:
        raise RuntimeError("in the middle")
    assert gate.close_for_fork()


def test_a_fork_comes_through_while_the_work_pauses_and_not_after(gate: ForkGate) -> None:
    with gate:
        with gate.released():
            assert gate.close_for_fork()
            gate.open_after_fork()
        assert not gate.close_for_fork()


def test_a_pause_that_raises_ends_with_the_gate_held(gate: ForkGate) -> None:
    with gate:
        with pytest.raises(RuntimeError, match="stopped"), gate.released():
            raise RuntimeError("stopped")
        assert not gate.close_for_fork()
    assert gate.close_for_fork()


def test_the_work_waits_for_a_fork_to_end(gate: ForkGate) -> None:
    worked = threading.Event()

    def work() -> None:
        with gate:
            worked.set()

    assert gate.close_for_fork()
    thread = threading.Thread(target=work)
    thread.start()
    assert not worked.is_set()
    gate.open_after_fork()
    thread.join(10)
    assert worked.is_set()
