"""Primary energies: uniform, the same for the same seed and event, and in the allowed range."""

import math

import numpy as np
import pytest

from gan.data.energies import check_energy_range, draw_energies
from gan.errors import InputError


def test_energies_are_uniform_in_their_interval() -> None:
    energies = draw_energies(2000, seed=1, first_event=0, energy_min=2, energy_max=500)
    assert ((energies >= 2) & (energies < 500)).all()
    counts, _ = np.histogram(energies, bins=10, range=(2, 500))
    # Allow five standard deviations of a bin.
    assert abs(counts - 200).max() < 5 * np.sqrt(200)


def test_energies_are_those_of_earlier_versions() -> None:
    """Files contain their seed, so every version must draw the same energies from a seed."""
    energies = draw_energies(3, seed=7, first_event=5, energy_min=2, energy_max=500)
    expected = ["0x1.9ed949588b27ap+8", "0x1.b27938c3ef13ap+8", "0x1.d5bccc77be8d2p+8"]
    assert [energy.hex() for energy in energies.tolist()] == expected


@pytest.mark.parametrize(("low", "high"), [(0.5, 10), (2, 1001), (20, 10), (math.nan, 10), (2, math.nan)])
def test_an_energy_range_that_is_not_allowed_is_an_input_error(low: float, high: float) -> None:
    with pytest.raises(InputError, match=rf"--energy-min is {low:g} and --energy-max {high:g}; expected 1 to 1000 GeV"):
        check_energy_range(low, high)


def test_the_whole_range_is_allowed() -> None:
    check_energy_range(1, 1000)
