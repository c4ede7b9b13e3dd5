"""Epoch records from the measurements of ranks: slow ranks, and records of interrupted epochs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gan.training.measure import EpochMeasure, summarize
from scaling.records import Epoch, from_line, to_line


def measure(host: str, computing: float, steps: int = 4) -> EpochMeasure:
    """Return the measurements of a rank that computes, and then waits in the exchange. All ranks take 10 s."""
    made = EpochMeasure(host=host)
    for _ in range(steps):
        made.add_step(10.0 / steps, (10.0 - computing) / steps, np.ones((4, 4)))
    made.finish(seconds=10.0, waited=0.0, learning_rate=0.001)
    return made


def record(*measures: EpochMeasure) -> Epoch:
    return summarize(
        measures, epoch=1, events=64, validation={"profile_error": 0.1}, validation_seconds=1.0, checkpoint_seconds=1.0
    )


def test_ranks_20_percent_over_the_median_are_named_slowest_first() -> None:
    found = record(*(measure(f"c{i}", seconds) for i, seconds in enumerate((5.0, 5.0, 6.1, 5.9, 5.0, 9.0, 5.0))))
    assert [(slow["rank"], slow["host"]) for slow in found.slow_ranks] == [(5, "c5"), (2, "c2")]
    assert found.slow_ranks[0]["ratio"] == pytest.approx(1.8)
    assert (found.slowest_rank, found.slowest_host) == (5, "c5")
    written = from_line(to_line(found))
    assert isinstance(written, Epoch)
    assert list(written.slow_ranks) == found.slow_ranks


def test_equal_ranks_name_nobody() -> None:
    assert record(*(measure("c", 5.0) for _ in range(8))).slow_ranks == []


def test_an_epoch_without_steps_left_has_no_times() -> None:
    done = EpochMeasure(host="c", resumed_steps=4, losses=np.full(4, 8.0))
    done.finish(seconds=0.0, waited=0.0, learning_rate=0.001)
    found = record(done)
    assert (found.steps, found.resumed_steps) == (4, 4)
    assert math.isnan(found.step_seconds.median)
    assert set(found.losses.values()) == {2.0}
    assert found.slow_ranks == []


def test_computing_time_of_a_step_is_told_for_every_rank() -> None:
    found = record(*(measure(f"c{i}", seconds) for i, seconds in enumerate((5.0, 6.0, 8.0))))
    assert found.rank_step_seconds == pytest.approx([1.25, 1.5, 2.0])
