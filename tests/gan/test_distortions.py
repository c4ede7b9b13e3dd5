"""Figures see the distortions that they should, the more the larger these are, and are at their floors without any.

`python -m tests.benchmarks.distortions` prints all of them as a table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from gan.evaluation.figures import IDEAL, direct_figures, embedding_figures
from gan.physics.metrics.classifier import judge_features
from gan.physics.observables import Observables, Observer
from gan.simulation.gflash import simulate
from tests.support.distortions import DISTORTIONS, Cells

pytestmark = pytest.mark.slow

EVENTS = 1000
ENERGIES = np.linspace(10.0, 500.0, EVENTS)
Observe = Callable[[str], Observables]


@pytest.fixture(scope="module")
def cells() -> Cells:
    return simulate(ENERGIES, seed=2)


@pytest.fixture(scope="module")
def reference() -> Observables:
    return Observer().add(simulate(ENERGIES, seed=1), ENERGIES)


@pytest.fixture(scope="module")
def distorted(cells: Cells) -> Observe:
    """Function that returns the observables of the other simulation with a distortion, or without one for `none`."""
    known: dict[str, Observables] = {}

    def observe(name: str) -> Observables:
        if name not in known:
            changed = DISTORTIONS[name](cells, ENERGIES) if name != "none" else cells
            known[name] = Observer().add(changed, ENERGIES)
        return known[name]

    return observe


ENERGY, SHIFT = ("energy +1%", "energy +2%", "energy +5%"), ("shift 1/4 cell", "shift 1/2 cell", "shift 1 cell")
WIDTH = ("width +5%", "width +10%")
CALM = ("half fluctuations", "equal showers")
SEEN: Mapping[str, Sequence[Sequence[str]]] = {
    "visible energy": [ENERGY, ["dead layer"], ["wrong energies"]],
    "sampling fraction error": [["wrong energies"]],
    "Wasserstein, sampling_fraction": [ENERGY[1:], ["wrong energies"]],
    "resolution error": [CALM, ["1% empty"], ["wrong energies"]],
    "profile L1, x": [SHIFT, WIDTH],
    "profile L1, z": [["dead layer"]],
    "position, x": [SHIFT],
    "width, y": [WIDTH],
    "moment error": [WIDTH, ["shift 1 cell"], ["1% empty"]],
    "shape MSE": [SHIFT, WIDTH, ["dead layer"]],
    "active cells": [CALM],
    "Wasserstein, mean": [SHIFT, WIDTH, CALM, ["wrong energies"]],
}
"""Figures with the distortions that they should see, each in growing sizes."""


@pytest.mark.parametrize("figure", SEEN)
def test_a_figure_grows_with_the_distortions_that_it_should_see(
    reference: Observables, distorted: Observe, figure: str
) -> None:
    floor = direct_figures(reference, distorted("none"))[figure]
    for names in SEEN[figure]:
        values = [direct_figures(reference, distorted(name))[figure] for name in names]
        # The sample without a distortion has the same events, so its value is one draw of the floor.
        assert values[0] > 2 * floor, names
        assert all(small <= large * 1.01 for small, large in itertools.pairwise(values)), names


@pytest.mark.parametrize("names", [ENERGY[1:], SHIFT, WIDTH, ["dead layer"], CALM, ["wrong energies"]], ids=str)
def test_fpd_and_coverage_see_every_distortion(
    reference: Observables, distorted: Observe, names: Sequence[str]
) -> None:
    same = embedding_figures(reference, distorted("none"))
    seen = [embedding_figures(reference, distorted(name)) for name in names]
    fpd = [figures["FPD"].value for figures in seen]
    assert fpd[0] > same["FPD"].value + 3 * same["FPD"].error
    assert fpd == sorted(fpd)
    assert all(figures["coverage"].value < same["coverage"].value for figures in seen)


def test_simulation_against_simulation_is_at_the_floor(reference: Observables, distorted: Observe) -> None:
    """Distances are 0 within 5 of their errors, and fractions near 1; a classifier cannot tell the samples apart."""
    same = embedding_figures(reference, distorted("none"))
    for name in ("FPD", "KPD"):
        assert abs(same[name].value) < 5 * same[name].error, name
    for name in IDEAL:
        # An event is outside of all balls around its kind by chance: a few percent in 33 dimensions.
        assert same[name].value == pytest.approx(1, abs=0.15), name
    judged = judge_features(reference.features(), distorted("none").features())
    # An AUC of 400 against 400 events has a standard error of sqrt(801 / (12 x 400 x 400)) = 0.02; the mean of 5 splits
    # of the same events has at least 1 / sqrt(5) of it, and at most all of it.
    assert judged.auc == pytest.approx(0.5, abs=5 * 0.02)


@pytest.mark.parametrize("name", ["energy +5%", "shift 1/4 cell", "width +5%", "dead layer", "half fluctuations"])
def test_a_classifier_tells_distorted_showers_apart(reference: Observables, distorted: Observe, name: str) -> None:
    judged = judge_features(reference.features(), distorted(name).features(), seeds=2)
    assert judged.auc > 0.5 + 5 * 0.02
