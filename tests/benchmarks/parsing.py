"""Measure the speed and the memory of reading logs: `python -m tests.benchmarks.parsing`.

For every format, a file of the given size is generated in a temporary folder, with as many other lines as in a real
log, and read in a separate process. The figures are MB/s, and the memory in addition to reading a file of a hundredth
of this size. One of our own records, with 10,000 lines, is measured, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from scaling.parsers import Hints, read_runs
from scaling.records import End, Epoch, Header, to_line
from tests.support.sample_runs import end, epoch, header

__all__ = ["FILES", "generate", "main"]

RANKS = 64


def gan3d() -> Iterator[str]:
    """Yield a 3DGAN log with messages of all ranks."""
    yield f"Global batch size is: {8 * RANKS} / batch size is: 8\nTotal Training batches = 351.5 with 180000 events\n"
    for number in count():
        yield "".join(f"[1,{rank}]<stdout>:Epoch {number % 1000 + 1} of 1000\n" for rank in range(RANKS))
        for step in range(1, 351, 50):
            yield "".join(
                f"[1,{rank}]<stdout>:processed {step}/351 batches in {2.9 + rank / 1000:.16f}\n"
                for rank in range(RANKS)
            )
        yield f"[1,0]<stdout>:The {number % 1000} epoch took {121.7 + number % 7} seconds\n"


def progress_bars() -> Iterator[str]:
    """Yield a 3DGAN log with colours and progress bars that return to the start of their line."""
    yield "Global batch size is: 512 / batch size is: 8\n"
    for number in count():
        yield f"Epoch {number % 1000 + 1} of 1000\n"
        yield "".join(
            f"\r\x1b[32m{step:4}/351\x1b[0m [{'=' * (step // 20):<17}] - ETA: {351 - step}s - loss: 12.5\x1b[K"
            for step in range(351)
        )
        yield f"\nThe {number % 1000} epoch took {121.7 + number % 7} seconds\n"


def mllog() -> Iterator[str]:
    """Yield an MLPerf log with 300 statistics per epoch."""

    def line(key: str, milliseconds: int, value: object, **metadata: object) -> str:
        fields = {"namespace": "", "time_ms": milliseconds, "event_type": "POINT_IN_TIME", "key": key, "value": value}
        return f":::MLLOG {json.dumps({**fields, 'metadata': {'file': 'train.py', 'lineno': 7, **metadata}})}\n"

    yield line("number_of_ranks", 0, RANKS)
    for number in count():
        began = 1_650_000_000_000 + number * 200_000
        yield line("epoch_start", began, None, epoch_num=number)
        yield "".join(line("tracked_stats", began + i, {"throughput": 5154.25 + i}, step=i) for i in range(300))
        yield line("epoch_stop", began + 120_000, None, epoch_num=number)


def timeline() -> Iterator[str]:
    """Yield a Horovod timeline of fused allreduces of 60 tensors, negotiated once, then cached."""
    yield '[\n{"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros":1}},\n'
    phases = ("MEMCPY_IN_FUSION_BUFFER", "MPI_ALLREDUCE", "MEMCPY_OUT_FUSION_BUFFER")
    tensors = range(1, 61)
    for step in count():
        now = step * 100_000
        ready = range(RANKS) if not step else ()
        begin = '{"ph": "B", "name": "%s", "ts": %d, "pid": %d},'
        yield "".join(begin % ("NEGOTIATE_ALLREDUCE", now + pid, pid) for pid in tensors)
        yield "".join(
            f'{{"ph": "X", "name": "{rank}", "ts": {now + 90}, "pid": {pid}, "dur": 0}},'
            for rank in ready
            for pid in tensors
        )
        yield "".join(f'{{"ph": "E", "ts": {now + 1000 + pid}, "pid": {pid}}},' for pid in tensors)
        yield "".join(begin % ("ALLREDUCE", now + 2000 + pid, pid) for pid in tensors)
        for place, phase in enumerate(phases, start=3):
            yield "".join(begin % (phase, now + 1000 * place + pid, pid) for pid in tensors)
            yield "".join(f'{{"ph": "E", "ts": {now + 1000 * place + 500 + pid}, "pid": {pid}}},' for pid in tensors)
        args = '"args": {"dtype": "float32", "shape": "[3, 3, 3, 8, 16]"}'
        yield "".join(f'{{"ph": "E", "ts": {now + 9000 + pid}, "pid": {pid}, {args}}},' for pid in tensors)


def noise() -> Iterator[str]:
    """Yield a log in which nearly all lines are from other programs."""
    yield "Global batch size is: 512 / batch size is: 8\nThe 0 epoch took 121.7 seconds\n"
    for number in count():
        yield f"2018-06-24 11:02:{number % 60:02}.123: W core/allocator.cc:108] Allocation of {number} bytes\n"


def table() -> Iterator[str]:
    """Yield a table with 600 columns, as experiment trackers export it."""
    yield "gpus,epoch,seconds," + ",".join(f"metric {i}" for i in range(600)) + "\n"
    for number in count():
        yield f"{2 ** (number % 8)},{number},{100 + number % 13}.5," + ",".join(["0.12345678"] * 600) + "\n"


FILES: dict[str, Callable[[], Iterator[str]]] = {
    "3dgan": gan3d,
    "3dgan with progress bars": progress_bars,
    "3dgan amid noise": noise,
    "mllog": mllog,
    "timeline": timeline,
    "table": table,
}


def generate(pieces: Iterator[str], size: int) -> Iterator[bytes]:
    """Yield about `size` bytes: the first 16 MB of `pieces`, repeated without the first piece."""
    written, stretch = 0, []
    for piece in pieces:
        stretch.append(piece.encode())
        written += len(stretch[-1])
        yield stretch[-1]
        if written >= min(size, 1 << 24):
            break
    again = b"".join(stretch[1:])
    while written < size:
        yield again
        written += len(again)


def measure(path: Path) -> dict[str, float]:
    """Read `path` in its own process and return CPU seconds, largest resident memory (MB) and number of epochs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.parsing", "--read", str(path)],
        cwd=Path(__file__).resolve().parents[2], check=True, capture_output=True, text=True,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _read(path: Path) -> None:
    began = time.process_time()
    runs = read_runs([path], Hints(workers=RANKS))
    seconds = time.process_time() - began
    # getrusage would include the memory of the parent process.
    status = Path("/proc/self/status").read_text().split()
    memory = int(status[status.index("VmHWM:") + 1]) / 1024
    print(json.dumps({"seconds": seconds, "memory": memory, "epochs": sum(len(run.epochs) for run in runs)}))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.parsing", description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=200, help="size of each file in MB (default: 200)")
    parser.add_argument("--only", choices=sorted(FILES), help="kind of file to measure (default: all)")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.read:
        _read(options.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, pieces in FILES.items():
            if options.only not in (None, name):
                continue
            path, small = Path(folder, "log"), Path(folder, "small")
            for target, size in ((path, options.mb * 10**6), (small, options.mb * 10**4)):
                with target.open("wb") as file:
                    file.writelines(generate(pieces(), size))
            figures, less = measure(path), measure(small)
            megabytes = path.stat().st_size / 1e6
            print(
                f"{name:25} {megabytes:6.0f} MB  {megabytes / figures['seconds']:5.0f} MB/s  "
                f"{figures['memory']:4.0f} MB resident, {figures['memory'] - less['memory']:+4.0f} MB from the size  "
                f"{figures['epochs']:.0f} epochs"
            )
        if options.only is None:
            record = Path(folder, "run.jsonl")
            lines: list[Header | Epoch | End] = [
                header(RANKS),
                *(epoch(number) for number in range(1, 9999)),
                end(9998),
            ]
            record.write_text("".join(f"{to_line(line)}\n" for line in lines))
            print(f"{'10,000 records':25} {measure(record)['seconds']:.2f} s")


if __name__ == "__main__":
    main()
