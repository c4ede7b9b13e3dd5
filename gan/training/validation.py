"""Compare held-out showers with generated showers of the same energies, after every epoch.

Each rank evaluates its part of the held-out events. Rank 0 puts the parts together in the order of the events, so the
results do not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from gan.data.feeding import Feeder
from gan.models.latent import ENERGY_UNIT
from gan.parallel import Communicator
from gan.physics.metrics.validation import validation_figures, variety
from gan.physics.observables import Observables, Observer
from gan.training.losses import judgement_loss, targets
from gan.training.networks import Networks

__all__ = ["Validation"]

BATCH = 32
TWINS = 256
"""Number of held-out events, from the first one, that get a second shower from another latent vector."""
_MEANS = ("discriminator_real", "discriminator_fake", "generator", "judged_real", "judged_fake")


@dataclass(slots=True)
class _Part:
    """Results of one rank."""

    places: list[int] = field(default_factory=list)
    """Places of its events among all held-out events."""
    sums: np.ndarray = field(default_factory=lambda: np.zeros(len(_MEANS)))
    """Sums over its events of the values in _MEANS."""
    variety: list[np.ndarray] = field(default_factory=list)
    observables: tuple[Observables, Observables] | None = None
    """Real and generated showers. None without events."""


class Validation:
    """Evaluation of the networks in inference mode. All ranks must call it together."""

    def __init__(self, networks: Networks, communicator: Communicator, seed: int) -> None:
        self._networks = networks
        self._architecture = networks.architecture
        self._shower_generator = networks.shower_generator
        self._communicator = communicator
        self._seed = seed
        self._judge = tf.function(self._judge_batch, reduce_retracing=True, autograph=False)
        self._generate = tf.function(
            lambda latent: self._shower_generator.cells(latent), reduce_retracing=True, autograph=False
        )

    def evaluate(
        self, events: np.ndarray, feeder: Feeder, progress: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Return figures of the held-out events, equal on all ranks.

        Args:
            events: numbers of all held-out events, equal on all ranks.
            feeder: reads the events.
            progress: called after each batch.

        Returns:
            `discriminator_real`, `discriminator_fake` and `generator` (losses without label flips or dropout),
            `judged_real` and `judged_fake` (mean probability that the discriminator gives for "real"), and the figures
            of `physics.metrics.validation`. Empty without events.
        """
        if not len(events):
            return {}
        parts = self._communicator.gather(self._part(events, feeder, progress))
        return self._communicator.broadcast(self._figures(parts) if parts is not None else None)

    def _part(self, events: np.ndarray, feeder: Feeder, progress: Callable[[], None]) -> _Part:
        places = np.arange(self._communicator.rank, len(events), self._communicator.size)
        cuts = range(0, len(places), BATCH)
        real, fake, part = Observer(), Observer(), _Part(places=places.tolist())
        batches = [events[places[start : start + BATCH]] for start in cuts]
        for start, (cells, energies) in zip(cuts, feeder.feed(batches), strict=True):
            own = places[start : start + BATCH]
            scaled = (energies / ENERGY_UNIT)[:, np.newaxis]
            means, fakes = self._judge(cells[..., np.newaxis], scaled, self._latent(events[own], scaled))
            # Cells that are not finite count as empty: they are no output.
            fake_cells = np.nan_to_num(fakes.numpy()[..., 0], copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            real.add(cells, energies)
            fake.add(fake_cells, energies)
            part.sums += len(cells) * means.numpy()
            twins = own < TWINS
            if twins.any():
                others = self._generate(self._latent(events[own], scaled, twin=True))[..., 0]
                part.variety.append(variety(fake_cells, np.nan_to_num(others.numpy()))[twins])
            progress()
        if batches:
            part.observables = real.observables(), fake.observables()
        return part

    def _latent(self, events: np.ndarray, energies: np.ndarray, *, twin: bool = False) -> np.ndarray:
        """Return the latent vector of each event, float32 (n, latent size).

        The noise depends only on the event, not on the rank or the epoch. So all epochs are compared with the same
        noise. A twin has other noise.
        """
        size = self._architecture.latent.size
        kind = (2, 1) if twin else (2,)
        rows = [np.random.default_rng([self._seed, *kind, event]).standard_normal(size) for event in events]
        return self._shower_generator.input(np.asarray(rows, dtype=np.float32), energies.astype(np.float32))

    def _judge_batch(self, cells: tf.Tensor, energies: tf.Tensor, latent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        networks, terms, weights = self._networks, self._architecture.losses, self._networks.settings.weights
        fakes = self._shower_generator.cells(latent)
        real, fake = (
            networks.discriminator(networks.scale.values(showers), training=False) for showers in (cells, fakes)
        )
        one = tf.ones_like(energies)
        visible = tf.reduce_sum(cells, axis=(1, 2, 3))
        losses = [
            judgement_loss(terms, weights, real, targets(one, energies, visible)),
            judgement_loss(terms, weights, fake, targets(0 * one, energies)),
            judgement_loss(terms, weights, fake, targets(one, energies)),
        ]
        judged = [tf.reduce_mean(tf.nest.flatten(outputs)[self._architecture.label_output]) for outputs in (real, fake)]
        return tf.stack([*(loss[0] for loss in losses), *judged]), fakes

    def _figures(self, parts: list[_Part]) -> dict[str, float]:
        order = np.argsort(np.concatenate([part.places for part in parts]).astype(np.int64))
        means = np.sum([part.sums for part in parts], axis=0) / len(order)
        real, fake = (
            Observables.join([part.observables[kind] for part in parts if part.observables]).take(order)
            for kind in (0, 1)
        )
        spread = float(np.mean(np.concatenate([batch for part in parts for batch in part.variety])))
        return {
            **{name: float(value) for name, value in zip(_MEANS, means, strict=True)},
            **validation_figures(real, fake, spread, cells=int(np.prod(self._architecture.cells))),
        }
