from __future__ import annotations

from gpumodels.support.budget import RATE, SAVINGS_SECONDS, Budget


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spent_in_a_minute(work_seconds: float, tick_seconds: float = 1.0, skip_seconds: float = 0.0) -> float:
    """Seconds spent within one minute, if every tick asks for work of this length."""
    clock = FakeClock()
    budget = Budget(clock)
    spent = 0.0
    while clock.now < skip_seconds + 60:
        if budget.allows():
            budget.spend(work_seconds)
            spent += work_seconds if clock.now >= skip_seconds else 0.0
        clock.now += tick_seconds
    return spent


def test_background_work_takes_its_share_of_a_core_over_any_minute() -> None:
    for work_seconds in (0.001, 0.005, 0.02, 0.1, 0.29):
        assert spent_in_a_minute(work_seconds) <= 60 * RATE + SAVINGS_SECONDS + work_seconds
        assert spent_in_a_minute(work_seconds, skip_seconds=300) <= 60 * RATE + 1e-9 + work_seconds


def test_little_work_is_done_at_every_tick() -> None:
    assert spent_in_a_minute(RATE) >= 60 * RATE - 1e-9


def test_what_takes_more_than_is_saved_happens_once_and_is_paid_off() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    assert budget.allows()
    budget.spend(1.2)
    clock.now = (1.2 - SAVINGS_SECONDS) / RATE - 0.1
    assert not budget.allows()
    clock.now += 0.2
    assert budget.allows()


def test_urgent_work_may_borrow_within_limits() -> None:
    clock = FakeClock()
    budget = Budget(clock)
    urgent = 0
    while budget.allows(loan_seconds=5.0) and urgent < 10_000:
        budget.spend(0.02)
        urgent += 1
    assert not budget.allows()
    assert urgent * 0.02 <= SAVINGS_SECONDS + 5.0 + 0.02
    clock.now += 30
    assert budget.allows(loan_seconds=5.0)
    assert not budget.allows(loan_seconds=2.0)
    assert not budget.allows()
    assert abs(budget.spent - urgent * 0.02) < 1e-6
