"""Faults at named points of a training, in the real program.

The variable FAULTS holds the faults, separated by commas: RANK:POINT:ACTION, for example `1:step 3:kill`. Each happens
once in a process. Only the arithmetic of the networks is replaced: a step averages a few numbers over the ranks, with
the real communicator, and moves two variables. Files, signals, MPI and processes are real.

Points: start, joined, step N (of this process, from 1), stepped N, validation, checkpoint, checkpoint written,
checkpoint renamed, header, epoch, end (before such a record), and `epoch half written` and the like.

Actions: kill, stop (both by a signal to the process itself), delay=SECONDS, full=BYTES (no file may become longer than
so many bytes).
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from tests.support.environment import ROOT

__all__ = ["faulty", "install", "parse"]

Point = Callable[[str], None]


def faulty(*faults: str, step: float = 0.0) -> dict[str, str]:
    """Return the environment variables that give a training some faults.

    Args:
        step: seconds of a step.
    """
    path = f"{Path(__file__).parent / 'faults'}{os.pathsep}{ROOT}"
    return {"PYTHONPATH": path, "FAULTS": ",".join(faults), "FAULTS_STEP": str(step)}


def parse(text: str, rank: str) -> dict[str, str]:
    """Return the actions of a rank by their points."""
    faults = (fault.split(":") for fault in text.split(",") if fault)
    return {point: action for number, point, action in faults if number == rank}


def act(action: str) -> None:
    """Do what a fault says to this process."""
    name, _, value = action.partition("=")
    match name:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "delay":
            time.sleep(float(value))
        case "full":
            # The kernel refuses to make a file longer, as on a full disk. Python ignores SIGXFSZ.
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), int(value)))
        case _:
            raise ValueError(f"unknown action {action!r}")


def install(faults: dict[str, str]) -> None:
    """Make the modules of the program call `point` at its named points, when they are imported."""
    import wrapt

    def point(name: str) -> None:
        if action := faults.pop(name, None):
            act(action)

    changes: Mapping[str, Callable[..., None]] = {
        "launcher.train": _at_the_start,
        "gan.training.loop": _in_the_loop,
        "gan.run.checkpoint": _at_checkpoints,
        "scaling.records.files": _at_records,
    }
    for module, change in changes.items():
        wrapt.register_post_import_hook(partial(change, point=point), module)


def _at_the_start(module: Any, point: Point) -> None:
    join = module.join

    def joined(*arguments: Any) -> Any:
        point("start")
        result = join(*arguments)
        point("joined")
        return result

    module.join = joined


def _in_the_loop(module: Any, point: Point) -> None:
    def validate(*_: Any) -> dict[str, float]:
        point("validation")
        return {}

    module.TrainingStep = _stand_in(point)
    module.Networks.calibrate = lambda *_: None
    module.Validation.evaluate = validate


def _at_checkpoints(module: Any, point: Point) -> None:
    replacing = module.replacing

    @contextmanager
    def watched(path: Path) -> Iterator[IO[bytes]]:
        point("checkpoint")
        with replacing(path) as file:
            yield file
            file.flush()
            point("checkpoint written")
        point("checkpoint renamed")

    module.replacing = watched


def _at_records(module: Any, point: Point) -> None:
    class Writer(module.RecordWriter):
        def write(self, record: Any) -> None:
            kind = type(record).__name__.lower()
            point(kind)
            line = module.to_line(record)
            self._file.write(line[:40].encode())
            point(f"{kind} half written")
            os.truncate(self.path, self.path.stat().st_size - 40)
            super().write(record)

    module.RecordWriter = Writer


def _stand_in(point: Point) -> type:
    """Return a class that stands in for `TrainingStep`."""
    import numpy as np
    import tensorflow as tf

    from gan.training.step import StepResult

    class StandIn:
        def __init__(self, networks: Any, settings: Any, communicator: Any) -> None:
            self.moved = networks.generator_variables[0], networks.discriminator_variables[0]
            self.mean = tf.function(communicator.mean, autograph=False)
            self.steps = 0

        def __call__(
            self, cells: Any, energies: Any, position: Any, rate: float, stop: bool = False, save: bool = False
        ) -> StepResult:
            self.steps += 1
            point(f"step {self.steps}")
            time.sleep(float(os.environ.get("FAULTS_STEP", "0")))
            mean = self.mean(tf.constant([energies.mean(), cells.sum(), stop, save], tf.float32)).numpy()
            for variable in self.moved:
                variable.assign(0.9 * variable + rate * float(mean[0]))
            point(f"stepped {self.steps}")
            return StepResult(
                losses=np.full((4, 4), mean[0]),
                health=np.ones((4, 4)),
                exchange_seconds=0.0,
                stop=bool(mean[2]),
                save=bool(mean[3]),
            )

    return StandIn
