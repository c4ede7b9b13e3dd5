"""Tell the other ranks where this rank waits, in a small file, and find the ranks for which all others wait.

While the ranks wait inside an exchange, MPI carries no other message. So a rank that waits for long writes its place
into a folder that all ranks see. A rank without such a file has been suspended or has died. Of the others, those that
are behind keep the rest waiting.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from gan.parallel import Communicator
from scaling.records.saving import save_text
from scaling.records.wording import count

__all__ = ["Phase", "Place", "RollCall"]

SHOWN = 4
"""Largest number of ranks that a message names."""


class Phase(IntEnum):
    """What a rank does at a step of the training, in this order."""

    READING = 0
    COMPUTING = 1
    VALIDATION = 2
    CHECKPOINT = 3
    END_OF_EPOCH = 4


_TEXTS = {
    Phase.READING: "reads the events of",
    Phase.COMPUTING: "computes or exchanges in",
    Phase.VALIDATION: "validates after",
    Phase.CHECKPOINT: "writes the checkpoint after",
    Phase.END_OF_EPOCH: "waits for the checkpoint after",
}


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """Position of a rank in the training. A smaller place is earlier."""

    epoch: int
    """Number of the epoch, from 1."""
    step: int
    """Number of the step in the epoch, from 1."""
    phase: Phase

    @property
    def moment(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"

    def __str__(self) -> str:
        return f"{_TEXTS[self.phase]} {self.moment}"


class RollCall:
    """The places of the ranks that wait, as files `CALL-rank-0001` in a folder."""

    def __init__(self, folder: Path, call: str, rank: int, hosts: Sequence[str]) -> None:
        """Create the object. It writes nothing.

        Args:
            folder: folder that all ranks see. It appears with the first file.
            call: text that differs from other runs in this folder, equal on all ranks. A run that has lost its folder
                to another one may still write.
            rank: number of this rank.
            hosts: host name of every rank.
        """
        self._folder = folder
        self._call = call
        self._rank = rank
        self._hosts = hosts

    @classmethod
    def begin(cls, folder: Path, communicator: Communicator, host: str) -> RollCall:
        """Create the object of every rank, and remove the files of an earlier run. All ranks call this together."""
        if communicator.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
        call = communicator.broadcast(secrets.token_hex(8))
        return cls(folder, call, communicator.rank, communicator.allgather(host))

    def answer(self, place: Place) -> None:
        """Write the place of this rank.

        Raises:
            OSError: the file cannot be written.
        """
        self._folder.mkdir(exist_ok=True)
        values = {"epoch": place.epoch, "step": place.step, "phase": place.phase.name}
        save_text(self._file(self._rank), json.dumps(values))

    def withdraw(self) -> None:
        """Remove the file of this rank, because it does not wait any more. The last rank removes the folder."""
        with suppress(OSError):
            self._file(self._rank).unlink(missing_ok=True)
            self._folder.rmdir()

    def speaks(self) -> bool:
        """Return True if this rank reports for all: no rank before it has a file."""
        return not any(self._place(rank) for rank in range(self._rank))

    def late(self) -> str:
        """Return the ranks for which the others wait, in words: "rank 1 on node7 gives no sign of life"."""
        places = {rank: self._place(rank) for rank in range(len(self._hosts))}
        absent = [rank for rank, place in places.items() if place is None]
        if absent:
            return f"{self._names(absent)} {'gives' if len(absent) == 1 else 'give'} no sign of life"
        present = {rank: place for rank, place in places.items() if place is not None}
        first = min(present.values())
        behind = [rank for rank, place in present.items() if place == first]
        if len(behind) < len(present) or len(present) == 1:
            return f"{self._names(behind)} still {first}"
        return f"all {count(len(present), 'rank')} are in {first.moment}: the exchange does not end, or a rank computes"

    def _names(self, ranks: Sequence[int]) -> str:
        names = [f"rank {rank} on {self._hosts[rank]}" for rank in ranks[:SHOWN]]
        more = [f"{len(ranks) - SHOWN} more"] if len(ranks) > SHOWN else []
        *most, last = names + more
        return f"{', '.join(most)} and {last}" if most else last

    def _file(self, rank: int) -> Path:
        return self._folder / f"{self._call}-rank-{rank:04d}"

    def _place(self, rank: int) -> Place | None:
        try:
            values = json.loads(self._file(rank).read_text())
            return Place(int(values["epoch"]), int(values["step"]), Phase[values["phase"]])
        except (OSError, ValueError, KeyError, TypeError):
            # A missing or damaged file says nothing about this rank.
            return None
