"""Run the long commands of the set-up: show progress, and write their output to one log file. Standard library only.

On a terminal, one line is updated in place with the newest line of the log. Elsewhere a new line is printed every 15
seconds.
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

from launcher.setup.errors import SetupError

__all__ = ["CommandFailed", "Steps", "explain", "newest", "tail", "telling_lines"]

PLAIN_INTERVAL = 15.0
"""Seconds between two lines of progress in a file or pipe."""
MOVING_INTERVAL = 0.2
"""Seconds between two updates of the line on a terminal."""
SHOWN_ON_FAILURE = 8
"""Number of lines from the end of the output that an error message shows."""
SHOWN_AFTER_ERROR = 5
"""Number of lines from the first error on that an error message shows."""

# Patterns in the output of a command, and advice for the user. The first match counts.
_CAUSES = (
    (
        r"No space left on device",
        "The disk is full: free some space, or choose another folder (VENV=...).",
    ),
    (
        r"Killed signal terminated program|Cannot allocate memory",
        "The compiler ran out of memory: compiling needs 2 GB, so use a machine with more memory.",
    ),
    (
        r"Retrying \(Retry\(|Failed to establish a new connection|Temporary failure in name resolution"
        r"|Could not fetch URL|ProxyError|ReadTimeoutError|SSLCertVerificationError",
        "The package index could not be reached: check the network, the proxy (HTTPS_PROXY) and the index "
        "(PIP_INDEX_URL).",
    ),
    (
        r"No matching distribution found|ResolutionImpossible",
        "The package index has no suitable release for this Python and this machine: try another Python (PYTHON=...).",
    ),
)

_ERROR = re.compile(r"\bfatal error: |\berror: |\bCMake Error\b")
_TELLING = re.compile(r"\[ *\d+%\]|(Collecting|Downloading|Building|Installing|Preparing|Successfully) ")


class CommandFailed(SetupError):
    """A command failed. The message contains the end of its output and the path of the log."""


def explain(output: str) -> str:
    """Return the cause of a failure and what to do, from the output of the command. Return an empty text if unknown."""
    return next((advice for pattern, advice in _CAUSES if re.search(pattern, output)), "")


def tail(output: str, lines: int) -> list[str]:
    """Return the last lines of the output, without blank ones."""
    return [line for line in output.splitlines() if line.strip()][-lines:]


def telling_lines(output: str) -> list[str]:
    """Return the first error in the output of a failed command with the lines after it, and the end of the output.

    The first error of a compiler is the cause. The messages of pip and CMake after it only repeat that there was one.
    """
    lines = tail(output, len(output))
    end = max(0, len(lines) - SHOWN_ON_FAILURE)
    first = next((number for number, line in enumerate(lines[:end]) if _ERROR.search(line)), None)
    if first is None:
        return lines[end:]
    return [*lines[first : min(first + SHOWN_AFTER_ERROR, end)], "...", *lines[end:]]


def newest(output: str) -> str:
    """Return the newest line in which pip or CMake reports progress. Without such a line, return the newest line."""
    lines = [line.strip() for line in tail(output, len(output))]
    telling = [line for line in lines if _TELLING.match(line)]
    return next(reversed(telling or lines), "")


@dataclass(kw_only=True, slots=True)
class Steps:
    """Numbered steps with progress lines, and the commands that they run."""

    log: Path
    """File for all output. An existing file is overwritten."""
    total: int
    """Number of steps."""
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    """Stream for progress."""
    _number: int = 0
    _title: str = ""
    _began: float = 0.0

    def __post_init__(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print the number and title of a step, and at the end how long it took."""
        self._number += 1
        self._title = f"[{self._number}/{self.total}] {title}"
        self._began = time.monotonic()
        self.say(self._title)
        yield
        self.say(f"{self._title}: done, {self._elapsed()}")

    def say(self, line: str) -> None:
        """Print a line. On a terminal it replaces the line that is updated in place."""
        self._print(line + "\n")

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float | None = None) -> str:
        """Run a command, write its output to the log, and return the output.

        Args:
            argv: the command.
            env: environment variables of the command; by default the variables of this process.
            timeout: seconds after which the command is ended; by default never.

        Raises:
            CommandFailed: the command cannot be started, its exit status is not 0, or it takes too long.
        """
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(argv)}\n".encode())
            log.flush()
            start = log.tell()
            try:
                # Start a separate session: an interruption or a timeout then also ends the compilers that pip started.
                process = subprocess.Popen(
                    argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as error:
                raise CommandFailed(f"{argv[0]} could not be started ({error.strerror}): check PATH.") from error
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
                raise self._failure(f"did not end within {timeout:.0f} s and was stopped", self._output(start))
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
        return CommandFailed(f"{self._title} {what}. From its output:\n{excerpt}\n{closing}Full output: {self.log}")

    def _output(self, start: int, last: int | None = None) -> str:
        with self.log.open("rb") as log:
            log.seek(start if last is None else max(start, self.log.stat().st_size - last))
            return log.read().decode(errors="replace")

    def _print(self, text: str) -> None:
        # On a terminal, go back to the first column and clear the line.
        self.stream.write(f"\r\033[K{text}" if self.stream.isatty() else text)
        self.stream.flush()

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"
