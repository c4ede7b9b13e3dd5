"""Observables of showers made by hand, whose values can be computed on paper."""

from __future__ import annotations

import numpy as np
import pytest

from gan.physics.observables import FEATURES, SCALARS, SPECTRUM_EDGES, Observables, Observer, ring_numbers

SHAPE = (25, 25, 25)


def cells(*deposits: tuple[int, int, int, float]) -> np.ndarray:
    """Return one shower with the given deposits: x, y, layer, GeV."""
    shower = np.zeros((1, *SHAPE), np.float32)
    for x, y, layer, energy in deposits:
        shower[0, x, y, layer] += energy
    return shower


def observe(shower: np.ndarray, energy: float = 100.0) -> Observables:
    return Observer().add(shower, np.full(len(shower), energy))


def scalar(observables: Observables, name: str) -> float:
    return float(observables.scalars()[0, SCALARS.index(name)])


def test_two_equal_deposits() -> None:
    seen = observe(cells((12, 12, 4, 0.5), (16, 12, 10, 0.5)))
    assert seen.visible[0] == 1.0
    assert scalar(seen, "sampling_fraction") == 0.01
    assert seen.mean[0].tolist() == [14.0, 12.0, 7.0]
    assert seen.variance[0].tolist() == [4.0, 0.0, 9.0]
    assert scalar(seen, "hits") == 2
    assert scalar(seen, "radius") == 2.0, "0 and 4 cells from the axis"
    assert seen.z[0].nonzero()[0].tolist() == [4, 10]
    assert seen.radial[0].nonzero()[0].tolist() == [0, 4]
    # 10% of the energy is a fifth of layer 4, 90% four fifths of layer 10.
    assert scalar(seen, "start") == pytest.approx(4.2)
    assert scalar(seen, "containment") == pytest.approx(10.8)
    assert scalar(seen, "maximum") == 4, "the first of equal layers"


def test_a_hit_is_above_the_threshold() -> None:
    shower = cells((12, 12, 3, 2e-4), (12, 12, 4, 4e-4), (12, 12, 5, 1.0))
    assert observe(shower).hits[0] == 2
    assert Observer(hit=0.5).add(shower, [100.0]).hits[0] == 1


def test_rings_are_one_cell_wide_around_the_axis() -> None:
    rings = ring_numbers(25, 25)
    assert rings[12, 12] == 0
    assert {rings[11, 12], rings[13, 12], rings[12, 11], rings[11, 11]} == {1}
    assert rings[0, 0] == rings[24, 24] == 17


def test_a_shower_without_energy_has_observables_of_zero() -> None:
    observer = Observer()
    seen = observer.add(np.zeros((2, *SHAPE), np.float32), [50.0, 60.0])
    assert not seen.scalars().any()
    assert observer.empty_events == 2


def test_batches_give_what_one_batch_gives() -> None:
    showers = np.random.default_rng(1).gamma(0.1, 1e-3, (7, *SHAPE)).astype(np.float32)
    energies = np.linspace(10, 70, 7)
    whole, parts = Observer(), Observer()
    expected = whole.add(showers, energies)
    for start in (0, 3, 5):
        parts.add(
            showers[start : start + {0: 3, 3: 2, 5: 2}[start]], energies[start : start + {0: 3, 3: 2, 5: 2}[start]]
        )
    # Sums of up to 15,625 positive terms in float64, in any order: 15,625 x 2^-53 = 2e-12.
    np.testing.assert_allclose(parts.observables().features(), expected.features(), rtol=4e-12)
    np.testing.assert_array_equal(parts.spectrum, whole.spectrum)
    assert expected.features().shape == (7, len(FEATURES))
    np.testing.assert_array_equal(parts.observables().take([2, 4]).energies, energies[[2, 4]])


def test_the_spectrum_counts_cells() -> None:
    observer = Observer()
    observer.add(cells((1, 1, 1, 3e-4), (2, 2, 2, 3.1e-4), (3, 3, 3, 0.02)), [100.0])
    assert observer.spectrum.sum() == 3
    assert observer.spectrum[np.searchsorted(SPECTRUM_EDGES, 3e-4) - 1] == 2


def test_negative_cells_are_counted_and_others_refused() -> None:
    observer = Observer()
    observer.add(cells((1, 1, 1, 1.0), (2, 2, 2, -0.25)), [100.0])
    assert observer.negative_cells == 1
    assert observer.observables().visible[0] == 0.75
    with pytest.raises(ValueError, match="event 0 of the batch has cells that are not finite"):
        observer.add(cells((1, 1, 1, np.nan)), [100.0])
