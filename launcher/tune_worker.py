"""The program of a worker that `tune` starts: run training steps on its cores, and print events per second.

It reads its task from standard input. `python -m launcher.tune_worker` starts it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from gan.models.registry import DEFAULT
from gan.settings import TrainingSettings
from launcher.binding import bind
from launcher.placement import WorkerPlacement
from launcher.threads import plan_threads

__all__ = ["Task", "work"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The training step to measure. The fields are settings of the training. All others are the model's defaults."""

    model: str = DEFAULT.name
    filters: str | None = None
    """None means the default of the model."""
    batch_size: int = 8
    """Events per worker and step."""
    precision: str = "fp32"

    def settings(self) -> TrainingSettings:
        """Return the settings of the training.

        Raises:
            InputError: the model has no such filters.
        """
        # The shape term needs two showers in a batch.
        extra = {"shape_weight": 0.0} if self.batch_size == 1 else {}
        return TrainingSettings.of(**asdict(self), **extra)

    def __str__(self) -> str:
        return f"{self.model}, filters {self.settings().filters}, batch {self.batch_size}, {self.precision}"


def work() -> None:
    """Run one worker: bind it, build the networks, print `ready`, read the seconds, run steps, print events/s."""
    order = json.loads(sys.stdin.readline())
    placed = {**order["placement"], "cpus": tuple(order["placement"]["cpus"])}
    bind(WorkerPlacement(**placed), order["domains"])
    step, events = _step(Task(**order["task"]))
    step()
    print(json.dumps({"ready": True}), flush=True)
    seconds = float(sys.stdin.readline())
    began = time.perf_counter()
    steps = 0
    while (elapsed := time.perf_counter() - began) < seconds or not steps:
        step()
        steps += 1
    elapsed = time.perf_counter() - began
    print(json.dumps({"events_per_second": steps * events / elapsed}), flush=True)


def _step(task: Task) -> tuple[Callable[[], object], int]:
    """Return a function that runs one training step on simulated showers, and the number of events in this step."""
    from launcher.train import start_tensorflow

    threads = plan_threads(len(os.sched_getaffinity(0)), os.environ)
    start_tensorflow(threads)
    import numpy as np

    from gan.ops.draws import position
    from gan.parallel import Alone
    from gan.simulation.gflash import simulate
    from gan.training.networks import Networks
    from gan.training.step import TrainingStep

    settings = task.settings()
    train = TrainingStep(Networks(settings, Alone()), settings, Alone())
    energies = np.linspace(20, 480, task.batch_size, dtype=np.float32)
    cells = simulate(energies, seed=1)
    number = iter(range(2**32))
    return lambda: train(cells, energies, position(0, next(number)), settings.learning_rate), task.batch_size


if __name__ == "__main__":
    work()
