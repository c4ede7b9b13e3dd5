"""The errors that end a training: the networks do not learn any more. They say what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gan.errors import GeneratorDead, TrainingDiverged
from gan.models.architecture import Architecture
from gan.physics.metrics.validation import WORST
from gan.training.step import LOSSES

__all__ = ["dead", "diverged"]


def dead(silent: int, distances: Sequence[float], checkpoints: Path) -> GeneratorDead:
    """Return the error for a generator without output.

    Args:
        silent: number of steps without output.
        distances: shower distance of every complete epoch.
        checkpoints: folder of the checkpoints.
    """
    good = [epoch for epoch, distance in enumerate(distances, start=1) if distance < WORST]
    best = min(good, key=lambda epoch: distances[epoch - 1], default=None)
    checkpoint = (
        f"the last good checkpoint is {checkpoints / 'best.npz'} of epoch {best}"
        if best
        else "no epoch has a good checkpoint"
    )
    return GeneratorDead(
        f"the generator gave no output in the last {silent} steps, up to the end of epoch {len(distances)}; "
        f"expected showers; {checkpoint}. Start again in another --out with a smaller --learning-rate, a larger "
        "--batch-size or another --seed. --no-stop-when-dead trains on",
        agreed=True,  # the signs of life are means over ranks, so all ranks see the same
    )


def diverged(
    epoch: int, step: int, losses: np.ndarray, rate: float, design: Architecture, workers: int
) -> TrainingDiverged:
    """Return the error for a loss that is not finite.

    Args:
        epoch: number of the epoch, from 0.
        step: number of the step in it, from 0.
        losses: `StepResult.losses`.
        rate: learning rate of the step.
        design: architecture of the networks.
        workers: number of all workers.
    """
    update, part = np.argwhere(~np.isfinite(losses))[0]
    return TrainingDiverged(
        f"epoch {epoch + 1}, step {step + 1}: the loss {LOSSES[update]} ({design.loss_parts[part]}) is "
        f"{losses[update, part]}; expected a finite number. The learning rate was {rate:.3g} on "
        f"{workers} workers: try --lr-scaling sqrt, a longer --warmup-epochs or a smaller "
        f"--learning-rate. The last checkpoint is of epoch {epoch}",
        agreed=True,  # the losses are means over ranks, so all ranks see the same
    )
