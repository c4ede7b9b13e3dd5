"""Alarms of a training that does not learn. They judge the losses and the signs of life of every step.

Each alarm has a condition on a step. It warns once when the condition has held for PATIENCE steps, and again only if
the condition was absent for RECOVERED steps in between. All ranks see the same numbers, so all reach the same result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gan.physics.metrics.validation import SILENT
from gan.training.health import HEALTH
from gan.training.step import LOSSES

__all__ = ["ALARMS", "Alarms", "Warned"]

Floats = npt.NDArray[np.floating[Any]]

PATIENCE = 20
"""Steps in a row before an alarm warns."""
RECOVERED = 100
"""Steps in a row without the condition after which an alarm may warn again."""
FEWEST_SILENT = 50
"""Steps without output before a training ends. An epoch of a few events may be shorter."""
DEAD = 0.1
"""Share of the real showers' active cells below which a generator is dead."""
FAINT = 0.01
"""Share of the real showers' energy below which a generator is dead, whatever the number of its active cells."""
COLLAPSED = 0.1
"""Share of the real showers' variety below which a generator makes one shower for all latent vectors."""
SURE = 0.99
"""Probability from which the discriminator is saturated, if it gives it for real showers and for "not generated"."""
BLIND = 0.02
"""Difference of the probabilities for real and generated showers below which the discriminator is blind."""
DIFFERENT = 2.0
"""Factor in active cells or energy from which generated showers are so different that the discriminator should know."""
STILL = 1e-3
"""Relative standard deviation over PATIENCE steps below which a loss does not move. The batches alone move it more."""


class _Signs:
    """The signs of life of one step by name."""

    def __init__(self, health: Floats) -> None:
        self._health = health

    def __call__(self, name: str, update: str = "discriminator_fake") -> float:
        return float(self._health[LOSSES.index(update), HEALTH.index(name)])

    def ratio(self, name: str, update: str = "discriminator_fake") -> float:
        """Return the sign of the generated showers divided by that of the real ones. 1 if both are 0."""
        real, fake = self(name, "discriminator_real"), self(name, update)
        return fake / real if real > 0 else 1.0 if fake == real else float("inf")

    @property
    def differ(self) -> bool:
        ratios = [self.ratio(name) for name in ("active_cells", "sampling_fraction")]
        return any(ratio * DIFFERENT < 1 or ratio > DIFFERENT for ratio in ratios)

    @property
    def dead(self) -> bool:
        return self.ratio("active_cells") < DEAD or self.ratio("sampling_fraction") < FAINT

    @property
    def silent(self) -> bool:
        """True if no update of the step saw output of the generator, with moving or with batch statistics.

        Such a generator gets no gradient.
        """
        return all(self.ratio("active_cells", update) < SILENT for update in LOSSES[1 : len(self._health)])

    @property
    def collapsed(self) -> bool:
        return not self.dead and self.ratio("variety") < COLLAPSED

    @property
    def saturated(self) -> bool:
        return self("judged_real", "discriminator_real") > SURE and self("judged_real") < 1 - SURE

    @property
    def blind(self) -> bool:
        return abs(self("judged_real", "discriminator_real") - self("judged_real")) < BLIND and self.differ


@dataclass(frozen=True, kw_only=True, slots=True)
class _Alarm:
    condition: Callable[[_Signs], bool]
    seen: str
    """What the steps show, as the end of a sentence."""
    advice: str
    """What to try."""


ALARMS = {
    "dead generator": _Alarm(
        condition=lambda signs: signs.dead,
        seen=f"the generated showers have less than {DEAD:.0%} of the active cells or {FAINT:.0%} of the energy of the "
        "real ones",
        advice="try a smaller --learning-rate or a larger --batch-size, or start again with another --seed",
    ),
    "collapsed modes": _Alarm(
        condition=lambda signs: signs.collapsed,
        seen="the generated showers of a batch are almost equal, whatever the latent vector",
        advice="try a smaller --learning-rate, or start again from an earlier checkpoint with another --seed",
    ),
    "saturated discriminator": _Alarm(
        condition=lambda signs: signs.saturated,
        seen=f"it knows real from generated showers with more than {SURE:.0%} probability, so the generator learns "
        "little from it",
        advice="wait some epochs; if it stays, try a smaller --learning-rate",
    ),
    "blind discriminator": _Alarm(
        condition=lambda signs: signs.blind,
        seen="it gives real and generated showers the same probability, although they differ by more than a factor of "
        f"{DIFFERENT:.0f} in active cells or energy",
        advice="try a smaller --learning-rate or a larger --batch-size",
    ),
}
_LOSSES_STILL = "losses not moving"


@dataclass(slots=True)
class _State:
    """Counters of one alarm."""

    on: int = 0
    off: int = RECOVERED
    warned: bool = False

    def step(self, condition: bool, patience: int = PATIENCE) -> bool:
        """Count a step. Return True if the alarm warns now, after `patience` steps with the condition."""
        self.on, self.off = (self.on + 1, 0) if condition else (0, self.off + 1)
        if self.off >= RECOVERED:
            self.warned = False
        if self.on < patience or self.warned:
            return False
        self.warned = True
        return True


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning of an alarm."""

    alarm: str
    """Name of the alarm, such as `dead generator`."""
    step: int
    """Step of the epoch at which the condition began, from 1. It is 0 or negative if this was in an earlier epoch."""
    text: str
    """What was seen and what to try, as one sentence."""

    def sentence(self, epoch: int, steps: int) -> str:
        """Return the whole warning.

        Args:
            epoch: epoch of the step that warned, from 0.
            steps: number of steps in an epoch.
        """
        earlier, place = divmod(epoch * steps + self.step - 1, steps)
        return f"{self.alarm} since epoch {earlier + 1}, step {place + 1}: {self.text}"


class Alarms:
    """The alarms of one training, with their counters since the start of this job."""

    def __init__(self) -> None:
        self._states = {name: _State() for name in (*ALARMS, _LOSSES_STILL)}
        self._losses: deque[Floats] = deque(maxlen=PATIENCE)
        self.silent_steps = 0
        """Number of steps up to now in which the generator had no output at all."""

    def silent_epoch(self, steps: int) -> bool:
        """Return True if the generator had no output in all the last steps of an epoch of so many steps."""
        return self.silent_steps >= max(steps, FEWEST_SILENT)

    def step(self, number: int, losses: Floats, health: Floats) -> list[Warned]:
        """Judge a step.

        Args:
            number: number of the step in its epoch, from 1.
            losses: `StepResult.losses`.
            health: `StepResult.health`.

        Returns:
            The warnings that this step completes. Mostly none.
        """
        signs = _Signs(health)
        self.silent_steps = self.silent_steps + 1 if signs.silent else 0
        self._losses.append(losses[:, 0])
        return list(self._warnings(number, signs))

    def _warnings(self, number: int, signs: _Signs) -> Iterator[Warned]:
        began = number - PATIENCE + 1
        for name, alarm in ALARMS.items():
            if self._states[name].step(alarm.condition(signs)):
                yield Warned(name, began, f"{alarm.seen}; {alarm.advice}")
        # This condition looks at PATIENCE steps itself.
        if self._states[_LOSSES_STILL].step(self._still(), patience=1):
            seen = f"no loss changed by more than {STILL:.1%} in {PATIENCE} steps"
            yield Warned(
                _LOSSES_STILL, began, f"{seen}; try a larger --learning-rate, or start again with another --seed"
            )

    def _still(self) -> bool:
        if len(self._losses) < PATIENCE:
            return False
        seen = np.array(self._losses)
        return bool(np.all(seen.std(axis=0) <= STILL * np.abs(seen.mean(axis=0))))
