"""FPD, KPD and the figures of neighbours against values of the packages `jetnet` and `prdc`.

`jetnet_values.json` holds the values with the versions of the packages. The packages need PyTorch, so the tests do not
run them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan.physics.metrics.embedding import fpd, frechet, kpd, polynomial_mmd
from gan.physics.metrics.neighbours import prdc

CASES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("jetnet_values.json").read_text())["cases"]
COLUMNS = 6
CHANGES: dict[str, dict[str, float]] = {
    "equal": {},
    "shifted": {"shift": 0.2},
    "wider": {"width": 1.3},
    "narrow": {"width": 0.5},
}


def sample(seed: int, events: int, shift: float = 0.0, width: float = 1.0) -> np.ndarray:
    """Return correlated normal features, (events, COLUMNS)."""
    mixing = np.random.default_rng(0).standard_normal((COLUMNS, COLUMNS)) / np.sqrt(COLUMNS)
    return width * np.random.default_rng(seed).standard_normal((events, COLUMNS)) @ mixing + shift


@pytest.mark.parametrize("name", CHANGES)
def test_distances_of_the_same_events_agree(name: str) -> None:
    one, other = sample(1, 1000), sample(2, 1000, **CHANGES[name])
    # A root of an eigenvalue near 0 turns an error of 1e-16 into 1e-8.
    assert frechet(one, other) == pytest.approx(CASES[name]["frechet"], abs=1e-6)
    # The kernel is at most 1e4, and each of the three means has a rounding error of about 1e-16 of it per addition.
    assert polynomial_mmd(one, other) == pytest.approx(CASES[name]["mmd"], abs=1e-7)


@pytest.mark.parametrize("name", CHANGES)
def test_neighbours_of_the_same_events_agree(name: str) -> None:
    figures = prdc(sample(1, 1000), sample(2, 1000, **CHANGES[name]))
    for figure, value in CASES[name]["prdc"].items():
        # Rounding may put one event of 1,000 on the other side of a radius.
        assert getattr(figures, figure) == pytest.approx(value, abs=0.0011), figure


@pytest.mark.slow
@pytest.mark.parametrize("name", ["equal", "shifted"])
def test_extrapolated_distances_agree_within_their_errors(name: str) -> None:
    one, other = sample(3, 50_000), sample(4, 50_000, **CHANGES[name])
    for measure, figure in ((fpd, "fpd"), (kpd, "kpd")):
        value, error = CASES[name][figure]
        own = measure(one, other)
        # The batches are drawn in different ways, so the values agree statistically: within 5 standard errors.
        assert abs(own.value - value) < 5 * np.hypot(own.error, error), figure
