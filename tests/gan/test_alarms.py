"""Alarms on made-up losses and signs of life: each is heard once, with its step, and healthy networks raise none."""

from __future__ import annotations

import numpy as np
import pytest

from gan.training.alarms import PATIENCE, RECOVERED, Alarms
from gan.training.health import HEALTH
from gan.training.step import LOSSES

HEALTHY = {"active_cells": 0.1, "sampling_fraction": 0.02, "variety": 0.5, "judged_real": 0.6}
REAL = {"active_cells": 0.12, "sampling_fraction": 0.021, "variety": 0.6, "judged_real": 0.7}


def health(**fake: float) -> np.ndarray:
    """Return the signs of life of a step, (4, 4)."""
    generated = {**HEALTHY, **fake}
    rows = [{**REAL, **({"judged_real": 0.995} if fake.get("judged_real") == 0.001 else {})}, *[generated] * 3]
    return np.array([[row[name] for name in HEALTH] for row in rows])


def losses(step: int) -> np.ndarray:
    """Return losses that vary by 10% from step to step, (4, 4)."""
    return np.full((len(LOSSES), 4), 10.0 + step % 2)


def heard(alarms: Alarms, steps: range, *, moving: bool = True, **fake: float) -> list[tuple[str, int]]:
    """Return the name and the beginning of each warning."""
    return [
        (warned.alarm, warned.step)
        for step in steps
        for warned in alarms.step(step, losses(step if moving else 0), health(**fake))
    ]


def test_healthy_networks_raise_no_alarm() -> None:
    assert heard(Alarms(), range(1, 500)) == []


@pytest.mark.parametrize(
    ("alarm", "fake"),
    [
        ("dead generator", {"active_cells": 0.0119}),
        ("dead generator", {"sampling_fraction": 0.0002}),
        ("collapsed modes", {"variety": 0.05}),
        ("saturated discriminator", {"judged_real": 0.001}),
        ("blind discriminator", {"judged_real": 0.69, "sampling_fraction": 0.05}),
        ("losses not moving", {}),
    ],
)
def test_an_alarm_is_heard_once_with_the_step_at_which_it_began(alarm: str, fake: dict[str, float]) -> None:
    alarms = Alarms()
    assert heard(alarms, range(1, 41)) == []
    begun = heard(alarms, range(41, 400), moving=alarm != "losses not moving", **fake)
    # The window of the losses still holds one loss of the last moving step, of the same value as those that follow.
    assert begun == [(alarm, 40 if alarm == "losses not moving" else 41)]


def test_a_short_fault_is_not_reported_and_a_new_one_is_reported_again() -> None:
    alarms = Alarms()
    assert heard(alarms, range(1, PATIENCE), active_cells=0.0) == []
    assert heard(alarms, range(PATIENCE, 100)) == []
    assert heard(alarms, range(100, 200), active_cells=0.0) == [("dead generator", 100)]
    assert heard(alarms, range(200, 200 + RECOVERED)) == []
    assert heard(alarms, range(300, 400), active_cells=0.0) == [("dead generator", 300)]


def test_a_dead_generator_is_not_reported_as_collapsed_too() -> None:
    assert heard(Alarms(), range(1, 100), active_cells=0.0, sampling_fraction=0.0, variety=0.0) == [
        ("dead generator", 1)
    ]


def test_a_discriminator_that_cannot_tell_good_showers_is_not_blind() -> None:
    assert heard(Alarms(), range(1, 100), judged_real=0.7) == []


def test_steps_without_any_output_are_counted_from_the_last_output() -> None:
    alarms = Alarms()
    heard(alarms, range(1, 11), active_cells=0.0001)
    assert alarms.silent_steps == 10
    heard(alarms, range(11, 12), active_cells=0.001)  # dead, but with some output
    assert alarms.silent_steps == 0


def test_warnings_say_what_to_try() -> None:
    alarms = Alarms()
    texts = [warned.text for step in range(1, 30) for warned in alarms.step(step, losses(step), health(variety=0.0))]
    assert len(texts) == 1
    assert "try a smaller --learning-rate" in texts[0]
