"""Held-out showers against generated ones of the same energies: losses, profiles and sampling fraction.

Each rank takes its part of the held-out events; the sums over all of them give the same figures on any number of ranks.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from gan.data.feeding import Feeder
from gan.models.conv3d import LATENT
from gan.parallel import Communicator
from gan.physics.formulas import profile_error, profiles
from gan.training.losses import ENERGY_UNIT, LOSS_PARTS, judgement_loss, targets_of
from gan.training.step import Networks

__all__ = ["PROFILE_ERROR", "Validation"]

PROFILE_ERROR = "profile_error"
"""Name of the figure that says which epoch is the best."""
BATCH = 32
_JUDGED = ("real", "fake", "generator")


class Validation:
    """Evaluates the networks in inference mode. All ranks take part."""

    def __init__(self, networks: Networks, communicator: Communicator, seed: int) -> None:
        self._networks = networks
        self._communicator = communicator
        self._seed = seed
        self._judge = tf.function(self._judge_batch, reduce_retracing=True, autograph=False)

    def evaluate(self, events: np.ndarray, feeder: Feeder) -> dict[str, float]:
        """Means over the held-out events.

        Args:
            events: numbers of all held-out events; this rank evaluates its part of them.

        Returns:
            `discriminator_real`, `discriminator_fake` and `generator` (losses without label flips or dropout),
            `sampling_fraction_error` (mean of the fakes over mean of the real ones, minus 1) and `profile_error`
            (see `physics.profile_error`; all energies in one bin). Empty where there are no events.
        """
        if not len(events):
            return {}
        mine = events[self._communicator.rank :: self._communicator.size]
        batches = [mine[start : start + BATCH] for start in range(0, len(mine), BATCH)]
        sums = np.zeros(1 + len(_JUDGED) + 2 + 2 * 75)
        numbers = iter(batches)
        for cells, energies in feeder.feed(batches):
            sums += self._sums(cells, energies, next(numbers))
        return _figures(self._total(sums))

    def _sums(self, cells: np.ndarray, energies: np.ndarray, events: np.ndarray) -> np.ndarray:
        scaled = (energies / ENERGY_UNIT)[:, np.newaxis]
        losses, fakes = self._judge(cells[..., np.newaxis], scaled, self._noise(events) * scaled)
        fake_cells = fakes.numpy()[..., 0]
        return np.concatenate(
            [
                [len(cells)],
                losses.numpy() * len(cells),
                [np.sum(image.sum(axis=(1, 2, 3)) / energies) for image in (cells, fake_cells)],
                *(profile.sum(axis=0) for image in (cells, fake_cells) for profile in profiles(image)),
            ]
        )

    def _noise(self, events: np.ndarray) -> np.ndarray:
        """Noise that belongs to the event, not to the rank or the epoch: epochs are compared on equal terms."""
        rows = [np.random.default_rng([self._seed, 2, event]).standard_normal(LATENT) for event in events]
        return np.asarray(rows, dtype=np.float32)

    def _judge_batch(self, cells: tf.Tensor, energies: tf.Tensor, latent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        networks = self._networks
        fakes = networks.generator(latent, training=False)
        real, fake = (networks.discriminator(image, training=False) for image in (cells, fakes))
        one = tf.ones_like(energies)
        ecal = tf.reduce_sum(cells, axis=(1, 2, 3))
        losses = [
            judgement_loss(real, targets_of(one, energies, ecal)),
            judgement_loss(fake, targets_of(0 * one, energies)),
            judgement_loss(fake, targets_of(one, energies)),
        ]
        return tf.stack([loss[LOSS_PARTS.index("total")] for loss in losses]), fakes

    def _total(self, sums: np.ndarray) -> np.ndarray:
        """Sums over ranks in float64, added in rank order so that all ranks get the same bits."""
        return np.sum(self._communicator.allgather(sums), axis=0)


def _figures(total: np.ndarray) -> dict[str, float]:
    count, real, fake, generator, fraction, fake_fraction = total[:6]
    axes = total[6:].reshape(2, 3, 25)
    return {
        "discriminator_real": float(real / count),
        "discriminator_fake": float(fake / count),
        "generator": float(generator / count),
        "sampling_fraction_error": float(fake_fraction / fraction - 1),
        PROFILE_ERROR: profile_error(axes[0], axes[1]),
    }
