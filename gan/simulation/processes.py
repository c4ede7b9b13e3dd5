"""Compute results in several processes, and yield them in order.

Each process has a separate pipe. If a process is killed while it sends a result, its pipe ends, so the main process
detects it. `ProcessPoolExecutor` has one pipe for all processes: the main process would wait forever for the rest of
the result.
"""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

__all__ = ["ProcessKilled", "results_in_order"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")

TASKS_IN_PROCESS = 2
"""Largest number of tasks that a process has at a time: the one that it computes, and the next one."""
RESULTS_AHEAD = 4
"""Largest number of results per process that may wait for earlier results. This limits the memory."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ProcessKilled(Exception):
    """A process ended before it had sent all of its results."""


def results_in_order(
    function: Callable[[Argument], Result], arguments: Iterable[Argument], processes: int
) -> Generator[Result, None, None]:
    """Yield `function(argument)` for all arguments in their order, computed in several processes.

    The processes end when the generator ends or is closed, after their current task.

    Args:
        function: function to compute. The function, its arguments and its results must be picklable.
        arguments: arguments of the calls.
        processes: number of processes.

    Raises:
        ProcessKilled: a process was killed.
        Exception: the function raised it.
    """
    tasks = enumerate(arguments)
    results: dict[int, Result] = {}
    with _started(function, processes) as pipes:
        in_progress = dict.fromkeys(pipes, 0)
        sent = 0
        for turn in itertools.count():
            while turn not in results:
                for others, pipe in itertools.product(range(TASKS_IN_PROCESS), pipes):
                    free = in_progress[pipe] <= others and sent < turn + RESULTS_AHEAD * processes
                    if free and (task := next(tasks, None)) is not None:
                        _send(pipe, task)
                        in_progress[pipe] += 1
                        sent += 1
                if not any(in_progress.values()):
                    return
                for pipe in multiprocessing.connection.wait([pipe for pipe in pipes if in_progress[pipe]]):
                    assert isinstance(pipe, Connection)
                    place, result, error = _receive(pipe)
                    if error is not None:
                        raise error
                    results[place] = result
                    in_progress[pipe] -= 1
            yield results.pop(turn)


def _send(pipe: Connection, task: Any) -> None:
    """Send a task. Raise ProcessKilled if the process has ended."""
    try:
        pipe.send(task)
    except OSError as error:
        raise ProcessKilled from error


def _receive(pipe: Connection) -> Any:
    """Receive an answer of `_work`. Raise ProcessKilled if the process has ended."""
    try:
        return pipe.recv()
    except (EOFError, OSError) as error:
        raise ProcessKilled from error


@contextmanager
def _started(function: Callable[[Any], Any], processes: int) -> Iterator[Sequence[Connection]]:
    """Start processes that compute `function`, and yield a pipe to each of them. At the end, wait for the processes."""
    context = multiprocessing.get_context("spawn")
    # Start multiprocessing's resource tracker now. Otherwise the first process would start it, and this unblocks
    # SIGINT.
    resource_tracker.ensure_running()
    # All pipes are closed before the first join, because a process ends when its pipe is closed.
    with ExitStack() as joins, ExitStack() as pipes:
        started = []
        with _one_thread_per_process(), _interrupts_wait():
            for _ in range(processes):
                pipe, far_end = context.Pipe()
                started.append(pipes.enter_context(pipe))
                process = context.Process(target=_work, args=(function, far_end), daemon=True)
                with far_end:
                    process.start()
                joins.callback(process.join)
        yield started


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Compute the tasks from a pipe until the main process closes it or is killed."""
    # Ctrl-C reaches all processes of the terminal. The main process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        while True:
            place, argument = pipe.recv()
            result, failure = None, None
            try:
                result = function(argument)
            except Exception as error:
                error.add_note(f"Raised in another process:\n{traceback.format_exc()}")
                failure = error
            pipe.send((place, result, failure))
    except (EOFError, OSError):
        return


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Block SIGINT (Ctrl-C) inside the `with` block.

    Processes that start there inherit this, so Ctrl-C does not stop their imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread_per_process() -> Iterator[None]:
    """Give each process that starts in the `with` block one thread in NumPy's libraries.

    The libraries read these variables when they are loaded.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
