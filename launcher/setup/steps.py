"""Runs the long commands of the set-up in sight of the user, with their output in one log file.

On a terminal a moving line shows the newest line of the log; elsewhere a plain line every fifteen seconds
does. What the commands are and what a failure means is left to the callers. Standard library only.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from launcher.errors import LaunchError

__all__ = ["CommandFailed", "Steps", "explain", "newest", "tail", "telling_lines"]

PLAIN_INTERVAL = 15.0
MOVING_INTERVAL = 0.2
SHOWN_ON_FAILURE = 8
SHOWN_AFTER_ERROR = 5

# What a log's text means for the user, in order of precedence.
_CAUSES = (
    (
        r"No space left on device",
        "The disk is full: free some space or put the environment elsewhere (VENV=...).",
    ),
    (
        r"Killed signal terminated program|Cannot allocate memory",
        "Memory ran out while compiling (2 GB are needed).",
    ),
    (
        r"Retrying \(Retry\(|Failed to establish a new connection|Temporary failure in name resolution"
        r"|Could not fetch URL|ProxyError|ReadTimeoutError|SSLCertVerificationError",
        "The package index could not be reached: check the network, the proxy (HTTPS_PROXY) or the index "
        "(PIP_INDEX_URL).",
    ),
    (
        r"No matching distribution found|ResolutionImpossible",
        "The package index has no suitable release for this Python and this machine.",
    ),
)

_ERROR = re.compile(r"\bfatal error: |\berror: |\bCMake Error\b")
_TELLING = re.compile(r"\[ *\d+%\]|(Collecting|Downloading|Building|Installing|Preparing|Successfully) ")


class CommandFailed(LaunchError):
    """A command of a step ended with an error; the message holds the end of its output and the log's path."""


def explain(output: str) -> str:
    """Name the cause that a failed command's output shows, and what to do; empty if it is not known."""
    return next((advice for pattern, advice in _CAUSES if re.search(pattern, output)), "")


def tail(output: str, lines: int) -> list[str]:
    """Return the last lines that are not blank."""
    return [line for line in output.splitlines() if line.strip()][-lines:]


def telling_lines(output: str) -> list[str]:
    """Return the first error of a failed command with the lines after it, and the end of its output.

    A compiler's first error is the cause; what pip and CMake add afterwards only says that there was one.
    """
    lines = tail(output, len(output))
    end = max(0, len(lines) - SHOWN_ON_FAILURE)
    first = next((number for number, line in enumerate(lines[:end]) if _ERROR.search(line)), None)
    if first is None:
        return lines[end:]
    return [*lines[first : min(first + SHOWN_AFTER_ERROR, end)], "...", *lines[end:]]


def newest(output: str) -> str:
    """Return the newest line that tells how far pip or CMake is; if there is none, the newest line."""
    lines = [line.strip() for line in tail(output, len(output))]
    telling = [line for line in lines if _TELLING.match(line)]
    return next(reversed(telling or lines), "")


@dataclass(kw_only=True, slots=True)
class Steps:
    """Numbers the steps and runs their commands."""

    log: Path
    """File that takes all output; it is begun anew."""
    total: int
    """Number of steps, for the display."""
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    """Where progress goes."""
    _number: int = 0
    _title: str = ""
    _began: float = 0.0

    def __post_init__(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Number and announce a step; afterwards say how long it took."""
        self._number += 1
        self._title = f"[{self._number}/{self.total}] {title}"
        self._began = time.monotonic()
        self.say(self._title)
        yield
        self.say(f"{self._title}: done, {self._elapsed()}")

    def say(self, line: str) -> None:
        """Print a whole line, in place of the moving one."""
        self._print(line + "\n")

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float | None = None) -> str:
        """Run a command with its output in the log and return that output.

        Raises CommandFailed if it can't be started, ends with another status than 0, or takes more than
        timeout seconds.
        """
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(argv)}\n".encode())
            log.flush()
            start = log.tell()
            try:
                # A session of its own, so that an interrupt or a timeout ends the compilers that pip
                # started too.
                process = subprocess.Popen(
                    argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as error:
                raise CommandFailed(f"{argv[0]} could not be started: {error.strerror}.") from error
        try:
            status = self._watch(process, start, timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output = self._output(start)
        if status != 0:
            raise self._failure(f"ended with status {status}", output)
        return output

    def _watch(self, process: "subprocess.Popen[bytes]", start: int, timeout: float | None) -> int:
        began = shown = time.monotonic()
        moving = self.stream.isatty()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=MOVING_INTERVAL)
            now = time.monotonic()
            if timeout is not None and now - began > timeout:
                raise self._failure(f"was stopped after {timeout:.0f} s without an end", self._output(start))
            if moving or now - shown >= PLAIN_INTERVAL:
                shown = now
                line = f"[{self._number}/{self.total}] {self._elapsed()}  {newest(self._output(start, last=65536))}"
                if moving:
                    self._print(line[: shutil.get_terminal_size().columns - 1])
                else:
                    self._print(f"{line[:120]}\n")

    def _failure(self, what: str, output: str) -> CommandFailed:
        excerpt = "\n".join(f"  | {line[:200]}" for line in telling_lines(output))
        advice = explain(output)
        closing = f"{advice}\n" if advice else ""
        return CommandFailed(f"{self._title} {what}. From its output:\n{excerpt}\n{closing}All of it: {self.log}")

    def _output(self, start: int, last: int | None = None) -> str:
        with self.log.open("rb") as log:
            log.seek(start if last is None else max(start, self.log.stat().st_size - last))
            return log.read().decode(errors="replace")

    def _print(self, text: str) -> None:
        # Back to the first column and clear the moving line; a log never gets these.
        self.stream.write(f"\r\033[K{text}" if self.stream.isatty() else text)
        self.stream.flush()

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"
