"""Show the progress of a training on rank 0: lines in a log file and on the console, a bar on a terminal."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

__all__ = ["EpochProgress", "log_to"]

LINE_EVERY = 15.0
"""Seconds between two lines of progress if there is no terminal."""

log = logging.getLogger("gan")


def log_to(path: Path) -> logging.Handler:
    """Log to the console and to a file. Return the handler of the file, which the caller must close."""
    logging.captureWarnings(False)
    if not log.handlers:
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(console)
    log.setLevel(logging.INFO)
    log.propagate = False
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    return handler


class _LogFile(logging.FileHandler):
    """A log that loses lines on a full disk. The record and the checkpoints report the full disk as an error."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class EpochProgress:
    """Progress of one epoch: a bar on a terminal, otherwise a line every LINE_EVERY seconds."""

    def __init__(self, epoch: int, epochs: int, steps: int, events_per_step: int, *, shown: bool) -> None:
        self._title = f"epoch {epoch}/{epochs}"
        self._steps = steps
        self._events_per_step = events_per_step
        self._shown = shown
        self._bar: tqdm | None = None
        self._done = 0
        self._began = self._last_line = time.monotonic()

    def __enter__(self) -> EpochProgress:
        if self._shown and sys.stderr.isatty():
            self._redirect = logging_redirect_tqdm([log])
            self._redirect.__enter__()
            self._bar = tqdm(
                total=self._steps * self._events_per_step,
                desc=self._title,
                unit="event",
                leave=False,
                mininterval=0.5,
            )
        return self

    def step(self, discriminator: float, generator: float) -> None:
        """Count a step, and show its losses."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix(D=f"{discriminator:.3g}", G=f"{generator:.3g}", refresh=False)
            self._bar.update(self._events_per_step)
            return
        now = time.monotonic()
        if self._shown and now - self._last_line >= LINE_EVERY:
            self._last_line = now
            rate = self._done * self._events_per_step / (now - self._began)
            log.info(
                "%s  step %d/%d  %.1f events/s  loss D %.3g G %.3g",
                self._title, self._done, self._steps, rate, discriminator, generator,
            )  # fmt: skip

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._redirect.__exit__(kind, error, trace)
