from __future__ import annotations

from gpumodels.budget import OVERDRAFT_SECONDS, RATE, SAVINGS_SECONDS, Budget


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spent_in_a_minute(look_seconds: float, tick_seconds: float = 1.0, skip_seconds: float = 0.0) -> float:
    """What looks of this length take within one minute, where every tick wants one."""
    clock = FakeClock()
    budget = Budget(clock)
    spent = 0.0
    while clock.now < skip_seconds + 60:
        if budget.allows():
            budget.spend(look_seconds)
            spent += look_seconds if clock.now >= skip_seconds else 0.0
        clock.now += tick_seconds
    return spent


def test_looks_take_a_hundredth_of_a_core_over_any_minute_at_most() -> None:
    for look_seconds in (0.001, 0.005, 0.02, 0.1, 0.29):
        assert spent_in_a_minute(look_seconds) <= 0.6 + look_seconds
        assert spent_in_a_minute(look_seconds, skip_seconds=300) <= 0.3 + 1e-9 + look_seconds


def test_small_hosts_are_looked_at_every_second() -> None:
    assert spent_in_a_minute(0.004) >= 60 * 0.004 - 1e-9


def test_a_look_that_takes_more_than_is_saved_happens_once_and_is_paid_off() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    assert budget.allows()
    budget.spend(1.2)
    clock.now = (1.2 - SAVINGS_SECONDS) / RATE
    assert not budget.allows()
    clock.now += SAVINGS_SECONDS / RATE + 1
    assert budget.allows()


def test_a_look_at_what_just_came_may_borrow_within_limits() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    urgent = 0
    while budget.allows(urgent=True) and urgent < 1000:
        budget.spend(0.02)
        urgent += 1
    assert not budget.allows()
    assert urgent * 0.02 <= SAVINGS_SECONDS + OVERDRAFT_SECONDS + 0.02
    clock.now += 30
    assert budget.allows(urgent=True)
    assert not budget.allows()
