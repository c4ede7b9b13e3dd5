"""An epoch gives each event to one rank, every epoch has another order, and all ranks hold out the same events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gan.data.feeding import Feeder, Part, split_events
from gan.data.showers import open_showers
from gan.errors import InputError


def parts(train: np.ndarray, size: int, batch: int) -> list[Part]:
    """Return the parts of all ranks."""
    return [Part(train=train, batch_size=batch, rank=rank, size=size, seed=1) for rank in range(size)]


@given(events=st.integers(1, 500), size=st.integers(1, 16), batch=st.integers(1, 16), epoch=st.integers(0, 3))
def test_ranks_share_the_events_of_an_epoch(events: int, size: int, batch: int, epoch: int) -> None:
    assume(events >= size * batch)
    train = np.arange(1000, 1000 + events)
    ranks = parts(train, size, batch)
    used = np.concatenate([part.batches(epoch).ravel() for part in ranks])
    assert len(np.unique(used)) == len(used)
    assert set(used) <= set(train)
    assert events - len(used) == ranks[0].left_out < size * batch


@given(size=st.sampled_from([1, 2, 3, 4, 6]), epoch=st.integers(0, 3))
def test_a_global_batch_is_the_same_on_any_number_of_ranks(size: int, epoch: int) -> None:
    train = np.arange(100)
    alone = parts(train, 1, 12)[0].batches(epoch)
    together = np.concatenate([part.batches(epoch) for part in parts(train, size, 12 // size)], axis=1)
    np.testing.assert_array_equal(alone, together)


def test_every_epoch_has_another_order_and_a_second_run_the_same() -> None:
    part = parts(np.arange(64), 1, 8)[0]
    assert not np.array_equal(part.batches(0), part.batches(1))
    np.testing.assert_array_equal(part.batches(1), part.batches(1))


def test_split_holds_out_a_random_fraction() -> None:
    split = split_events(1000, events=500, validation_fraction=0.2, seed=4)
    assert (len(split.train), len(split.validation)) == (400, 100)
    assert not set(split.train) & set(split.validation)
    assert split.validation.min() < 100
    assert split.validation.max() > 900


@pytest.mark.parametrize(
    ("total", "changes", "message"),
    [
        (10, {"events": 11}, "the files hold 10"),
        (10, {"validation_fraction": 0.01}, "0.01 of 10 events gives no event"),
    ],
)
def test_a_split_without_enough_events_is_refused(total: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_events(total, **{"events": None, "validation_fraction": 0.1, "seed": 1, **changes})


def test_fewer_events_than_a_global_batch_are_refused_with_the_numbers() -> None:
    with pytest.raises(InputError, match=r"7 training events.*global batch of 8 \(2 workers x --batch-size 4\)"):
        parts(np.arange(7), 2, 4)[0].check()


def test_feeder_gives_the_batches_in_order_and_measures_the_waiting(shower_files: Path) -> None:
    batches = np.arange(24).reshape(12, 2)[::-1]
    with open_showers([str(shower_files / "*.h5")]) as showers:
        feeder = Feeder(showers)
        fed = list(feeder.feed(batches))
        assert len(fed) == 12
        assert feeder.waited > 0
        for (cells, energies), batch in zip(fed, batches, strict=True):
            expected_cells, expected_energies = showers.read(batch)
            np.testing.assert_array_equal(cells, expected_cells)
            np.testing.assert_array_equal(energies, expected_energies)


class Recording:
    """Shower set that records which batches are read. A read returns the event numbers themselves."""

    def __init__(self) -> None:
        self.read_batches: list[list[int]] = []

    def read(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.read_batches.append(batch.tolist())
        return batch, batch


def test_the_next_epoch_is_read_ahead_and_every_batch_once() -> None:
    epochs = np.arange(60).reshape(3, 10, 2)
    validation = np.arange(100, 106).reshape(3, 2)
    recording = Recording()
    feeder = Feeder(recording)  # type: ignore[arg-type]
    for number, epoch in enumerate(epochs):
        then = epochs[number + 1] if number + 1 < len(epochs) else ()
        np.testing.assert_array_equal([cells for cells, _ in feeder.feed(epoch, then)], epoch)
        np.testing.assert_array_equal([cells for cells, _ in feeder.feed(validation)], validation)
    expected = [batch for epoch in epochs for batch in (*epoch.tolist(), *validation.tolist())]
    assert sorted(recording.read_batches) == sorted(expected)
    assert recording.read_batches.index(epochs[1, 0].tolist()) < recording.read_batches.index(validation[0].tolist())


def test_an_epoch_that_stops_early_or_was_not_expected_gives_the_right_batches() -> None:
    epochs = np.arange(60).reshape(3, 10, 2)
    feeder = Feeder(Recording())  # type: ignore[arg-type]
    for _ in feeder.feed(epochs[0], epochs[1]):
        break
    assert len(list(feeder.feed(epochs[0], epochs[1]))) == 10
    np.testing.assert_array_equal([cells for cells, _ in feeder.feed(epochs[2][3:])], epochs[2][3:])
    np.testing.assert_array_equal([cells for cells, _ in feeder.feed(epochs[1])], epochs[1])


def test_feeder_passes_a_failed_read_on() -> None:
    class Broken:
        def read(self, batch: np.ndarray) -> None:
            raise InputError("file 3 is damaged")

    with pytest.raises(InputError, match="file 3"):
        list(Feeder(Broken()).feed(np.zeros((3, 2), int)))  # type: ignore[arg-type]
