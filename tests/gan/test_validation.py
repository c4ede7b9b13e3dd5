"""The validation with real networks: the same on any number of ranks, and it notices a generator without output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan.data.feeding import Feeder
from gan.data.showers import open_showers
from gan.parallel import Alone
from gan.physics.metrics.validation import SHOWER_DISTANCE, WORST
from gan.settings import TrainingSettings
from gan.training.networks import Networks
from gan.training.validation import Validation


class OneOf(Alone):
    """One rank of several, which run one after another: `gather` only takes note of its part."""

    def __init__(self, rank: int, size: int, parts: list[Any]) -> None:
        self.rank, self.size = rank, size
        self._parts = parts

    def gather(self, value: Any) -> list[Any] | None:
        self._parts.append(value)
        return self._parts if len(self._parts) == self.size else None


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(TrainingSettings(filters="original"), Alone())


@pytest.fixture
def feeder(shower_files: Path) -> Iterator[Feeder]:
    with open_showers([str(shower_files / "*.h5")]) as showers:
        feeder = Feeder(showers)
        yield feeder
        feeder.close()


EVENTS = np.array([3, 20, 7, 11, 0, 16, 9])


@pytest.mark.slow
def test_the_figures_do_not_depend_on_the_number_of_ranks(networks: Networks, feeder: Feeder) -> None:
    alone = Validation(networks, Alone(), seed=1).evaluate(EVENTS, feeder)
    for size in (2, 3, 9):  # of 9 ranks, two have no event
        parts: list[Any] = []
        for rank in range(size):
            figures = Validation(networks, OneOf(rank, size, parts), seed=1).evaluate(EVENTS, feeder)
        assert figures.keys() == alone.keys()
        for name, value in alone.items():
            # Kernels for batches of another size add in another order: 1e-4 is a thousand roundings of float32. The
            # errors are differences of numbers of the order 1, and more of a generator that is far too bright.
            assert figures[name] == pytest.approx(value, rel=1e-4, abs=1e-4), name


def test_a_generator_without_output_is_the_worst(networks: Networks, feeder: Feeder) -> None:
    (kernel,) = networks.generator.get_layer("conv4").weights
    before = kernel.numpy()
    kernel.assign(0 * before)
    figures = Validation(networks, Alone(), seed=1).evaluate(EVENTS, feeder)
    kernel.assign(before)
    assert figures[SHOWER_DISTANCE] == WORST
    assert figures["active_cells"] == figures["hits"] == figures["variety"] == 0
    assert figures["sampling_fraction_error"] == -1
    assert all(map(np.isfinite, figures.values()))


def test_without_events_there_are_no_figures(networks: Networks, feeder: Feeder) -> None:
    assert Validation(networks, Alone(), seed=1).evaluate(EVENTS[:0], feeder) == {}
