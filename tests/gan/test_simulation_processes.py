"""Results of several processes come in the order of the arguments, with their errors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from gan.simulation.processes import RESULTS_AHEAD, ProcessKilled, results_in_order


def slow_square(number: int) -> tuple[int, int]:
    """Return the square and the process id. Every third call is slow, so results are ready in another order."""
    time.sleep(0.2 if number % 3 == 0 else 0)
    return number**2, os.getpid()


def root(number: int) -> float:
    if number < 0:
        raise ValueError(f"{number} has no root")
    return float(number**0.5)


def killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order_from_all_processes() -> None:
    results = list(results_in_order(slow_square, range(20), processes=3))
    assert [square for square, _ in results] == [number**2 for number in range(20)]
    pids = {pid for _, pid in results}
    assert os.getpid() not in pids
    assert len(pids) == 3


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_arguments_than_processes(count: int) -> None:
    assert list(results_in_order(root, range(count), processes=2)) == [0.0] * count


def test_few_results_are_computed_before_their_turn() -> None:
    taken: list[int] = []

    def arguments() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with closing(results_in_order(root, arguments(), processes=2)) as results:
        next(results)
        assert len(taken) <= 2 * RESULTS_AHEAD


def test_an_error_of_the_function_is_raised_with_its_traceback() -> None:
    results = results_in_order(root, [4, -1, 9], processes=2)
    with pytest.raises(ValueError, match="-1 has no root") as caught:
        list(results)
    assert "in root" in "".join(caught.value.__notes__)


def test_a_killed_process_is_an_error() -> None:
    results = results_in_order(killed, range(10), processes=2)
    with pytest.raises(ProcessKilled):
        list(results)
