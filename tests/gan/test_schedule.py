"""Learning rate: warm-up, scaling with the number of workers, and the schedules after the warm-up."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gan.settings import TrainingSettings
from gan.training.schedule import LearningRate, plateaus, scaling_factor


def rate(workers: int = 16, **changes: Any) -> LearningRate:
    return LearningRate.of(TrainingSettings(**changes), workers=workers, steps_per_epoch=10)


def test_warm_up_is_horovods_formula_batch_by_batch() -> None:
    # lr(e) = lr0/size * (e*(size-1)/warmup + 1) with lr0 = lr * size, at fractional epochs e (Goyal et al. 2017)
    schedule = rate(16)
    for epoch in range(5):
        for step in range(10):
            e = epoch + step / 10
            assert schedule.at(epoch, step) == pytest.approx(0.016 / 16 * (e * 15 / 5 + 1))
    assert schedule.at(0, 0) == pytest.approx(0.001)
    assert schedule.at(5, 0) == schedule.at(24, 9) == pytest.approx(0.016)


def test_one_worker_has_no_ramp() -> None:
    assert {rate(1).at(epoch, step) for epoch in range(7) for step in range(10)} == {0.001}


def test_no_warm_up_starts_at_the_full_rate() -> None:
    assert rate(4, warmup_epochs=0).at(0, 0) == pytest.approx(0.004)


@pytest.mark.parametrize(("name", "factor"), [("linear", 64.0), ("sqrt", 8.0), ("none", 1.0)])
def test_scalings(name: str, factor: float) -> None:
    assert scaling_factor(name, 64) == factor
    assert rate(64, lr_scaling=name).at(10, 0) == pytest.approx(0.001 * factor)


def test_exponential_decay_begins_after_the_warm_up() -> None:
    schedule = rate(1, lr_schedule="exponential", lr_decay=0.5)
    assert [schedule.at(epoch, 0) for epoch in (4, 5, 6, 8)] == pytest.approx([0.001, 0.001, 0.0005, 0.000125])


def test_cosine_falls_to_zero_over_all_epochs_also_in_the_warm_up() -> None:
    schedule = rate(4, lr_schedule="cosine", epochs=4, warmup_epochs=2)
    assert schedule.at(0, 0) == pytest.approx(0.001)
    # After one of two warm-up epochs: half of the rise from 1 to 4, and the cosine of 45 degrees.
    assert schedule.at(1, 0) == pytest.approx(0.0025 * (1 + math.sqrt(0.5)) / 2)
    assert schedule.at(2, 0) == pytest.approx(0.004 / 2)
    rates = [schedule.at(epoch, step) for epoch in (2, 3) for step in range(10)]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.004 / 100


def test_plateaus_count_patience_without_a_new_best() -> None:
    assert plateaus([3, 2, 1]) == 0
    assert plateaus([1, 2, 2, 2]) == 1
    assert plateaus([1, 2, 2, 2, 2, 2, 2]) == 2
    assert plateaus([1, math.nan, math.nan, math.nan]) == 0  # unknown distances
    schedule = rate(1, lr_schedule="plateau", warmup_epochs=0)
    assert schedule.at(4, 0, [1, 2, 2, 2]) == pytest.approx(0.0005)
