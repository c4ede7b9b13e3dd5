"""Compare held-out showers with generated showers of the same energies: losses, profiles and sampling fraction.

Each rank evaluates its part of the held-out events. The sums over all ranks give the same results on any number of
ranks.
"""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

from gan.data.feeding import Feeder
from gan.models.latent import ENERGY_UNIT
from gan.parallel import Communicator
from gan.physics.formulas import profile_error, profiles
from gan.training.losses import judgement_loss, targets
from gan.training.step import Networks

__all__ = ["PROFILE_ERROR", "Validation"]

PROFILE_ERROR = "profile_error"
"""Name of the result that decides which epoch is the best."""
BATCH = 32
_LOSSES = ("discriminator_real", "discriminator_fake", "generator")
_SUMS = 1 + len(_LOSSES) + 2
"""Number of sums before the profiles: events, each loss, sampling fractions of real and of generated showers."""


class Validation:
    """Evaluation of the networks in inference mode. All ranks must call it together."""

    def __init__(self, networks: Networks, communicator: Communicator, seed: int) -> None:
        self._networks = networks
        self._architecture = networks.architecture
        self._communicator = communicator
        self._seed = seed
        self._judge = tf.function(self._judge_batch, reduce_retracing=True, autograph=False)

    def evaluate(self, events: np.ndarray, feeder: Feeder) -> dict[str, float]:
        """Return means over the held-out events.

        Args:
            events: numbers of all held-out events, equal on all ranks.
            feeder: reads the events.

        Returns:
            `discriminator_real`, `discriminator_fake` and `generator` (losses without label flips or dropout),
            `sampling_fraction_error` (mean of the generated over mean of the real showers, minus 1) and
            `profile_error` (see `physics.formulas.profile_error`, with all energies in one bin). Empty without events.
        """
        if not len(events):
            return {}
        own = events[self._communicator.rank :: self._communicator.size]
        batches = [own[start : start + BATCH] for start in range(0, len(own), BATCH)]
        sums = np.zeros(_SUMS + 2 * sum(self._architecture.cells))
        for numbers, (cells, energies) in zip(batches, feeder.feed(batches), strict=True):
            sums += self._sums(cells, energies, numbers)
        # Add in float64 and in rank order, so that all ranks get the same bits.
        total = np.sum(self._communicator.allgather(sums), axis=0)
        return self._figures(total)

    def _sums(self, cells: np.ndarray, energies: np.ndarray, events: np.ndarray) -> np.ndarray:
        scaled = (energies / ENERGY_UNIT)[:, np.newaxis]
        latent = self._architecture.latent.scaled(self._noise(events), scaled)
        losses, fakes = self._judge(cells[..., np.newaxis], scaled, latent)
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
        """Return the noise of each event, float32 (n, latent size).

        The noise depends only on the event, not on the rank or the epoch. So all epochs are compared with the same
        noise.
        """
        size = self._architecture.latent.size
        rows = [np.random.default_rng([self._seed, 2, event]).standard_normal(size) for event in events]
        return np.asarray(rows, dtype=np.float32)

    def _judge_batch(self, cells: tf.Tensor, energies: tf.Tensor, latent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        networks, terms = self._networks, self._architecture.losses
        fakes = networks.generator(latent, training=False)
        real, fake = (networks.discriminator(image, training=False) for image in (cells, fakes))
        one = tf.ones_like(energies)
        visible = tf.reduce_sum(cells, axis=(1, 2, 3))
        losses = [
            judgement_loss(terms, real, targets(one, energies, visible)),
            judgement_loss(terms, fake, targets(0 * one, energies)),
            judgement_loss(terms, fake, targets(one, energies)),
        ]
        return tf.stack([loss[0] for loss in losses]), fakes

    def _figures(self, total: np.ndarray) -> dict[str, float]:
        events, *means = total[:_SUMS]
        *losses, fraction, fake_fraction = means
        cuts = list(itertools.accumulate(2 * self._architecture.cells))[:-1]
        profile_sums = np.split(total[_SUMS:], cuts)
        return {
            **{name: float(loss / events) for name, loss in zip(_LOSSES, losses, strict=True)},
            "sampling_fraction_error": float(fake_fraction / fraction - 1),
            PROFILE_ERROR: profile_error(profile_sums[:3], profile_sums[3:]),
        }
